"""The backbone in groups of columns: feedback by blocks, and what it loses."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import decaying_hessian, hessian_of_spectrum
from numpy.linalg import norm

from lplr.coding.backbone import (
    FEEDBACK_DAMPING,
    ColumnGroup,
    FeedbackWeights,
    RowBlock,
    code_backbone,
    code_row_blocks,
)
from lplr.linalg.ldl import ldl
from lplr.planning.codebooks import EFFORTS, codebooks_by_size
from lplr.planning.sizes import backbone_nbytes, row_blocks_nbytes
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.quantizers import get_codebook


def test_the_loss_is_the_trace() -> None:
    H = decaying_hessian(90)
    E = np.random.default_rng(1).standard_normal((40, 90)).astype(np.float32)
    # Sums of 40 x 90 float32 products: 1e-5 is 100 units in the last place.
    assert FeedbackWeights(H, 90).loss(E) == pytest.approx(np.trace(E @ H @ E.T), rel=1e-5)
    assert FeedbackWeights(None, 90).loss(E) == pytest.approx(norm(E) ** 2, rel=1e-5)


def naive_block_feedback(
    W: np.ndarray, H: np.ndarray, groups: list[ColumnGroup], scales: list[float]
):
    """Column by column from the last: each rounded at the real value that is best given the errors
    so far, with all columns before it free."""
    n, d = W.shape
    E = np.zeros((n, d))
    for k in range(d - 1, -1, -1):
        group = next(i for i, g in enumerate(groups) if g.start <= k < g.stop)
        book, scale = groups[group].book, scales[group]
        free, done = np.arange(k), np.arange(k + 1, d)
        S = H[np.ix_([k, *done], [k, *done])]
        if k:
            cross = H[np.ix_([k, *done], free)]
            S = S - cross @ np.linalg.solve(H[np.ix_(free, free)], cross.T)
        target = W[:, k] + E[:, done] @ S[1:, 0] / S[0, 0]
        levels = book.decode(np.arange(2**book.bits, dtype=np.uint8))[:, 0] * scale
        E[:, k] = W[:, k] - levels[np.abs(target[:, None] - levels).argmin(axis=1)]
    return W - E


def test_the_backbone_is_feedback_quantization_by_blocks() -> None:
    n, d = 24, 18
    rng = np.random.default_rng(0)
    W = rng.standard_normal((n, d)).astype(np.float32)
    H = decaying_hessian(d)
    widths = [(0, 5, 4), (5, 11, 3), (11, 18, 2)]
    groups = [ColumnGroup(i, j, get_codebook("lloyd-max", b)) for i, j, b in widths]
    Q = code_backbone(W, FeedbackWeights(H, d), groups, sweeps=0)
    damped = H + FEEDBACK_DAMPING * np.eye(d)
    scales = [float(block.scale[0, 0]) for block in Q.blocks]
    naive = naive_block_feedback(W.astype(np.float64), damped, groups, scales)
    # Ties within float32 rounding would differ by a level: none occur with this seed.
    np.testing.assert_allclose(Q.to_dense(), naive, atol=1e-4)
    assert Q.nbytes == backbone_nbytes(groups, n)


@pytest.mark.parametrize("hessian", [None, decaying_hessian(18)])
def test_coding_tells_the_loss(hessian: np.ndarray | None) -> None:
    W = np.random.default_rng(0).standard_normal((30, 18)).astype(np.float32)
    books = [get_codebook("trellis-8", 2), get_codebook("trellis-8", 1)]
    groups = (ColumnGroup(0, 11, books[0]), ColumnGroup(11, 18, books[1]))
    rows, columns = FeedbackWeights(None, 30), FeedbackWeights(hessian, 18)
    for sweeps in (0, 1):
        Q, loss = code_row_blocks(W, rows, columns, [RowBlock(0, 30, groups)], sweeps=sweeps)
        # Float32 products of 18 terms.
        assert loss == pytest.approx(columns.loss(W - Q.to_dense()), rel=1e-5)


def test_pivots_of_both_sides_make_the_loss_exact() -> None:
    G, H = hessian_of_spectrum(np.geomspace(1, 1e-3, 40)), decaying_hessian(30)
    E = np.random.default_rng(0).standard_normal((40, 30))
    (L, D), (M, C) = ldl(G), ldl(H)
    eta = L.T @ E @ M
    assert np.trace(G @ E @ H @ E.T) == pytest.approx(D @ np.square(eta) @ C, rel=1e-10)


def test_blocks_of_rows_are_coded_at_their_best_real_values() -> None:
    """Against least squares over all rows that are free, and column by column inside a block."""
    n, d = 24, 18
    W = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    G, H = hessian_of_spectrum(np.geomspace(1, 1e-2, n)), decaying_hessian(d)
    groups = [[(0, 5, 5), (5, 18, 4)], [(0, 11, 3), (11, 18, 2)], [(0, 18, 2)]]
    blocks = [
        RowBlock(i, j, tuple(ColumnGroup(a, b, get_codebook("lloyd-max", c)) for a, b, c in each))
        for (i, j), each in zip([(0, 5), (5, 13), (13, 24)], groups, strict=True)
    ]
    Q, _ = code_row_blocks(W, FeedbackWeights(G, n), FeedbackWeights(H, d), blocks, sweeps=0)
    under_g, under_h = (X + FEEDBACK_DAMPING * np.eye(len(X)) for X in (G, H))
    naive = np.zeros((n, d))
    for block, coded in zip(reversed(blocks), reversed(Q.blocks), strict=True):
        free, done = np.arange(block.stop), np.arange(block.stop, n)
        pull = under_g[np.ix_(free, done)] @ (W - naive)[done]
        best = W[free] + np.linalg.solve(under_g[np.ix_(free, free)], pull)
        scales = [float(part.scale[0, 0]) for part in getattr(coded, "blocks", [coded])]
        rows = slice(block.start, block.stop)
        naive[rows] = naive_block_feedback(best[rows], under_h, list(block.groups), scales)
    # Ties within float32 rounding would differ by a level: none occur with this seed.
    np.testing.assert_allclose(Q.to_dense(), naive, atol=1e-4)
    assert Q.nbytes == row_blocks_nbytes(blocks)
    # Columns that are contiguous already are copied before they are shifted.
    before, other = np.asfortranarray(W), np.asfortranarray(W)
    weights = FeedbackWeights(G, n), FeedbackWeights(H, d)
    again, _ = code_row_blocks(other, *weights, blocks, sweeps=0)
    np.testing.assert_array_equal(again.to_dense(), Q.to_dense())
    np.testing.assert_array_equal(other, before)


@pytest.mark.parametrize("sweeps", [0, 1])
def test_rates_by_pivot_beat_one_rate(query_layer: WeightedMatrix, sweeps: int) -> None:
    """On a layer whose pivots differ by 4, the loss falls by 4 to 6 % at equal size."""
    n, d = query_layer.shape
    one = [ColumnGroup(0, d, get_codebook("trellis-8", 2))]
    mixed = query_layer.rates.groups(n, codebooks_by_size("fast", n), backbone_nbytes(one, n) + 16)
    assert len(mixed) > 1
    W, weights = query_layer.rotated, query_layer.rates.weights
    results = (code_backbone(W, weights, groups, sweeps=sweeps) for groups in (one, mixed))
    loss = [weights.loss(W - Q.to_dense()) for Q in results]
    assert loss[1] < 0.98 * loss[0]


@pytest.mark.parametrize("effort", EFFORTS)
def test_without_weights_a_backbone_loses_the_gaussian_error(effort: str) -> None:
    rng = np.random.default_rng(0)
    s = WeightedMatrix(rng.standard_normal((512, 64)).astype(np.float32), None, 0)
    book = next(b for b in codebooks_by_size(effort, 512) if b.bits == 2)
    Q = code_backbone(s.rotated, s.rates.weights, [ColumnGroup(0, 64, book)], sweeps=0)
    measured = s.loss(s.rotated - Q.to_dense()) / s.norm
    # 64 sequences of 512: the spread of their mean error is about 1 %.
    assert measured == pytest.approx(book.gaussian_mse, rel=0.04)
