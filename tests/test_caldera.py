"""CALDERA: its figures on real layers, its reports, its determinism."""

from __future__ import annotations

import itertools

import helpers
import numpy as np
import pytest
from helpers import digest, layer_and_inputs, regularized, weights_and_inputs

import lplr
from lplr import parallel


def least(g: lplr.QPlusLowRank) -> float:
    return min(step["error"] for step in g.meta["history"])


# --- figures ---------------------------------------------------------------------------------

# Ten iterations of the paper's method, as `mode="faithful"` gives them with rng=0, by rank.
# Over seeds they differ by less than 1 %. `test_coding_faithful` repeats some of them.
FAITHFUL = {
    "minilm_l2_query": {0: 0.1452, 16: 0.1233, 32: 0.1124, 64: 0.0958, 128: 0.0665},
    # At ranks 0, 16, 32 and 128, left out for their time: 0.1496, 0.1367, 0.1283 and 0.0909 of
    # the one, 0.2146, 0.2044, 0.1942 and 0.1470 of the other.
    "minilm_l3_output": {64: 0.1144},
    "smollm2_l10_up": {64: 0.1767},
}
DEFAULT = {"minilm_l2_query": 0.085, "minilm_l3_output": 0.105, "smollm2_l10_up": 0.162}


@pytest.mark.parametrize("name", FAITHFUL)
def test_default_is_better_than_the_paper_on_real_layers(name: str) -> None:
    layer = helpers.layer(name)
    H = regularized(layer.H)
    for rank, faithful in FAITHFUL[name].items():
        g = lplr.caldera(layer.W, hessian=layer.H, rank=rank, rng=0)
        found = g.relative_error(layer.W, H)
        assert found < faithful
        if rank == 64:
            assert found <= DEFAULT[name]
        # Under the raw Hessian it is no worse than that of the regularized one allows.
        assert g.relative_error(layer.W, layer.H) < faithful
        # The trace measures in float32, on rotated matrices; the scales are fitted after it.
        assert 0.99 * least(g) < found < least(g) * (1 + 1e-4)


@pytest.mark.parametrize("shape", [(100, 131), (131, 100), (64, 250)])
def test_default_is_better_than_the_paper_on_other_shapes(shape: tuple[int, int]) -> None:
    W, X = layer_and_inputs(*shape, seed=shape[0])
    for rank in (0, 24, min(shape)):
        modes = {"default": None, "faithful": 4}
        found = {
            m: lplr.caldera(W, hessian=X, rank=rank, mode=m, n_iter=k, rng=0)
            for m, k in modes.items()
        }
        H = regularized(X.T @ X)
        errors = {m: g.relative_error(W, H) for m, g in found.items()}
        assert errors["default"] < 0.97 * errors["faithful"]


@pytest.mark.parametrize(
    "widths",
    [{"q_bits": 1}, {"q_bits": 3}, {"q_bits": 4}, {"factor_bits": 2}, {"factor_bits": 8}],
)
def test_default_is_better_than_the_paper_at_other_widths(widths: dict) -> None:
    """Three iterations, of which the first or second is the best here."""
    _, W, H = helpers.layer("minilm_l2_query")
    found = [
        least(lplr.caldera(W[:64], hessian=H, rank=16, mode=mode, n_iter=3, rng=0, **widths))
        for mode in ("default", "faithful")
    ]
    assert found[0] < found[1]


@pytest.mark.parametrize("mode", ["default", "faithful"])
def test_rank_and_bits_pay(mode: str) -> None:
    W, X = layer_and_inputs(80, 60, seed=0)

    def error(**options) -> float:
        return least(lplr.caldera(W, hessian=X, mode=mode, n_iter=2, rng=0, **options))

    by_rank = [error(rank=k) for k in (0, 8, 24, 60)]
    assert by_rank == sorted(by_rank, reverse=True)
    by_bits = [error(rank=8, q_bits=b) for b in (1, 2, 3, 4, 6, 8, 16)]
    assert by_bits == sorted(by_bits, reverse=True)
    by_factor_bits = [error(rank=40, factor_bits=b) for b in (1, 2, 4, 8)]
    assert by_factor_bits == sorted(by_factor_bits, reverse=True)


def test_hessian_and_rotation_pay() -> None:
    W, X = layer_and_inputs(80, 60, seed=1)
    H = X.T @ X
    aware, blind, bare = (
        lplr.caldera(W, hessian=hessian, rank=8, incoherence=incoherence, rng=0)
        for hessian, incoherence in ((H, True), (None, True), (H, False))
    )
    assert aware.relative_error(W, H) < 0.9 * blind.relative_error(W, H)
    assert blind.relative_error(W) < aware.relative_error(W)
    assert (bare.left, bare.right) == (None, None)
    assert bare.nbytes == aware.nbytes - 16


# --- errors as reported ----------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 7])
@pytest.mark.parametrize("mode", ["default", "faithful"])
def test_error_of_the_packed_factors_is_that_of_the_matrix(mode: str, rank: int) -> None:
    W, X = weights_and_inputs()
    H = regularized(X.T @ X)
    g = lplr.caldera(W, hessian=X, rank=rank, mode=mode, n_iter=2, rng=0)
    E = W - g.to_dense().astype(np.float64)
    dense = np.sqrt(np.vdot(E @ H, E) / np.vdot(W @ H, W))
    assert g.relative_error(W, H) == pytest.approx(dense, rel=1e-6)
    if rank:  # the scales of R are fitted once more at the end
        assert dense <= least(g) * (1 + 1e-5)
    else:  # nothing but rotations in float32 lies between
        assert dense == pytest.approx(least(g), rel=1e-5)


def test_scales_are_not_fitted_below_what_float32_tells_apart() -> None:
    """Integers near 2**31 whose 16-bit Q leaves 3e-7: normal equations would make that 3e-6."""
    rng = np.random.default_rng(177)
    W = 2**31 - 1 - rng.integers(0, 4096, (3, 12))
    x = np.random.default_rng(159).uniform(1, 2, 12)
    f = lplr.caldera(
        W, hessian=np.outer(x, x), rank=2, q_bits=16, mode="faithful", n_iter=2,
        incoherence=False, rng=0,
    )  # fmt: skip
    H = lplr.regularize(np.outer(x, x))[0]
    least = min(step["error"] for step in f.meta["history"])
    assert least < 1e-6
    # Decoding rounds sums of a few terms to float32.
    assert f.relative_error(W, H) < least + 8 * 2.0**-24


def test_history_and_callback() -> None:
    W, X = weights_and_inputs()
    seen: list[dict] = []
    g = lplr.caldera(W, hessian=X, rank=5, rng=0, callback=seen.append)
    assert seen == g.meta["history"]
    assert [(h["step"], h["iteration"]) for h in seen[:4]] == [
        ("Q", 0),
        ("L", 1),
        ("R", 1),
        ("Q", 1),
    ]
    assert {"call", "damping", "history", "versions"} == set(g.meta)
    # What a callback does to its dict stays there.
    g = lplr.caldera(W, hessian=X, rank=5, rng=0, callback=lambda step: step.clear())
    assert g.meta["history"] == seen


@pytest.mark.parametrize("mode", ["default", "faithful"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interruption_goes_through(mode: str, error: type[BaseException]) -> None:
    W, X = weights_and_inputs()
    before = W.copy(), X.copy()

    def interrupt(step: dict) -> None:
        if step["iteration"] == 1:
            raise error

    with pytest.raises(error):
        lplr.caldera(W, hessian=X, rank=5, mode=mode, rng=0, callback=interrupt)
    assert not parallel._guards  # BLAS has its threads back
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(X, before[1])


def test_rounds() -> None:
    W, X = weights_and_inputs()
    for n_iter in (0, 1, 2, 5):
        for mode, rank in itertools.product(("default", "faithful"), (0, 5)):
            g = lplr.caldera(W, hessian=X, rank=rank, mode=mode, n_iter=n_iter, rng=0)
            last = max(h["iteration"] for h in g.meta["history"])
            assert last <= max(n_iter, mode == "faithful")
            assert least(g) < 0.45


# --- determinism -----------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "rows"), [("default", 600), ("faithful", 300)])
def test_same_bytes_at_any_number_of_threads(mode: str, rows: int, monkeypatch) -> None:
    W, X = weights_and_inputs(rows, 140)  # more than one block of rows and of columns
    found = set()
    for threads in "13":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        found.add(digest(lplr.caldera(W, hessian=X, rank=20, mode=mode, n_iter=1, rng=3)))
    assert len(found) == 1


def test_seeds() -> None:
    W, X = weights_and_inputs()
    a, b, c = (
        lplr.caldera(W, hessian=X, rank=5, rng=rng) for rng in (7, np.random.default_rng(7), 8)
    )
    np.testing.assert_array_equal(a.to_dense(), b.to_dense())
    assert a.meta["call"]["arguments"]["rng"] == 7
    assert b.meta["call"]["arguments"]["rng"]["bit_generator"] == "PCG64"
    assert (a.to_dense() != c.to_dense()).any()
