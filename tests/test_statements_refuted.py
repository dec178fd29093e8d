"""Every way to break a statement, a constant, a term or the simulation, is refuted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lplr.theory import bounds, simulate
from lplr.theory.montecarlo import run
from lplr.theory.records import Cell, Outcome, Setting, Statement, Trial
from lplr.theory.statements import STATEMENTS, ldlq, lplr, quantizers
from lplr.theory.statements import two_sided as both_sides


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test alters is altered in this process alone."""
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")


def cells_of(
    name: str, settings: Callable[[Setting], bool] | None = None, trials: int = 200
) -> list[Cell]:
    grid = tuple(s for s in STATEMENTS[name].grid if settings is None or settings(s))
    return run([replace(STATEMENTS[name], grid=grid, full=())], trials=trials, rng=0)


def altered(name: str, change: Callable[[Outcome, Setting], Outcome]) -> Statement:
    """The statement with another right-hand side; its grid and trials as they are."""
    s = STATEMENTS[name]

    def prepare(setting: Setting, rng: np.random.Generator) -> Trial:
        trial = s.prepare(setting, rng)
        return lambda rng: change(trial(rng), setting)

    return replace(s, prepare=prepare, full=())


def scaled(factor: float) -> Callable[[Outcome, Setting], Outcome]:
    return lambda outcome, setting: outcome._replace(bound=factor * outcome.bound)


def refuted(statement: Statement, trials: int = 200) -> list[Cell]:
    return [c for c in run([statement], trials=trials, rng=0) if c.verdict == "refuted"]


@pytest.mark.parametrize(
    "name", ["lplr-nested-bound", "lplr-bound", "range-finder-bound", "ldlq-expected-loss-dithered"]
)
def test_constant_halved(name: str) -> None:
    grid = tuple(s for s in STATEMENTS[name].grid if s["matrix"] in ("flat", "k^-1"))[:12:2]
    assert not refuted(replace(STATEMENTS[name], grid=grid, full=()), trials=60)
    assert refuted(replace(altered(name, scaled(0.5)), grid=grid), trials=60)


def test_term_of_the_right_factor_halved() -> None:
    def wrong(sigma: np.ndarray, shape: tuple[int, int], m: int, steps: tuple, **k: int) -> float:
        exact = bounds.lplr_bound(sigma, shape, m, (steps[0], 0.0), **k)
        return (exact + bounds.lplr_bound(sigma, shape, m, steps, **k)) / 2

    s = STATEMENTS["lplr-bound"]
    coarse = tuple(x for x in s.grid if x["matrix"] == "k^-1" and x["bits"] == 1)
    true = replace(s, grid=coarse, full=())
    assert not refuted(true, trials=60)
    assert refuted(replace(true, prepare=partial(lplr._fixed_steps, bound=wrong)), trials=60)


def test_m_minus_k_plus_one() -> None:
    def plus(outcome: Outcome, setting: Setting) -> Outcome:
        m, k = setting["m"], setting["k"]
        return outcome._replace(bound=m * k / (m - k + 1))

    # Not the largest k at each m, whose tail is too heavy to tell in so many trials.
    broken = altered("pseudo-inverse", plus)
    grid = tuple(s for s in broken.grid if s["k"] in (2, s["m"] // 2))
    assert len(refuted(replace(broken, grid=grid), trials=1500)) == len(grid) == 6


@pytest.mark.parametrize(
    "name",
    [
        "dithered-variance-bound",
        "naive-bound-dithered",
        "ldlq-expected-loss-dithered",
        "nearest-error-bound",
        "two-sided-expected-loss-dithered",
    ],
)
def test_quarter_of_a_squared_step_becomes_a_sixteenth(name: str) -> None:
    # All these bounds are step^2/4 times what does not depend on the step.
    broken = altered(name, scaled(0.25))
    broken = replace(broken, grid=broken.grid[::5])
    assert len(refuted(broken, trials=40)) == len(broken.grid)


def test_feedback_in_the_wrong_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(
        W: np.ndarray, C: np.ndarray, step: float, dither: simulate.Dither
    ) -> tuple[np.ndarray, np.ndarray]:
        """The errors are subtracted where they should be added."""
        E, eta = np.empty_like(W), np.empty_like(W)
        u = np.broadcast_to(dither(W.shape), W.shape)
        for k in range(len(W) - 1, -1, -1):
            y = W[k] - C[k + 1 :, k] @ E[k + 1 :]
            Q = step * (np.floor(y / step + (u[k] - 0.5)) + 0.5)
            E[k], eta[k] = W[k] - Q, y - Q
        return E, eta

    def backwards(
        W: np.ndarray, C: np.ndarray, step: float, dither: simulate.Dither
    ) -> tuple[np.ndarray, np.ndarray]:
        """From the first row to the last, with the factor that is made for last to first."""
        E, eta = simulate.feedback_round(W[::-1], C[::-1, ::-1].T, step, dither)
        return E[::-1], eta[::-1]

    def some(s: Setting) -> bool:
        return s["matrix"] in ("k^-2", "low-rank") and s["bits"] in (2, 8)

    for broken in (wrong, backwards):
        monkeypatch.setattr(ldlq, "feedback_round", broken)
        for name in ("ldlq-loss", "ldlq-expected-loss-dithered", "ldlq-expected-loss-nearest"):
            assert {c.verdict for c in cells_of(name, some, 30)} == {"refuted"}


def test_feedback_on_both_sides_that_is_wrong_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def altered_rows(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., object]:
        def wrong(W: np.ndarray, B: np.ndarray, *rest: object) -> object:
            return simulate.two_sided_round(W, change(B), *rest)  # type: ignore[arg-type]

        return wrong

    def outliers(s: Setting) -> bool:
        return s["matrix"] == "k^-2" and s["outputs"] == "outlier"

    def eye(B: np.ndarray) -> np.ndarray:
        return np.eye(len(B))

    def subtracted(B: np.ndarray) -> np.ndarray:
        return 2 * np.eye(len(B)) - B

    for change in (eye, subtracted):  # errors of other rows forgotten; subtracted, not added
        monkeypatch.setattr(both_sides, "two_sided_round", altered_rows(change))
        for name in ("two-sided-loss", "two-sided-expected-loss-subtractive"):
            assert {c.verdict for c in cells_of(name, outliers, 60)} == {"refuted"}


def test_trace_in_place_of_the_pivots_of_one_side() -> None:
    """A tr(D_G) that is too small by what feedback down the columns gains is refuted."""
    s = STATEMENTS["two-sided-gain"]
    broken = altered("two-sided-gain", scaled(0.8))
    grid = tuple(x for x in s.grid if x["matrix"] == "flat")
    assert not refuted(replace(s, grid=grid, full=()), trials=100)
    assert len(refuted(replace(broken, grid=grid), trials=100)) == len(grid) == 2


def test_incoherence_left_out() -> None:
    """``tr(D) <= tr(H^1/2)^2/d``: true of a flat diagonal of the root only."""

    def prepare(setting: Setting, rng: np.random.Generator) -> Trial:
        trial = STATEMENTS["incoherent-pivot-bound"].prepare(setting, rng)
        sigma = np.arange(1.0, setting["d"] + 1) ** -2.0
        root = float(np.sqrt(sigma + 1e-6 * sigma.mean()).sum())
        return lambda rng: trial(rng)._replace(bound=root**2 / setting["d"])

    broken = replace(STATEMENTS["incoherent-pivot-bound"], prepare=prepare, full=())
    grid = tuple(s for s in broken.grid if s["matrix"] == "k^-2" and s["d"] == 8)
    assert len(refuted(replace(broken, grid=grid), trials=50)) == len(grid) == 1


def test_biased_dither(monkeypatch: pytest.MonkeyPatch) -> None:
    def biased(rng: np.random.Generator) -> simulate.Dither:
        draw = simulate.cheap_dither(rng)
        return lambda shape: 0.9 * draw(shape)

    monkeypatch.setattr(quantizers, "cheap_dither", biased)
    found = cells_of("dithered-moments-mean", lambda s: s["bits"] == 4)
    assert {c.verdict for c in found} == {"refuted"}


def test_range_that_is_too_small_is_an_assumption_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def some(s: Setting) -> bool:
        return s["matrix"] == "k^-1" and s["bits"] == 4 and s["m"] == 8

    monkeypatch.setattr(lplr, "_FAILURE", 0.9)
    for cell in cells_of("lplr-bound", some):
        assert cell.verdict == "assumption not met"
        assert 0 < cell.saturated < cell.trials


def test_range_for_ten_times_the_failures_is_refuted() -> None:
    broken = altered("sketch-range", scaled(0.1))
    # Where rows are alike, the union bound is nearly exact; elsewhere entries share their fate.
    grid = tuple(
        s for s in broken.grid if s["failure_probability"] == 0.5 and s["matrix"] == "flat"
    )
    assert len(refuted(replace(broken, grid=grid))) == len(grid)
