"""The backbone Q at a rate for each group of columns, rounded under H one group after the other.

At one rate for all, columns of small pivots are coded too finely and those of large ones too
coarsely. With rates that follow the pivots, the loss falls from their arithmetic to their
geometric mean, and any mean rate can be had; `lplr.planning.column_rates` chooses them.

Under a second moment G of output gradients as well, the loss ``tr(G E H E^T)``, rows are coded in
blocks, each at its own rates (`lplr.planning.row_rates`), one block after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lplr.coding.feedback import matched_scale, quantize_feedback
from lplr.coding.work import code_seconds
from lplr.linalg.copies import copied
from lplr.linalg.ldl import ldl, squared_norm, weighted_squared_norm, weighted_squares
from lplr.linalg.triangular import lower_inverse, scaled_square, solve_transposed
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul, run_blocks
from lplr.progress import parts
from lplr.quantizers.base import Codebook

__all__ = [
    "FEEDBACK_DAMPING",
    "ColumnGroup",
    "FeedbackWeights",
    "RowBlock",
    "code_backbone",
    "code_row_blocks",
    "coded_groups",
    "zero_backbone",
]

_ROWS = 256  # that one thread adds at a time
FEEDBACK_DAMPING = 0.02  # added to the diagonal of H, beside its damping, for the feedback alone


@dataclass(frozen=True)
class ColumnGroup:
    """The columns ``start`` to ``stop``, which one codebook codes."""

    start: int
    stop: int
    book: Codebook


@dataclass(frozen=True)
class RowBlock:
    """The rows ``start`` to ``stop``, whose columns are coded in groups."""

    start: int
    stop: int
    groups: tuple[ColumnGroup, ...]

    def seconds(self, sweeps: int) -> float:
        """How long coding takes, see `lplr.coding.work`."""
        rows = self.stop - self.start
        return sum(code_seconds(g.stop - g.start, rows, g.book, sweeps) for g in self.groups)


class FeedbackWeights:
    """The LDL factors of H in the order of the columns, by which errors are fed back.

    ``L diag(D) L^T`` is H plus `FEEDBACK_DAMPING` on its diagonal. H is (d, d) and positive
    definite, with a mean diagonal of about 1; D has its dtype, L is float32. None stands for the
    identity, and then L is None as well. Small pivots of a Hessian from few inputs are too small:
    what looks predictable from the other columns is less so on new inputs. So H is damped once more
    for the feedback.

    The order is that of the columns, so that groups are neighbours and nothing about it has to be
    stored. In coordinates in which H is incoherent the pivots fall steadily from the first column,
    which is coded last, to the last: the columns that are coded first can still be corrected by all
    others.
    """

    def __init__(self, H: np.ndarray | None, d: int, *, overwrite: bool = False) -> None:
        self.d = d
        self.L: np.ndarray | None = None
        self.D = np.ones(d)
        if H is not None:
            damped = H if overwrite else H.copy()
            damped[np.diag_indices(d)] += FEEDBACK_DAMPING
            self.L, self.D = ldl(damped, overwrite=True, dtype=np.float32)

    @cached_property
    def inverse(self) -> np.ndarray | None:
        """The inverse of L; its blocks on the diagonal are the inverses of those of L."""
        return None if self.L is None else lower_inverse(self.L)

    def losses(self, E: np.ndarray) -> np.ndarray:
        """``e H e^T`` of each row e of a float32 matrix (n, d), without the feedback's damping."""
        squares = np.einsum("ij,ij->i", E, E).astype(np.float64)
        if self.L is None:
            return squares
        return np.maximum(weighted_squares(E, self.L, self.D) - FEEDBACK_DAMPING * squares, 0.0)

    def group_loss(self, E: np.ndarray, i: int) -> float:
        """``tr(E S_gg E^T)``, damped, of errors E (n, j - i) of the columns from i to j."""
        if self.L is None:
            return squared_norm(E)
        group = slice(i, i + E.shape[1])
        return weighted_squared_norm(E, self.L[group, group], self.D[group])

    def loss(self, E: np.ndarray) -> float:
        """``tr(E H E^T)``."""
        return squared_norm(E) if self.L is None else float(self.losses(E).sum())


def code_row_blocks(
    W: np.ndarray,
    rows: FeedbackWeights,
    columns: FeedbackWeights,
    blocks: Sequence[RowBlock],
    *,
    sweeps: int,
) -> tuple[Quantized | Stacked, float | None]:
    """Round W, float32 (n, d), under ``tr(G E H E^T)``, one block of rows after the other.

    The loss is returned as well, where it is known: without G.

    ``rows`` are the weights of G, (n, n), ``columns`` those of H. With ``G = L D L^T``, the blocks
    below B coded with the error E_P and those above free to correct, the best real values of B are
    ``W_B + L_BB^-T L_PB^T E_P``, and errors around them weigh as ``S_BB = L_BB D_B L_BB^T`` says.
    Its mean diagonal is taken for all of it, which leaves the block to H alone, as `code_backbone`
    codes it: in coordinates in which G is incoherent the diagonal is even, and entries beside it
    cancel. Several blocks make a `Stacked` of rows.
    """
    E = np.empty_like(W)
    coded: list[Quantized | Stacked] = []
    work = [block.seconds(sweeps) for block in blocks]
    for block in parts(reversed(blocks), work[::-1]):
        i, j = block.start, block.stop
        X = W[i:j]
        if rows.L is not None and j < len(W):
            X = X + solve_transposed(rows.L[i:j, i:j], matmul(rows.L[j:, i:j].T, E[j:]))
        Q, error, loss = _coded(X, columns, block.groups, sweeps)
        if len(blocks) > 1:
            np.subtract(error, X - W[i:j], out=E[i:j])
        coded.insert(0, Q)
    Q = coded[0] if len(coded) == 1 else Stacked(tuple(coded), axis=0)
    return Q, loss if rows.L is None else None


def code_backbone(
    W: np.ndarray, weights: FeedbackWeights, groups: Sequence[ColumnGroup], *, sweeps: int
) -> Quantized | Stacked:
    """Round W, float32 (n, d), under a Hessian, one group of columns after the other.

    Each group has one scale, and ``sweeps`` sweeps of coordinate descent before the next one is
    coded; several groups make a `Stacked`. This is block LDL: with the last groups coded, of error
    E_P, and those before g free to correct, the best real values of group g are
    ``W_g + S_gg^-1 S_gP E_P``, S the Schur complement; with ``H = L D L^T`` this is
    ``W_g + L_gg^-T L_Pg^T E_P`` and ``S_gg = L_gg D_g L_gg^T``.
    """
    return _coded(W, weights, groups, sweeps)[0]


def _coded(
    W: np.ndarray, weights: FeedbackWeights, groups: Sequence[ColumnGroup], sweeps: int
) -> tuple[Quantized | Stacked, np.ndarray, float]:
    """What `code_backbone` returns, the error and its loss."""
    codes, scales, error, loss = coded_groups(W, weights, groups, sweeps)
    blocks = tuple(
        Quantized(
            shape=(len(W), group.stop - group.start),
            quantizer=group.book.name,
            bits=group.book.bits,
            codes=group.book.pack(words.T, axis=0),
            scale=np.full((1, 1), scale, np.float32),
            axis=0,
        )
        for group, words, scale in zip(groups, codes, scales, strict=True)
    )
    return blocks[0] if len(blocks) == 1 else Stacked(blocks, axis=1), error, loss


def coded_groups(
    W: np.ndarray,
    weights: FeedbackWeights,
    groups: Sequence[ColumnGroup],
    sweeps: int,
    scales: Sequence[float] | None = None,
) -> tuple[list[np.ndarray], list[float], np.ndarray, float]:
    """Codes and scale of each group, the error (n, d) and its loss, as `code_backbone` explains.

    Where no ``scales`` are given, W chooses them. With the correction taken off, the error of a
    group weighs as ``S_gg`` says, whatever the others: together that is the loss, at the price of
    products within groups.
    """
    n, d = W.shape
    E = np.empty((d, n), np.float32)
    codes: list[np.ndarray] = []
    used: list[float] = []
    loss = 0.0
    work = [code_seconds(g.stop - g.start, n, g.book, sweeps) for g in groups]
    given = [None] * len(groups) if scales is None else list(scales)
    turns = list(zip(groups, given, strict=True))[::-1]
    for group, scale in parts(turns, work[::-1], "backbone"):
        i, j, book = group.start, group.stop, group.book
        X = copied(W[:, i:j].T)
        shift = None
        if weights.L is None:
            L = S = np.eye(j - i, dtype=np.float32)
        else:
            L = weights.L[i:j, i:j]
            S = scaled_square(L, weights.D[i:j]) if sweeps else L
            if j < d:
                shift = solve_transposed(L, matmul(weights.L[j:, i:j].T, E[j:]))
                _in_threads(np.add, X, shift, X)
        if n % book.group:
            X = np.pad(X, ((0, 0), (0, -n % book.group)))
        if scale is None:
            inverse = L if weights.inverse is None else weights.inverse[i:j, i:j]
            matched = matched_scale(X, inverse, book)
            scale = float(np.sqrt(np.mean(np.square(matched, dtype=np.float64))))
        words, _, error = quantize_feedback(
            X,
            S,
            book,
            np.full(j - i, scale, np.float32),
            sweeps=0 if weights.L is None else sweeps,
            factor=(np.arange(j - i), L, weights.D[i:j]),
        )
        error = error[:, :n]
        loss += weights.group_loss(error.T, i)
        _in_threads(np.subtract, error, 0.0 if shift is None else shift, E[i:j])
        codes.insert(0, words)
        used.insert(0, scale)
    if weights.L is not None:
        loss = max(loss - FEEDBACK_DAMPING * squared_norm(E), 0.0)
    return codes, used, E.T, loss


def _in_threads(operation: np.ufunc, X: np.ndarray, Y: np.ndarray | float, out: np.ndarray) -> None:
    """``operation(X, Y, out=out)`` for matrices that memory is slow to deliver."""

    def rows(i: int, j: int) -> None:
        operation(X[i:j], Y if isinstance(Y, float) else Y[i:j], out=out[i:j])

    run_blocks(rows, len(X), _ROWS)


def zero_backbone(shape: tuple[int, int]) -> Quantized:
    """A backbone of zeros, for factors that lie alone in rotated coordinates: 4 bytes."""
    one = np.ones((1, 1), np.float32)
    return Quantized(shape, "zero", 0, codes=np.empty(0, np.uint8), scale=one)
