"""The statements as simulations: each holds, each broken one is refuted, each trial is honest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.theory import bounds, simulate
from lplr.theory.montecarlo import run
from lplr.theory.records import KINDS, Cell, Outcome, Setting, Statement, Trial
from lplr.theory.statements import STATEMENTS, find_statements, ldlq, lplr, matrices, quantizers
from lplr.theory.statements import two_sided as both_sides

ALL = tuple(STATEMENTS)
TRUE = {"holds", "not refuted"}  # what is an equality is measured above itself half of the time


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test alters is altered in this process alone."""
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")


def cells_of(
    name: str, settings: Callable[[Setting], bool] | None = None, trials: int = 200
) -> list[Cell]:
    grid = tuple(s for s in STATEMENTS[name].grid if settings is None or settings(s))
    return run([replace(STATEMENTS[name], grid=grid, full=())], trials=trials, rng=0)


# --- the registry and its grid ------------------------------------------------------------------


def test_registry_is_well_formed() -> None:
    assert len(STATEMENTS) == 43
    for name, s in STATEMENTS.items():
        assert s.name == name
        assert s.kind in KINDS
        assert s.title
        assert s.source
        keys = [json.dumps(setting, sort_keys=True) for setting in s.grid + s.full]
        assert len(set(keys)) == len(keys) > 0
        for setting in s.grid + s.full:
            assert all(type(value) in (int, float, str) for value in setting.values())


def test_grid_covers_spectra_shapes_sketches_and_bits() -> None:
    for name in (
        "lplr-bound",
        "lplr-sharp-bound",
        "lplr-nested-bound",
        "lplr-bound-own-range",
        "feedback-lplr-bound",
    ):
        grid = STATEMENTS[name].grid
        assert {s["matrix"] for s in grid} == {
            *("flat", "k^-1/2", "k^-1", "k^-2", "exponential", "low-rank", "outlier")
        }
        assert {np.sign(s["n"] - s["d"]) for s in grid} == {-1, 0, 1}
        assert {s["bits"] for s in grid} >= {1, 2, 3, 4, 6, 8, 12}
    assert any(s.get("k") == s["m"] - 2 for s in STATEMENTS["lplr-bound"].grid)
    assert any(s["k"] == s["m"] - 2 for s in STATEMENTS["pseudo-inverse"].grid)


def test_a_statement_has_the_name_of_its_function() -> None:
    functions = [s.function for s in STATEMENTS.values() if s.function]
    assert set(functions) <= set(bounds.__all__)
    for name, s in STATEMENTS.items():
        assert name.startswith(s.function.replace("_", "-"))
        if s.function and functions.count(s.function) == 1:
            assert name == s.function.replace("_", "-")
    # Not statements, but arguments of some: how often a range is exceeded is in `saturated`.
    helpers = {"ldl_pivots", "ldlq_range", "pilot_range", "saturated_entries", "solution_range"}
    arguments = {"lplr_best_k", "lplr_bits", "uniform_step"}
    assert set(bounds.__all__) - set(functions) == helpers | arguments


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lplr-bound", ["lplr-bound"]),
        ("lplr_bound", ["lplr-bound"]),
        ("lplr.theory.bounds.lplr_bound", ["lplr-bound"]),
        ("dithered_variance_bound", ["dithered-variance-bound"]),
        ("Dithered moments", ["dithered-moments-mean", "dithered-moments-variance"]),
        ("lplr-theorem-3.2", ["lplr-theorem-3-2"]),
        ("naive_bound", ["naive-bound-dithered", "naive-bound-nearest"]),
    ],
)
def test_names_of_statements_and_of_functions_are_found(name: str, expected: list[str]) -> None:
    assert [s.name for s in find_statements(name)] == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dither-bound", "did you mean dithered-variance-bound"),
        ("theorem-3.2", "did you mean lplr-theorem-3-2"),
        ("lplr-boundd", "did you mean lplr-bound"),
        ("uniform_step", "is a function without a statement"),
        ("", "use one of lplr-bound"),
        (3, "neither a statement nor"),
    ],
)
def test_a_name_that_nothing_has(name: object, message: str) -> None:
    with pytest.raises(InputError, match=f"^statements: .*{message}"):
        find_statements(name)


@pytest.mark.parametrize("name", matrices.SPECTRA)
def test_matrices_have_their_spectrum(name: str) -> None:
    k = np.arange(1.0, 41)
    expected = {
        "flat": k**0,
        "k^-1/2": k**-0.5,
        "k^-1": 1 / k,
        "k^-2": k**-2,
        "exponential": np.exp(-(k - 1) / 5),
        "low-rank": np.where(k <= 8, 1.0, 0.0),
        "outlier": np.where(k == 1, 10.0, 1.0),
    }[name]
    setting = {"matrix": name, "n": 40, "d": 96}
    found = matrices.decomposed(setting, np.random.default_rng(0))
    np.testing.assert_allclose(found.sigma, expected, atol=1e-13)
    assert np.count_nonzero(found.sigma) == np.count_nonzero(expected)
    np.testing.assert_allclose((found.U * found.sigma) @ found.V.T, found.A, atol=1e-13)
    assert found.energy == pytest.approx((expected**2).sum())
    given = matrices.weighted_problem({"matrix": name, "n": 5, "d": 40}, np.random.default_rng(0))
    damped = expected + 0.01 * expected.mean()
    np.testing.assert_allclose(np.linalg.eigvalsh(given.H)[::-1], damped, atol=1e-12)


# --- the truth holds ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_holds_across_its_grid(name: str) -> None:
    grid = STATEMENTS[name].grid
    sample = replace(STATEMENTS[name], grid=grid[:: -(-len(grid) // 4)], full=())
    assert {cell.verdict for cell in run([sample], trials=20, rng=1)} <= TRUE


# Equalities in the mean: a test that refuted at the wrong side of its level would show here.
@pytest.mark.parametrize(
    "name",
    [
        "pseudo-inverse",
        "dithered-moments-variance",
        "dithered-moments-mean",
        "sketch-energy",
        "ldlq-expected-loss-high-rate",
        "two-sided-expected-loss-subtractive",
    ],
)
def test_thin_margins_are_not_refuted(name: str) -> None:
    grid = STATEMENTS[name].grid
    thin = replace(STATEMENTS[name], grid=grid[:: -(-len(grid) // 4)], full=())
    found = run([thin], trials=200, rng=2)
    assert {cell.verdict for cell in found} <= TRUE
    # m = k + 2 has no variance, and so no useful standard error.
    regular = [c for c in found if c.setting.get("k") != c.setting.get("m", 0) - 2]
    for cell in regular:
        assert cell.ratio == pytest.approx(1, abs=6 * cell.standard_error / cell.bound + 1e-6)


def test_real_matrices_hold() -> None:
    for name in ("lplr-nested-bound", "caldera-theorem-4-1-spectral", "range-finder-bound"):
        s = STATEMENTS[name]
        small = [x for x in s.full if x["matrix"] in ("minilm_l2_query", "shepp_logan")][:1]
        (cell,) = run([replace(s, grid=tuple(small), full=())], trials=4, rng=0)
        assert cell.verdict == "holds"
        assert 0.1 < cell.ratio < 1


def test_full_adds_real_matrices_to_the_grid() -> None:
    s = STATEMENTS["naive-bound-nearest"]
    real = tuple(x for x in s.full if x["matrix"] == "shepp_logan")
    small = replace(s, grid=s.grid[:1], full=real)
    assert [c.setting["matrix"] for c in run([small], trials=2, rng=0)] == ["flat"]
    full = run([small], trials=2, rng=0, full=True)
    assert [c.setting["matrix"] for c in full] == ["flat", "shepp_logan", "shepp_logan"]


def test_nested_bound_is_within_two_and_a_half_on_decaying_spectra() -> None:
    found = cells_of(
        "lplr-nested-bound",
        lambda s: s["matrix"] in matrices.DECAYING and s["n"] == 96 and s["bits"] in (1, 12),
        trials=30,
    )
    assert len(found) == 24
    assert min(cell.ratio for cell in found) > 0.4


# --- what is wrong is refuted -------------------------------------------------------------------


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
