"""Whether new rows of a matrix fit the basis of the old ones as well as these do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Fit", "fit_of_new_rows", "fit_of_part"]

# R is fitted to the old rows, which is worth 1 to 2 % to them, see `lplr.encode`; and 5 % more
# error is what 0.07 bits less for each entry would do.
_WORSE, _SIGMAS = 1.05, 3
_LARGEST = 1e100  # its square is finite
_ROUNDING = 1e-6  # of the squared norm, by which squares of recorded errors may be off
_FEW = 128  # rows, below which a code may not have got going, see `lplr.encode`


class Fit(NamedTuple):
    """How well some rows are coded: their number, norm and relative error, and its own error."""

    rows: int
    norm: float
    relative_error: float
    standard_error: float

    @classmethod
    def of(cls, error: np.ndarray, norm: np.ndarray) -> Fit:
        """From the squared errors and norms of rows."""
        total = float(norm.sum())
        if not total:
            return cls(len(norm), 0.0, 0.0, 0.0)
        ratio = float(error.sum()) / total
        # Of a ratio of sums over rows that are drawn by chance, and then of its root.
        spread = float(np.sqrt(np.square(error - ratio * norm).sum())) / total
        root = float(np.sqrt(ratio))
        return cls(len(norm), float(np.sqrt(total)), root, spread / (2 * root) if root else 0.0)

    @classmethod
    def together(cls, fits: Sequence[Fit]) -> Fit:
        """That of all their rows."""
        norms = np.square([fit.norm for fit in fits])
        total = norms.sum() or 1.0
        errors = np.array([fit.relative_error for fit in fits])
        root = float(np.sqrt(norms @ errors**2 / total))
        spread = 2 * errors * [fit.standard_error for fit in fits] * norms / total
        standard = float(np.linalg.norm(spread)) / (2 * root) if root else 0.0
        rows = sum(fit.rows for fit in fits)
        return cls(rows, float(np.sqrt(norms.sum())), root, standard)

    def is_above(self, error: float) -> bool:
        """Whether the rows are coded worse than those that have this relative error."""
        least = self.relative_error - _SIGMAS * self.standard_error
        most = np.sqrt((_WORSE * error) ** 2 + _ROUNDING)
        return self.rows >= _FEW and bool(least > most)


def fit_of_part(meta: Mapping[str, Any]) -> Fit | None:
    """What was recorded of a part when it was appended; None if nothing was."""
    record = _mapping(meta.get("appended"))
    values = [_number(record.get(name)) for name in Fit._fields]
    return None if None in values else Fit(*values)  # type: ignore[arg-type]


def fit_of_new_rows(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whether rows that were appended to a matrix fit the basis as well as the old ones.

    Parameters
    ----------
    about : mapping
        What `lplr.inspect` returns of a folder of parts.

    Returns
    -------
    dict or None
        ``rows``, ``parts``, ``relative_error`` and ``standard_error`` of all new rows;
        ``relative_error_of_old_rows``, None where it was not recorded under the same weights; and
        ``worse``: the relative errors of new parts, by file, that are above 1.05 times the old one
        and what rounding leaves of it, 0.001, by three standard errors. A part of less than 128
        rows is not judged: it may lose more because it is small. None if nothing was appended.
    """
    meta, parts = about["groups"]["/"]["meta"], about["parts"]
    found = {part["file"]: fit_of_part(part["meta"]) for part in parts}
    fits = {file: fit for file, fit in found.items() if fit is not None}
    if not fits:
        return None
    weighted = {bool(p["meta"]["appended"].get("hessian")) for p in parts if p["file"] in fits}
    old = None
    if len(weighted) == 1:
        old = _old_error(meta, about["attrs"].get("relative_error"), weighted.pop())
    worse = {}
    if old is not None:
        worse = {file: fit.relative_error for file, fit in fits.items() if fit.is_above(old)}
    every = Fit.together(list(fits.values()))
    return {
        "rows": every.rows,
        "parts": len(fits),
        "relative_error": every.relative_error,
        "standard_error": every.standard_error,
        "relative_error_of_old_rows": old,
        "worse": worse,
    }


def _old_error(meta: Mapping[str, Any], measured: Any, weighted: bool) -> float | None:
    """The relative error that was recorded when the matrix was made, under the same weights.

    Without weights it may be the one that ``lplr compress`` has ``measured``.
    """
    arguments = _mapping(_mapping(meta.get("call")).get("arguments"))
    under = [arguments.get(name) is not None for name in ("hessian", "output_hessian")]
    if under == [weighted, False]:
        history = meta.get("history")
        last = history[-1] if isinstance(history, list) and history else meta.get("plan")
        error = _number(last.get("error") if isinstance(last, Mapping) else last)
        if error is not None:
            return error
    return None if weighted else _number(measured)


def _mapping(value: Any) -> Mapping[str, Any]:
    """It, if it is one: a caller may record anything."""
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    """It, if it is a number that a record of ours may have."""
    return value if type(value) in (int, float) and 0 <= value < _LARGEST else None
