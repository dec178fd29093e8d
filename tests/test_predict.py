"""Predicted losses against measured ones, and the backbone in column groups that they speak of."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.linalg import norm

import lplr
from lplr.coding.backbone import FEEDBACK_DAMPING, ColumnGroup, FeedbackWeights, code_backbone
from lplr.coding.blocks import weighted_factors
from lplr.exceptions import BudgetError, InputError
from lplr.linalg.hessian import regularize
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.planning.candidates import candidate_plans
from lplr.planning.codebooks import EFFORTS, codebooks_by_size, efficient_pairs, lower_hull
from lplr.planning.column_rates import ColumnRates
from lplr.planning.curves import Curve, Spectrum, backbone_curve, best_split, extended
from lplr.planning.sizes import backbone_nbytes, blocks_nbytes, least_nbytes
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.quantizers import get_codebook
from lplr.storage.container import load, save


def structured(d: int, seed: int = 0) -> np.ndarray:
    """A Hessian with a decaying spectrum and a few outlier channels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4 * d, d)) * np.arange(1, d + 1) ** -0.5
    X = X @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    X[:, : max(1, d // 50)] *= 10
    return regularize(X.T @ X / len(X))[0]


@pytest.fixture(scope="module")
def layer() -> WeightedMatrix:
    _, W, H = lplr.datasets.layer("minilm_l2_query")
    return WeightedMatrix(W, regularize(H)[0], 0)


# --- menus -----------------------------------------------------------------------------------


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("length", [1, 7, 63, 64, 300, 5000])
def test_a_ladder_rises_in_size_and_falls_in_error(effort: str, length: int) -> None:
    books = codebooks_by_size(effort, length)
    sizes = [book.nbytes(length, 64) for book in books]
    assert all(a < b for a, b in pairwise(sizes))
    assert all(a.gaussian_mse > b.gaussian_mse for a, b in pairwise(books))
    assert books[0].bits == 1
    assert books[-1].bits == 16
    assert length >= 64 or {book.name for book in books} == {"lloyd-max"}


def test_a_hull_is_convex_and_below_all_points() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(200), rng.random(200)
    keep = lower_hull(x, y)
    slopes = np.diff(y[keep]) / np.diff(x[keep])
    assert (np.diff(slopes) > 0).all()
    assert (slopes < 0).all()
    assert keep[0] == np.argmin(x)
    assert keep[-1] == np.argmin(y)
    below = np.interp(x, x[keep], y[keep])
    assert (y >= below - 1e-12).all()


def test_worthwhile_pairs_are_on_the_hull_and_give_the_short_side_more() -> None:
    pairs = efficient_pairs("default", (2000, 200))
    cost = [L.nbytes(2000, 8) + R.nbytes(200, 8) for L, R in pairs]
    assert cost == sorted(cost)
    middle = [(L.bits, R.bits) for L, R in pairs if 2 <= L.bits <= 4]
    assert all(right > left for left, right in middle)


# --- pivots and groups of columns ------------------------------------------------------------


def test_loss_is_the_trace() -> None:
    H = structured(90)
    E = np.random.default_rng(1).standard_normal((40, 90)).astype(np.float32)
    # Sums of 40 x 90 float32 products: 1e-5 is 100 units in the last place.
    assert FeedbackWeights(H, 90).loss(E) == pytest.approx(np.trace(E @ H @ E.T), rel=1e-5)
    assert FeedbackWeights(None, 90).loss(E) == pytest.approx(norm(E) ** 2, rel=1e-5)


def column_rates(H: np.ndarray | None, d: int) -> ColumnRates:
    return ColumnRates(H, FeedbackWeights(H, d))


def of_errors(mse: np.ndarray) -> list[Any]:
    """Columns whose codes, none that exist, have these errors on a normal distribution."""
    codes = (SimpleNamespace(gaussian_mse=error) for error in mse)
    return [ColumnGroup(k, k + 1, book) for k, book in enumerate(codes)]


def test_predicted_variances_solve_their_recursion() -> None:
    """`ColumnRates.loss` against the recursion of its docstring, one column at a time."""
    d = 30
    rates = column_rates(structured(d), d)
    mse = np.linspace(0.05, 0.3, d)
    weights = rates.weights
    inverse = np.linalg.inv(weights.L)
    v = np.ones(d)
    for k in range(d - 2, -1, -1):
        v[k] = 1 + sum(inverse[j, k] ** 2 * mse[j] * v[j] for j in range(k + 1, d))
    expected = float(weights.D @ (mse * v)) - FEEDBACK_DAMPING * float((mse * v + v - 1).sum())
    assert rates.loss(of_errors(mse)) == pytest.approx(expected, rel=1e-4)


def test_predicted_errors_are_those_of_independent_rounding_errors() -> None:
    """The model itself, simulated: rounding errors of given variance and nothing else."""
    d, n = 24, 20000
    H = structured(d)
    rates = column_rates(H, d)
    mse = np.linspace(0.2, 0.02, d)
    generator = np.random.default_rng(0)
    E, target_square = np.zeros((n, d)), np.ones(d)
    W = generator.standard_normal((n, d))
    for k in range(d - 1, -1, -1):
        fed_back = E[:, k + 1 :] @ rates.weights.L[k + 1 :, k]
        target_square[k] = np.mean((W[:, k] + fed_back) ** 2)
        eta = np.sqrt(mse[k] * target_square[k]) * generator.standard_normal(n)
        E[:, k] = eta - fed_back
    # 20000 rows of 24 squares: 0.5 %; the model takes errors as uncorrelated with W: 2 % more.
    found = np.einsum("ij,ij->", E @ H, E) / n
    assert rates.loss(of_errors(mse)) == pytest.approx(found, rel=0.03)


@pytest.mark.parametrize("left_out", [1, 10, 39, 40])
def test_columns_that_are_left_out_lose_what_is_predicted(left_out: int) -> None:
    d, n = 40, 4000
    H = structured(d)
    rates = column_rates(H, d)
    W = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    fine, zero = get_codebook("lloyd-max", 6), get_codebook("zero", 0)
    groups = [ColumnGroup(0, d - left_out, fine), ColumnGroup(d - left_out, d, zero)]
    groups = [g for g in groups if g.start < g.stop]
    Q = code_backbone(W, rates.weights, groups, sweeps=0)
    # Exact but for the sample of rows, and what is rounded is not quite normal.
    assert rates.weights.loss(W - Q.to_dense()) / n == pytest.approx(rates.loss(groups), rel=0.05)


@pytest.mark.parametrize("bits", [0.1, 0.7, 1.0, 2.1, 3.33, 6.5, 9.0, 15.0])
@pytest.mark.parametrize("shape", [(100, 70), (65, 200), (8, 31), (1, 5), (300, 1)])
def test_groups_fit_cover_all_columns_and_fall(shape: tuple[int, int], bits: float) -> None:
    n, d = shape
    books = [get_codebook("zero", 0), *codebooks_by_size("default", n)]
    nbytes = max(bits * n * d / 8, 4)
    groups = column_rates(structured(d), d).groups(n, books, nbytes)
    assert backbone_nbytes(groups, n) <= nbytes
    assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])]
    assert groups[-1].stop == d
    assert all(a.book.bits > b.book.bits for a, b in pairwise(groups))


def test_groups_spend_the_budget() -> None:
    rates = column_rates(None, 400)
    for bits in (1.1, 2.0, 2.6, 3.14159):
        nbytes = bits * 300 * 400 / 8
        used = backbone_nbytes(rates.groups(300, codebooks_by_size("default", 300), nbytes), 300)
        assert nbytes - used < 0.01 * nbytes


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BudgetError, match="do not fit"):
        column_rates(None, 10).groups(100, codebooks_by_size("default", 100), 100)


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
    H = structured(d)
    widths = [(0, 5, 4), (5, 11, 3), (11, 18, 2)]
    groups = [ColumnGroup(i, j, get_codebook("lloyd-max", b)) for i, j, b in widths]
    Q = code_backbone(W, FeedbackWeights(H, d), groups, sweeps=0)
    damped = H + FEEDBACK_DAMPING * np.eye(d)
    scales = [float(block.scale[0, 0]) for block in Q.blocks]
    naive = naive_block_feedback(W.astype(np.float64), damped, groups, scales)
    # Ties within float32 rounding would differ by a level: none occur with this seed.
    np.testing.assert_allclose(Q.to_dense(), naive, atol=1e-4)
    assert Q.nbytes == backbone_nbytes(groups, n)


@pytest.mark.parametrize("sweeps", [0, 1])
def test_rates_by_pivot_beat_one_rate(layer: WeightedMatrix, sweeps: int) -> None:
    """On a layer whose pivots differ by 4, the loss falls by 4 to 6 % at equal size."""
    n, d = layer.shape
    one = [ColumnGroup(0, d, get_codebook("trellis-8", 2))]
    mixed = layer.rates.groups(n, codebooks_by_size("fast", n), backbone_nbytes(one, n) + 16)
    assert len(mixed) > 1
    W, weights = layer.rotated, layer.rates.weights
    results = (code_backbone(W, weights, groups, sweeps=sweeps) for groups in (one, mixed))
    loss = [weights.loss(W - Q.to_dense()) for Q in results]
    assert loss[1] < 0.98 * loss[0]


# --- predictions -----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1.5, 2.3, 3.0, 4.2])
def test_a_backbone_loses_what_is_predicted(layer: WeightedMatrix, bits: float) -> None:
    n, d = layer.shape
    books = codebooks_by_size("fast", n)
    nbytes = bits * n * d / 8
    groups = layer.rates.groups(n, books, nbytes)
    weights = layer.rates.weights
    Q = code_backbone(layer.rotated, weights, groups, sweeps=0)
    predicted = backbone_curve(layer.rates, n, books, np.array([nbytes])).loss[0]
    predicted *= layer.spectrum.energy / (n * d)
    # Within 3 % of the error at these rates on three layers; 6 % of its square.
    assert weights.loss(layer.rotated - Q.to_dense()) == pytest.approx(predicted, rel=0.06)


@pytest.mark.parametrize("effort", EFFORTS)
def test_without_weights_a_backbone_loses_the_gaussian_error(effort: str) -> None:
    rng = np.random.default_rng(0)
    s = WeightedMatrix(rng.standard_normal((512, 64)).astype(np.float32), None, 0)
    book = next(b for b in codebooks_by_size(effort, 512) if b.bits == 2)
    Q = code_backbone(s.rotated, s.rates.weights, [ColumnGroup(0, 64, book)], sweeps=0)
    measured = s.loss(s.rotated - Q.to_dense()) / s.norm
    # 64 sequences of 512: the spread of their mean error is about 1 %.
    assert measured == pytest.approx(book.gaussian_mse, rel=0.04)


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_factors_lose_what_is_predicted(exponent: float, bits: float) -> None:
    A = lplr.datasets.synthetic(300, 200, "power", exponent=exponent, rng=0)
    matrix = WeightedMatrix(A.astype(np.float32), None, 0)
    found = candidate_plans(matrix, bits * A.size / 8, "fast")
    plan = next(plan for plan in found if plan.kind == "low-rank")
    f = plan.carry_out(matrix, "fast")
    # 0.97 to 1.03 in all of these, and on images and embeddings.
    assert f.relative_error(A) == pytest.approx(plan.predicted, rel=0.05)
    assert blocks_nbytes(plan.blocks, A.shape) == f.nbytes <= bits * A.size / 8


def test_the_curve_of_a_spectrum_falls_from_all_to_nothing() -> None:
    s = 1 / np.arange(1, 101)
    spectrum = Spectrum(s, float(s @ s), (150, 100))
    curve = spectrum.curve(efficient_pairs("default", (150, 100)))
    assert curve.nbytes[0] == 0
    assert curve.loss[0] == spectrum.energy
    assert (np.diff(curve.nbytes) > 0).all()
    assert (np.diff(curve.loss) < 0).all()
    assert curve.loss[-1] < 1e-6 * spectrum.energy  # float16


def test_curves_are_infinite_below_their_start() -> None:
    curve = Curve(np.array([10.0, 20.0]), np.array([1.0, 0.01]))
    np.testing.assert_allclose(curve.at(np.array([9.0, 10.0, 15.0, 99.0])), [np.inf, 1, 0.1, 0.01])


def test_the_best_split_is_that_of_a_search() -> None:
    sizes = np.linspace(0, 100, 51)
    factors = Curve(sizes, 0.1 + np.exp(-sizes / 8))
    backbone = Curve(np.linspace(5, 100, 96), np.exp(-np.linspace(5, 100, 96) / 20))
    split = best_split(factors, backbone, 100.0)
    loss = [
        (0.1 + np.exp(-x / 8)) * np.exp(-(100 - x) / 20) if 100 - x >= 5 else np.inf for x in sizes
    ]
    assert split == pytest.approx(1.02 * sizes[1:][np.argmin(loss[1:])])
    assert best_split(factors, Curve(np.array([200.0]), np.array([1.0])), 100.0) == 0.0


def test_a_guessed_spectrum_has_the_energy_of_all() -> None:
    for p in (0.0, 0.3, 1.0, 3.0):
        s = np.arange(1, 501) ** -p
        guess = extended(s[:60], float(s @ s), 500)
        assert guess.shape == s.shape
        assert float(guess @ guess) == pytest.approx(float(s @ s), rel=1e-6)
        assert (np.diff(guess) <= 1e-12).all()


@pytest.mark.parametrize("bits", [0.1, 0.3])
def test_factors_under_a_hessian_lose_what_is_predicted(layer: WeightedMatrix, bits: float) -> None:
    nbytes = bits * layer.W.size / 8
    found = layer.components(nbytes)
    blocks, predicted = found.plan(nbytes, "default")
    generator = np.random.default_rng(0)
    f = weighted_factors(found.W, found.svd, found.weights, blocks, generator)
    assert f.nbytes <= nbytes
    assert f.rank == blocks[-1].stop
    loss = layer.rates.weights.loss(layer.rotated - f.to_dense())
    assert loss == pytest.approx(predicted, rel=0.1)  # of the error: 5 %
    # More than the best approximation of that rank leaves without any codes.
    _, s, _ = np.linalg.svd(layer.rotated @ spectrum_root(layer))
    assert loss > float(np.square(s[f.rank :]).sum())


def spectrum_root(layer: WeightedMatrix) -> np.ndarray:
    """A square root of H in rotated coordinates."""
    weights = layer.rates.weights
    H = (weights.L * weights.D) @ weights.L.T - FEEDBACK_DAMPING * np.eye(weights.d)
    w, V = np.linalg.eigh(H)
    return V * np.sqrt(w)


# --- search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0.4, 1.0, 2.5, 7.3, 12.0])
def test_choices_fit_and_are_in_order(layer: WeightedMatrix, bits: float) -> None:
    nbytes = bits * layer.W.size / 8
    found = candidate_plans(layer, nbytes, "default")
    assert [c.predicted for c in found] == sorted(c.predicted for c in found)
    assert all(0 < c.nbytes(layer.shape) <= nbytes for c in found)
    kinds = {c.kind for c in found}
    assert {"low-rank", "backbone", "backbone + low-rank"} <= kinds


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (3, 5), (2, 300), (40, 40)])
def test_the_smallest_budget_is_enough_and_less_is_refused(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    matrix = WeightedMatrix(W, None, 0)
    assert candidate_plans(matrix, least_nbytes(shape), "default")
    with pytest.raises(BudgetError, match="use at least") as caught:
        candidate_plans(matrix, 0.999 * least_nbytes(shape), "default")
    enough = float(str(caught.value).rsplit(" ", 1)[1])
    assert candidate_plans(matrix, enough * W.size / 8, "default")


# --- the codebook of nothing -----------------------------------------------------------------


def test_zero_bits(tmp_path) -> None:
    book = get_codebook("zero", 0)
    assert book.nbytes(300, 4) == 0
    empty = np.empty(0, np.uint8)
    scale = np.ones((1, 1), np.float32)
    part = Quantized((6, 4), "zero", 0, empty, scale)
    assert not part.to_dense().any()
    assert not (part @ np.ones(4)).any()
    assert not (part.T @ np.ones(6)).any()
    codes = np.full(12, 7, np.uint8)
    stack = Stacked((Quantized((6, 2), "uniform", 8, codes, scale), part), axis=1)
    save(tmp_path / "z.h5", stack)
    np.testing.assert_array_equal(load(tmp_path / "z.h5").to_dense(), stack.to_dense())
    with pytest.raises(InputError, match="codes"):
        Quantized((6, 4), "zero", 0, np.zeros(1, np.uint8), scale)
    with pytest.raises(InputError, match="quantizer"):
        lplr.quantize(np.eye(3), bits=1, quantizer="zero")
