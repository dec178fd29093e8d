"""One's own matrix, quantizer and bound against simulation, in a call and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.theory import Quantizer, bounds, compare_bounds

A = np.random.default_rng(3).standard_normal((40, 30)) * (1 / np.arange(1.0, 31))
SIGMA = np.linalg.svd(A, compute_uv=False)
QUICK: dict[str, Any] = {"rng": 0, "trials": 40, "oversampling": 4}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


def integers(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dithered rounding to integers."""
    return np.floor(X + rng.random(X.shape))


def test_bounds_are_those_of_the_steps_that_were_used() -> None:
    steps: list[tuple[float, float]] = []
    found = compare_bounds(A, values=[2, 5], bounds=[bounds.lplr_bound, keep(steps)], **QUICK)
    for i, pair in enumerate(steps):
        expected = bounds.lplr_bound(SIGMA, A.shape, 7, pair)
        assert found.bounds["lplr_bound"][i] == pytest.approx(expected, rel=1e-9)
    assert found.settings[0] == {"rank": 3, "oversampling": 4, "m": 7, "bits": 2}
    # 2 bits have 3 gaps where 5 have 31; the range of L is that of the same sketch.
    assert steps[0][0] / steps[1][0] == pytest.approx(31 / 3, rel=1e-9)
    assert found.energy == pytest.approx(np.square(A).sum())
    assert found.best[0] == pytest.approx(np.square(SIGMA[7:]).sum())


def keep(seen: list[tuple[float, float]]) -> Callable[..., float]:
    def own(steps: tuple[float, float]) -> float:
        seen.append(steps)
        return 1e9

    return own


@pytest.mark.parametrize("method", ["lplr", "lplr-svd", "direct-svd"])
@pytest.mark.parametrize("x", ["bits", "rank"])
def test_true_bounds_are_not_refuted_and_the_best_matrix_is_better(method: str, x: str) -> None:
    found = compare_bounds(A, x=x, values=[2, 6], method=method, rng=0, trials=60)
    for name, words in found.verdicts.items():
        assert set(words) <= {"holds", "not refuted"}, name
        assert (found.mean < 1.1 * found.bounds[name]).all()
    assert (found.quantiles[:, 0] >= found.best).all()  # Eckart and Young: always
    assert (np.diff(found.quantiles, axis=1) >= 0).all()


def test_a_wrong_bound_is_refuted() -> None:
    half = {
        "half": lambda singular_values, shape, m, steps: (
            bounds.lplr_bound(singular_values, shape, m, steps) / 3
        )
    }
    found = compare_bounds(A, values=[1, 2], bounds=half, **QUICK)
    assert found.verdicts["half"] == ("refuted", "refuted")
    assert found.p_values["half"].max() < 1e-6
    assert "REFUTED" in repr(found)


@pytest.mark.parametrize("method", ["lplr", "lplr-svd", "direct-svd"])
def test_rounding_in_float64_refutes_nothing(method: str) -> None:
    """A matrix of rank 5 without quantization: the bounds are 0, and 1e-31 is measured."""
    exact = Quantizer(lambda X: X, dynamic_range=np.inf, step=0.0)
    low = A[:, :5] @ A[:5]
    found = compare_bounds(low, x="rank", values=[5, 8], quantizer=exact, method=method, rng=0)
    for name, words in found.verdicts.items():
        assert (found.bounds[name] == 0).all()
        assert words == ("holds", "holds")


def test_measured_with_ones_own_quantizer() -> None:
    """A quantizer that rounds nothing leaves the error of the sketch, by hand."""
    exact = Quantizer(lambda X: X, dynamic_range=np.inf, step=0.0)
    found = compare_bounds(A, x="rank", values=[3], quantizer=exact, **QUICK | {"trials": 400})
    rng, errors = np.random.default_rng(1), []
    for _ in range(400):
        L = A @ rng.standard_normal((30, 7))
        Q = np.linalg.qr(L)[0]
        errors.append(np.square(A - Q @ (Q.T @ A)).sum())
    spread = np.hypot(found.standard_error[0], np.std(errors) / 20)
    assert abs(found.mean[0] - np.mean(errors)) < 6 * spread  # by chance once in 5e8
    expected = bounds.lplr_bound(SIGMA, A.shape, 7, 0.0)
    assert found.bounds["lplr_bound"][0] == pytest.approx(expected, rel=1e-9)


def test_quantizers_of_ones_own() -> None:
    fixed = Quantizer(integers, dynamic_range=np.inf, step=1.0)
    made: list[tuple[int, float]] = []

    def family(bits: int, dynamic_range: float) -> Quantizer:
        made.append((bits, dynamic_range))
        step = bounds.uniform_step(bits, dynamic_range)
        return Quantizer(lambda X, rng: step * integers(X / step, rng), np.inf, step)

    one = compare_bounds(A, values=[3, 4], quantizer=(fixed, family), **QUICK)
    assert [bits for bits, _ in made] == [3, 4]
    assert set(one.verdicts["lplr_nested_bound"]) <= {"holds", "not refuted"}
    both = compare_bounds(A, values=[3, 4], quantizer=family, **QUICK)
    assert len(made) == 6
    assert (both.mean != one.mean).all()
    # Without dither there is no bound; with it, the same points lie closer on the mean.
    nearest = compare_bounds(A, values=[3], quantizer="nearest", **QUICK)
    assert nearest.mean[0] < compare_bounds(A, values=[3], **QUICK).mean[0]


def test_randomness_reaches_a_wrapped_quantizer() -> None:
    wrapped = Quantizer(lambda X, **options: integers(X, **options), np.inf, 1.0)
    direct = Quantizer(integers, np.inf, 1.0)
    X = A.copy()
    assert (wrapped(X, np.random.default_rng(0)) == direct(X, np.random.default_rng(0))).all()


def test_a_range_that_is_left_is_an_assumption_that_fails() -> None:
    narrow = Quantizer(integers, dynamic_range=1e-3, step=1.0)
    found = compare_bounds(A, x="rank", values=[2], quantizer=(narrow, "dithered"), **QUICK)
    assert found.saturated.tolist() == [40]
    assert found.verdicts["lplr_bound"] == ("assumption not met",)
    assert "saturated in 40 of 40" in repr(found)


def test_bounds_get_what_they_ask_for() -> None:
    asked = {}

    def own(
        A: Any, n: int, d: int, k: int, m: int, rank: int, ranges: Any, extra: int = 5
    ) -> float:
        asked.update(n=n, d=d, k=k, m=m, rank=rank, extra=extra, shape=A.shape)
        return float("inf")

    found = compare_bounds(
        A,
        values=[2],
        bounds={
            **{"own": own, "x": lambda b: 100.0 + b, "all": lambda **a: a["m"]},
            "by position": lambda b, /: 200.0 + b,
        },
        rank=2,
        **QUICK,
    )
    assert asked == {"n": 40, "d": 30, "k": 2, "m": 6, "rank": 2, "extra": 5, "shape": (40, 30)}
    assert found.bounds["x"][0] == 102
    assert found.bounds["by position"][0] == 202
    assert found.bounds["all"][0] == 6
    assert found.verdicts["own"] == ("holds",)


def test_names_of_bounds() -> None:
    for name in ("LPLR-Bound", "lplr.theory.bounds.lplr_bound"):
        found = compare_bounds(A, values=[2], bounds=[name, "lplr_bound"], **QUICK)
        assert list(found.bounds) == ["lplr_bound"]
    # A name that is a column of the table already does not take its place.
    (row,) = compare_bounds(A, values=[2], bounds={"mean": lambda m: 1e9}, **QUICK).rows()
    assert row["mean_bound"] == 1e9
    assert row["mean"] < 1e9
    with pytest.raises(InputError, match="^bounds: two are called own"):
        compare_bounds(A, bounds=[keep([]), keep([])], **QUICK)


def test_singular_values_and_files_in_place_of_a_matrix() -> None:
    drawn = compare_bounds(SIGMA, shape=(50, 30), values=[4], bounds="lplr-sharp-bound", **QUICK)
    assert drawn.shape == (50, 30)
    assert drawn.energy == pytest.approx(np.square(SIGMA).sum())
    np.save("m.npy", A)
    np.savez("m.npz", mine=A, other=np.eye(3))
    for name in ("m.npy", Path("m.npy"), "m.npz:mine"):
        assert compare_bounds(name, values=[4], **QUICK).rows() == (
            compare_bounds(A, values=[4], **QUICK).rows()
        )


def test_same_bits_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = compare_bounds(A, **QUICK)
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    assert compare_bounds(A, **QUICK).rows() == alone.rows()
    assert compare_bounds(A, **QUICK | {"rng": 1}).rows() != alone.rows()


def test_progress_rises_to_one() -> None:
    seen: list[tuple[float, str]] = []
    compare_bounds(A, values=[1, 2], progress=lambda *said: seen.append(said), **QUICK)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert {"pilot trials", "bounds", "simulation"} <= {what for _, what in seen}
