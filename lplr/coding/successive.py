"""Feedback factorization at a rate for each component: blocks of components, one after the other.

With one code for all components, those far above its noise are coded too coarsely and those near
it too finely. Reverse water-filling gives each what it deserves; components that are coded alike
form a block.
"""

from __future__ import annotations

import numpy as np

from lplr.coding.alternation import (
    SVD,
    Factor,
    alternate,
    pack_factors,
    rotated_start,
    squared_norm,
)
from lplr.matrices.low_rank import LowRank
from lplr.matrices.stacked import Stacked
from lplr.parallel import matmul
from lplr.planning.waterfill import Block

__all__ = ["successive_factors"]

_PASSES = 2  # of the alternation of each block; a third gains 0.2 %
_SWEEPS = 1  # over all blocks once they are there: 0.9 to 1.8 %; a second one 0.4 to 0.9 %


def successive_factors(
    A: np.ndarray, svd: SVD, blocks: list[Block], rng: np.random.Generator
) -> LowRank:
    """Factor A block by block, each block fitted to what those before it leave.

    Parameters
    ----------
    A : ndarray of shape (n, d), float32
    svd : (U, s, Vt) of shapes (n, m), (m,), (m, d)
        Of (nearly) the best rank-m approximation, m at least the last block's ``stop``.
    blocks : list of Block
        As `lplr.planning.waterfill.distribute` chooses them.
    rng : numpy.random.Generator
        Draws the rotations of the blocks.

    Returns
    -------
    LowRank
        Its factors are `Stacked` where there are several blocks; ``meta["history"]`` has the
        relative error once all blocks are there and after each further step.

    Notes
    -----
    Neither paper has this. A block of components of similar size is factored by feedback, see
    `lplr.coding.alternation`; it starts from its own singular vectors but is fitted to the whole
    residual, so that it also mends what quantization did to the blocks before it (successive
    refinement). Another sweep fits each block again, now with all others in place, and keeps what
    is better.

    On sigma_k = 1/k this leaves 1.07 of the rate-distortion limit at one bit an entry, where the
    best single pair of widths leaves 1.19.
    """
    residual, energy = A.copy(), squared_norm(A)
    factors: list[tuple[Factor, Factor]] = []
    for block in blocks:
        part = slice(block.start, block.stop)
        start = rotated_start((svd[0][:, part], svd[1][part], svd[2][part]), block.books, rng)
        left, right, _ = alternate(residual, start, block.books, _PASSES)
        residual -= matmul(left.values.T, right.values)
        factors.append((left, right))
    history = [squared_norm(residual)]
    for _ in range(_SWEEPS if len(blocks) > 1 else 0):
        for i, block in enumerate(blocks):
            left, right = factors[i]
            residual += matmul(left.values.T, right.values)
            *refitted, (loss,) = alternate(residual, right.values, block.books, 1)
            if loss < history[-1]:
                factors[i] = left, right = refitted[0], refitted[1]
            residual -= matmul(left.values.T, right.values)
            history.append(squared_norm(residual))
    packed = [
        pack_factors(left, right, right.scale, block.books)
        for (left, right), block in zip(factors, blocks, strict=True)
    ]
    meta = {"history": [float(np.sqrt(loss / energy)) for loss in history]}
    if len(packed) == 1:
        return LowRank(packed[0].left, packed[0].right, meta=meta)
    return LowRank(
        Stacked(tuple(f.left for f in packed), axis=1),
        Stacked(tuple(f.right for f in packed), axis=0),
        meta=meta,
    )
