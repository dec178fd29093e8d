"""Feedback between rows of a matrix, for errors that weigh as ``tr(G E H E^T)``.

Under H alone rows are independent. Under G as well they are coded in blocks from the first to the
last, each under H after the errors of those above it were fed back. Within a block the weights of G
are taken for a multiple of the identity, as they nearly are in coordinates in which G is
incoherent. So blocks should be short; but a word of a lattice code has eight rows, and a trellis
code loses where it starts.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np

from lplr.linalg.ldl import ldl
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.quantizers.base import Codebook
from lplr.quantizers.trellis_codebook import TrellisCodebook

__all__ = ["RowFeedback", "pack_rows", "packed_blocks", "row_blocks"]

_ROWS = 4  # of a scalar code: two or one gain less than 1 %, and the time doubles
# Of a trellis code, a sequence of its own in each block: with fewer, its starts lose as much as
# feedback gains, with more the other way round.
_TRELLIS_ROWS = 48


def row_blocks(book: Codebook, n: int) -> list[slice]:
    """The blocks of n rows, from the first to the last."""
    if isinstance(book, TrellisCodebook):
        edges = np.linspace(0, n, max(1, round(n / _TRELLIS_ROWS)) + 1).astype(int).tolist()
    else:
        edges = [*range(0, n, max(_ROWS, book.group)), n]
    return [slice(i, j) for i, j in pairwise(edges)]


def packed_blocks(book: Codebook, n: int) -> list[slice]:
    """The blocks of n rows that are stored apart: those of a trellis code."""
    return row_blocks(book, n) if isinstance(book, TrellisCodebook) else [slice(0, n)]


def pack_rows(
    codes: np.ndarray,
    book: Codebook,
    shape: tuple[int, int],
    scale: float,
    *,
    axis: int = 0,
    in_blocks: bool = False,
) -> Quantized | Stacked:
    """A matrix of codes at one scale; ``in_blocks``: they come from feedback between rows."""
    blocks = packed_blocks(book, shape[0]) if in_blocks else [slice(0, shape[0])]
    packed = tuple(
        Quantized(
            shape=(b.stop - b.start, shape[1]),
            quantizer=book.name,
            bits=book.bits,
            codes=book.pack(codes[b] if len(blocks) > 1 else codes, axis=axis),
            scale=np.full((1, 1), scale, np.float32),
            axis=axis,
        )
        for b in blocks
    )
    return packed[0] if len(packed) == 1 else Stacked(packed, axis=0)


class RowFeedback:
    """What the errors of rows feed back to those below under G, float64 (n, n), positive definite.

    ``G = U diag(D) U^T``, U unit upper triangular. With the rows A coded, of error E_A, and those
    below block B free to correct, the best real values of B are ``W_B + U_BB^-T U_AB^T E_A``, and
    errors around them weigh as ``S_BB = U_BB D_B U_BB^T``.
    """

    def __init__(self, G: np.ndarray) -> None:
        self.G = G
        L, D = ldl(G[::-1, ::-1])
        self.U, self.D = np.ascontiguousarray(L[::-1, ::-1]), D[::-1]

    @cached_property
    def growth(self) -> float:
        """The mean square of E over that of the rounding errors ``U^T E``, if these are white."""
        from scipy.linalg.lapack import dtrtri

        inverse, _ = dtrtri(self.U, lower=0, unitdiag=1)
        return 1.0 + float(np.square(np.triu(inverse, 1)).sum() / len(inverse))

    def root(self, E: np.ndarray) -> np.ndarray:
        """``D^(1/2) U^T E`` of a float32 matrix E, whose square is that of E under G."""
        return matmul((self.U * np.sqrt(self.D)).T.astype(np.float32), E)

    def fed_back(self, E: np.ndarray, block: slice) -> np.ndarray:
        """What the errors E above a block add to it, (m, d); rows beyond G, of padding, get 0."""
        from scipy.linalg import solve_triangular

        n, i = len(self.G), block.start
        out = np.zeros((block.stop - i, E.shape[1]), np.float32)
        if 0 < i < n:
            b = slice(i, min(block.stop, n))
            weights = solve_triangular(
                self.U[b, b], self.U[:i, b].T, trans=1, unit_diagonal=True, check_finite=False
            )
            out[: b.stop - i] = matmul(weights.astype(np.float32), E[:i])
        return out
