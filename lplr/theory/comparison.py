"""The result of `lplr.theory.compare_bounds`: arrays, a table, a file, a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.theory.records import QUANTILES

__all__ = ["Comparison"]


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Bounds against simulation along a parameter; p values of x.

    Errors and bounds are squared Frobenius norms, in squared units of A; divided by ``energy`` they
    are relative. Its repr is a table.

    Parameters
    ----------
    parameter : {"bits", "rank", "oversampling"}
    values : ndarray of shape (p,), int
    settings : tuple of dict
        All parameters at each value: rank, oversampling, m and bits.
    shape : (int, int)
    method : {"lplr", "lplr-svd", "direct-svd"}
    energy : float
        ``|A|_F^2``.
    mean, standard_error : ndarray of shape (p,)
        Of the measured ``|L R - A|_F^2``.
    quantiles : ndarray of shape (p, 5)
        Of the measured values: 5, 25, 50, 75 and 95 %.
    best : ndarray of shape (p,)
        ``|A - A_m|_F^2``, below which no matrix of rank m gets.
    bounds : dict of str to ndarray of shape (p,)
    p_values : dict of str to ndarray of shape (p,)
        Of one-sided tests of the mean against each bound.
    verdicts : dict of str to tuple of str
        As in `lplr.theory.records.Cell`, at a level of 1e-6 for the whole comparison.
    saturated : ndarray of shape (p,), int
        Trials in which an entry left the range of its quantizer: then no bound says anything.
    trials : int
    seed : int or None

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory import compare_bounds
    >>> found = compare_bounds(1 / np.arange(1.0, 21), values=[2, 4], trials=20, rng=0)
    >>> found.parameter, found.mean.shape, list(found.bounds)
    ('bits', (2,), ['lplr_bound', 'lplr_sharp_bound', 'lplr_nested_bound'])
    """

    parameter: str
    values: np.ndarray
    settings: tuple[dict[str, int], ...]
    shape: tuple[int, int]
    method: str
    energy: float
    mean: np.ndarray
    standard_error: np.ndarray
    quantiles: np.ndarray
    best: np.ndarray
    bounds: dict[str, np.ndarray]
    p_values: dict[str, np.ndarray]
    verdicts: dict[str, tuple[str, ...]]
    saturated: np.ndarray
    trials: int
    seed: int | None

    def rows(self) -> list[dict[str, Any]]:
        """One dict for each value of the parameter, of numbers and texts only.

        A bound with the name of another column, such as "mean", is in "mean_bound".

        Returns
        -------
        list of dict

        Examples
        --------
        >>> import numpy as np
        >>> from lplr.theory import compare_bounds
        >>> found = compare_bounds(np.eye(4), values=[3], bounds="lplr_bound", trials=9, rng=0)
        >>> list(found.rows()[0])[:6]
        ['rank', 'oversampling', 'm', 'bits', 'trials', 'mean']
        """
        rows = []
        for i, setting in enumerate(self.settings):
            row: dict[str, Any] = {**setting, "trials": self.trials, "mean": float(self.mean[i])}
            row["standard_error"] = float(self.standard_error[i])
            row |= {
                f"quantile_{100 * q:g}": float(value)
                for q, value in zip(QUANTILES, self.quantiles[i], strict=True)
            }
            row |= {"best_of_rank_m": float(self.best[i]), "saturated": int(self.saturated[i])}
            for name, bound in self.bounds.items():
                column = f"{name}_bound" if name in row else name
                row |= {
                    column: float(bound[i]),
                    f"{column}_p_value": float(self.p_values[name][i]),
                    f"{column}_verdict": self.verdicts[name][i],
                }
            rows.append(row)
        return rows

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write `rows` to a ``.csv`` or ``.jsonl`` file, and how they were made beside it.

        Parameters
        ----------
        path : str or path-like
        overwrite : bool

        Raises
        ------
        InputError, ExistingFileError, StorageError
            As `lplr.storage.table.write_table`.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from lplr.theory import compare_bounds
        >>> found = compare_bounds(np.eye(4), values=[3], trials=9, rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.save(os.path.join(folder, "mine.csv"))
        ...     sorted(os.listdir(folder))
        ['mine.csv', 'mine.meta.json']
        """
        from lplr.storage.table import write_table

        attrs = {
            "parameter": self.parameter,
            "method": self.method,
            "shape": list(self.shape),
            "squared_norm": self.energy,
            "seed": self.seed,
        }
        write_table(path, self.rows(), attrs=attrs, overwrite=overwrite)

    def plot(
        self, path: str | os.PathLike[str], *, width: float = 3.3, overwrite: bool = True
    ) -> None:
        """Draw the comparison for a paper.

        Measured mean with the bands from 5 to 95 % and from 25 to 75 % of the trials, the bounds,
        and the error of the best matrix of rank m, all relative to ``|A|_F^2``.

        Parameters
        ----------
        path : str or path-like
            It ends in .pdf (fonts embedded), .svg (text as outlines) or .png.
        width : float
            Inches; by default a column of a page of two. The letters have 8 points at any width.
        overwrite : bool

        Raises
        ------
        InputError
            If the name has another ending, or the width is not from 2 to 20.
        StorageError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from lplr.theory import compare_bounds
        >>> found = compare_bounds(np.eye(4), values=[3, 4], trials=9, rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.plot(os.path.join(folder, "mine.pdf"))
        ...     os.listdir(folder)
        ['mine.pdf']
        """
        from lplr.theory.figure import draw_comparison

        draw_comparison(path, self, width, overwrite)

    def __repr__(self) -> str:
        n, d = self.shape
        head = ["measured", "± s.e.", "5 to 95 %", *self.bounds]
        lines = [[self.parameter, *head]]
        for i, value in enumerate(self.values):
            low, high = self.quantiles[i, [0, -1]] / self.energy
            line = [str(value), f"{self.mean[i] / self.energy:.4g}"]
            line += [f"{self.standard_error[i] / self.energy:.1g}", f"{low:.3g} to {high:.3g}"]
            line += [self._bound(name, i) for name in self.bounds]
            lines.append(line)
        sketched = self.method == "lplr"
        fixed = ", ".join(
            f"{key} {self.settings[0][key]}"
            for key in ("rank", "oversampling", "bits")
            if key != self.parameter and (sketched or key != "oversampling")
        )
        return (
            f"|L R - A|^2 / |A|^2 of {self.method}, A {n} x {d}, {fixed}, {self.trials} trials\n"
            f"{_table(lines)}\n"
            "in brackets: measured / bound; a bound without a remark is above the measured mean"
        )

    def _bound(self, name: str, i: int) -> str:
        """A bound, measured over it, and what is to be said about it."""
        bound, verdict = self.bounds[name][i], self.verdicts[name][i]
        ratio = f"{self.mean[i] / bound:.2f}" if bound > 0 else "-"
        text = f"{bound / self.energy:.4g} ({ratio})"
        if verdict == "not refuted":
            return f"{text} not refuted, p = {self.p_values[name][i]:.2g}"
        if verdict == "assumption not met":
            return f"{text} saturated in {self.saturated[i]} of {self.trials}"
        return text if verdict == "holds" else f"{text} REFUTED"


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Columns flush left, two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
