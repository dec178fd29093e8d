"""Rows that are added to a folder of parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lplr.algorithms.encode import encoded
from lplr.algorithms.fit import Fit
from lplr.exceptions import InputError
from lplr.linalg.hessian import check_hessian
from lplr.matrices.base import PackedMatrix
from lplr.matrices.errors import squared_sums
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.matrices.stacked import Stacked
from lplr.parallel import reproducible
from lplr.progress import Progress, parts, tracked
from lplr.provenance import versions
from lplr.sources import Source, open_source
from lplr.storage.container import load
from lplr.storage.folder import is_folder
from lplr.storage.folder_writer import add_parts
from lplr.validation.matrices import check_block

__all__ = ["append"]

_ENTRIES = 1 << 22  # of a part: `encode` takes some 60 bytes for each
_MIXED = 1024  # rows that a backbone mixes, see `lplr.planning.row_blocks`


@reproducible()
def append(
    folder: str | os.PathLike[str], rows: Any, *, hessian: Any = None, progress: Progress = False
) -> RowParts:
    """Add rows below a compressed matrix that lies in a folder of parts.

    They are coded on the R that is there, with the codebooks and scales that are there, as `encode`
    does, and become parts of their own. What is there is neither read as a whole nor changed.

    Parameters
    ----------
    folder : str or path-like
        A folder that ``out=`` of `lplr.factorize`, `lplr.compress` or `lplr.quantize` made, or
        `lplr.save` with ``parts=True``.
    rows : array_like of shape (p, d) or source
        What `lplr.sources.open_source` opens is read once, a block of rows at a time.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        As in `encode`: the one that the matrix was made under.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    RowParts of shape (n + p, d)
        The whole matrix, whose parts are opened when they are needed.

    Raises
    ------
    InputError
        If ``folder`` is none, or the rows do not fit.
    CorruptFileError
        If the folder is damaged.
    StorageError
        If it cannot be written to.

    Warns
    -----
    LplrWarning
        If rows are too long for the codes.

    Notes
    -----
    All rows are added or none: a manifest that names the new parts replaces the old one when they
    are complete, so that a kill at any moment leaves the old matrix or the new one. Processes that
    append to one folder at the same time wait for each other.

    Each new part records its relative error; `lplr info` compares it with that of the old rows. The
    memory that this takes, some 300 MB, or 70 KB a column of wide rows, does not grow with the
    number of rows, old or new. Append some hundred rows at a time, see `encode`.

    Examples
    --------
    >>> import os, tempfile
    >>> import lplr
    >>> A = lplr.datasets.synthetic(1200, 60, "power", exponent=1.0, rng=0)
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = os.path.join(place, "A")
    ...     lplr.save(folder, lplr.factorize(A[:900], rank=20, bits=4, rng=0), parts=True)
    ...     f = lplr.append(folder, A[900:])
    ...     f.shape, f.relative_error(A) < 0.2
    ((1200, 60), True)
    """
    if not is_folder(folder):
        raise InputError(
            f"folder: {folder!r} is no folder of parts; make one with out=FOLDER of lplr.factorize "
            "or lplr.compress, or with lplr.save(FOLDER, f, parts=True)"
        )
    source = open_source(rows, "rows")
    with tracked(progress, "append"):
        like = load(folder).part(0)
        if source.shape[1] != like.shape[1]:
            raise InputError(
                f"rows: must have the {like.shape[1]} columns of the matrix, found "
                f"{source.shape[1]}"
            )
        H = None if hessian is None else check_hessian(hessian, like.shape[1])
        return add_parts(folder, _coded(like, source, H)).load()


def _coded(like: PackedMatrix, source: Source, H: np.ndarray | None) -> Iterator[PackedMatrix]:
    """The new parts, one by one."""
    n, d = source.shape
    alone = isinstance(like, (Quantized, Stacked))
    whole: Any = QPlusLowRank(like, None) if alone else like
    step = max(1, _ENTRIES // d // _MIXED) * _MIXED
    starts = range(0, max(1, n - step // 8), step)  # no part is a small rest of another
    for start in parts(starts, what="new parts"):
        stop = n if start == starts[-1] else start + step
        A = source.rows(start, stop)
        check_block(A, source.name, start)
        f: Any = encoded(whole, A, H, in_tiles=True)
        read = f._row_reader()
        squares = squared_sums(lambda i, j: A[i:j], read, len(A), f._block_rows, H, by_row=True)  # noqa: B023
        meta = {"appended": {**Fit.of(*squares)._asdict(), "hessian": H is not None}}
        yield replace(f.backbone if alone else f, meta={**meta, "versions": versions()})
