"""New rows for a factorization that is there already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lplr.coding.factor import damped, weighted_gram
from lplr.coding.new_rows import coded_rows, pattern_of, usual_squares
from lplr.exceptions import InputError, LplrWarning
from lplr.linalg.hessian import check_hessian
from lplr.linalg.least_squares import gram
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul, reproducible
from lplr.planning.row_blocks import mix_rows
from lplr.progress import Progress, tracked, until
from lplr.provenance import versions
from lplr.streaming.row_coder import coded_in_tiles
from lplr.validation.arguments import warn_caller
from lplr.validation.matrices import check_matrix

__all__ = ["encode", "encoded"]

_LARGEST = 1e6  # times the largest entry of R: what float32 holds with ease
_LONG = 4.0  # times the usual length of a row


@reproducible()
def encode(
    f: LowRank | QPlusLowRank | RowParts,
    rows: Any,
    *,
    hessian: Any = None,
    progress: Progress = False,
) -> LowRank | QPlusLowRank:
    """Code new rows on the R of a compressed matrix, with its codebooks and scales.

    The result is of the new rows alone and shares R, whose bytes it needs no second time. It can be
    searched, decoded and saved like ``f``, which stays as it is.

    Parameters
    ----------
    f : LowRank, QPlusLowRank or RowParts of such
        What `lplr.factorize`, `lplr.compress` or `lplr.caldera` returned.
    rows : array_like of shape (p, d)
        As large as the rows that ``f`` was made from, whose scales they get.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        As in `lplr.compress`: the one that ``f`` was made under. A file does not hold it; without
        it, all errors count the same.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    LowRank or QPlusLowRank of shape (p, d)
        ``meta["basis"]`` is the record of ``f``.

    Raises
    ------
    InputError
        If ``f`` has no factors, or a scale for each row, or the rows do not fit.
    HessianError
        If ``hessian`` is not a second moment.

    Warns
    -----
    LplrWarning
        If rows are too long for the codes.

    Notes
    -----
    L comes from least squares on the decoded R and is rounded by feedback under R R^T, as in
    `lplr.factorize`, see `lplr.coding.new_rows`; Q is what L R leave, rounded in the columns of
    ``f``, its rows mixed as `lplr.compress` mixes them. On rows from the distribution of those that
    ``f`` was made from the error is that of ``f``, up to what R was fitted to them: 1 to 2 % for
    some thousand rows.

    Encode many rows at a time: a word of a lattice holds eight of them, and a trellis code needs
    about a hundred to get going. A single row has 1.3 to 1.8 times the error with L R or with Q
    alone, and up to four times with Q + L R at three and four bits per entry (eight at six bits);
    eight rows have half of that excess, and from a hundred on it is gone.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> A = lplr.datasets.synthetic(1000, 60, "power", exponent=1.0, rng=0)
    >>> f = lplr.factorize(A[:900], rank=20, bits=4, rng=0)
    >>> new = lplr.encode(f, A[900:])
    >>> new.shape, new.right is f.right
    ((100, 60), True)
    >>> new.relative_error(A[900:]) < 1.05 * f.relative_error(A[:900])
    True
    >>> lplr.search(new, A[900:903], k=1).indices[:, 0]
    array([0, 1, 2])
    """
    like: Any = f.part(0) if isinstance(f, RowParts) else f  # all parts have the same R
    return encoded(like, rows, hessian, progress)


def encoded(
    f: LowRank | QPlusLowRank,
    rows: Any,
    hessian: Any = None,
    progress: Progress = False,
    *,
    in_tiles: bool = False,
) -> LowRank | QPlusLowRank:
    """What `encode` returns; of many rows L is coded in a fraction of the time ``in_tiles``."""
    if not isinstance(f, (LowRank, QPlusLowRank)):
        raise InputError(
            f"f: must have factors, whose R new rows can share, found a {type(f).__name__}; "
            "compress the new rows by themselves, or make f with lplr.factorize"
        )
    A = check_matrix(rows, "rows", dtype=np.float64)
    if A.shape[1] != f.shape[1]:
        raise InputError(f"rows: must have the {f.shape[1]} columns of f, found {A.shape[1]}")
    H = None if hessian is None else _moment(hessian, f.shape[1])
    unit = _unit(f)
    A = A / unit
    if np.abs(A).max() > _LARGEST:
        raise InputError(
            f"rows: their largest magnitude is {np.abs(A).max():.1g} times what f is made of; give "
            "them the scale of the rows that f was made from"
        )
    meta = {"basis": dict(f.meta), "versions": versions()}
    h = f.scaled(1 / unit)
    with tracked(progress, "encode"):
        if isinstance(h, LowRank):  # R itself, not a copy that was scaled there and back
            return replace(f, left=_coded_product(h, A, H, in_tiles).left, meta=meta)
        return replace(_coded_sum(h, A, H, in_tiles).scaled(unit), meta=meta)


def _moment(hessian: Any, d: int) -> np.ndarray:
    """H with a mean diagonal of 1, (d, d)."""
    H = check_hessian(hessian, d)
    H = np.diag(H) if H.ndim == 1 else H
    return H / np.mean(np.diag(H))


def _unit(f: LowRank | QPlusLowRank) -> float:
    """A power of two near the size of what the rows of f are made of."""
    sizes = [0.0]
    low_rank = f if isinstance(f, LowRank) else f.low_rank
    if low_rank is not None:
        sizes.append(float(np.abs(low_rank.right.to_dense()).max()))
    if isinstance(f, QPlusLowRank):
        blocks = pattern_of(f.backbone)
        sizes += [float(np.abs(block.scale).max()) for block in blocks if block.bits > 0]
    return float(2.0 ** np.frexp(max(sizes))[1]) if max(sizes) > 0 else 1.0


def _problem(f: LowRank, A: np.ndarray, H: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """``R H R^T`` and ``R H A^T``, by which `coded_rows` finds the L of rows A."""
    R = f.right.to_dense().astype(np.float64)
    target = (A - f.shift).T
    if H is None:
        G, B = gram(R), matmul(R, target)
    else:
        T, G = weighted_gram(R, H)
        B = matmul(T.T, target)
    return G if G.any() else np.eye(len(G)), B  # with an R of zeros, all L are alike


def _coded_left(
    f: LowRank, A: np.ndarray, H: np.ndarray | None, in_tiles: bool
) -> Quantized | Stacked:
    """The L of rows A."""
    blocks, R = pattern_of(f.left), f.right.to_dense()
    # Offsets are those of constant matrices and of min-max ranges.
    if in_tiles and R.any() and not f.shift and all(block.offset is None for block in blocks):
        return coded_in_tiles(A.astype(np.float32), R, blocks, H)
    G, B = _problem(f, A, H)
    return coded_rows(B, G, blocks)


def _coded_product(f: LowRank, A: np.ndarray, H: np.ndarray | None, in_tiles: bool) -> LowRank:
    """The L R of rows A."""
    blocks = pattern_of(f.left)
    coded = _coded_left(f, A, H, in_tiles)
    G, B = _problem(f, A, H)
    X = np.linalg.solve(damped(G), B)
    length, lost = (np.einsum("ij,ij->j", Y, G @ Y) for Y in (X, X - coded.to_dense().T))
    _warn_of_overload(length, lost, float(np.diag(G) @ usual_squares(blocks)))
    return replace(f, left=coded)


def _coded_sum(
    f: QPlusLowRank, A: np.ndarray, H: np.ndarray | None, in_tiles: bool
) -> QPlusLowRank:
    """The Q + L R of rows A: first L, then Q from what L R leave."""
    blocks = pattern_of(f.backbone)
    left, W = None, A if f.right is None else f.right.apply(A, axis=1)
    if f.left is not None:
        left, W = mix_rows(W, RandomizedTransform(len(A), f.left.seed))
    if H is not None and f.right is not None:
        H = f.right.two_sided(H)
    low_rank, rest, usual = f.low_rank, W, usual_squares(blocks).sum()
    if low_rank is not None:
        parts = pattern_of(low_rank.left)
        with until(0.5, "L"):
            low_rank = replace(low_rank, left=_coded_left(low_rank, W, H, in_tiles))
        rest = W - low_rank.to_dense()
        usual += np.square(low_rank.right.to_dense()).sum(axis=1) @ usual_squares(parts)
    with until(0.95, "Q"):
        backbone = coded_rows(rest.T if H is None else matmul(H, rest.T), H, blocks)
    g = QPlusLowRank(backbone, low_rank, left, f.right)
    length, lost = (np.einsum("ij,ij->i", Y, Y) for Y in (A, A - g.to_dense()))
    _warn_of_overload(length, lost, usual)
    return g


def _warn_of_overload(length: np.ndarray, lost: np.ndarray, usual: float) -> None:
    """Say which rows are beyond the reach of the codes: long ones, of which half is lost."""
    beyond = (length > _LONG**2 * usual) & (lost > length / 2)
    if beyond.any():
        warn_caller(
            f"rows: {beyond.sum()} of {len(beyond)}, row {beyond.argmax()} the first, are so much "
            "longer than those f was made from that their codes lose more than half of them; "
            "scale them, or compress them by themselves",
            LplrWarning,
        )
