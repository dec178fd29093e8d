"""The statements as simulations: what the registry has, and that each holds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.theory import bounds
from lplr.theory.montecarlo import run
from lplr.theory.records import KINDS
from lplr.theory.statements import STATEMENTS, find_statements, matrices

ALL = tuple(STATEMENTS)
TRUE = {"holds", "not refuted"}  # what is an equality is measured above itself half of the time


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few trials are not worth other processes."""
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")


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
    s = STATEMENTS["lplr-nested-bound"]
    grid = tuple(
        x
        for x in s.grid
        if x["matrix"] in matrices.DECAYING and x["n"] == 96 and x["bits"] in (1, 12)
    )
    found = run([replace(s, grid=grid, full=())], trials=30, rng=0)
    assert len(found) == 24
    assert min(cell.ratio for cell in found) > 0.4
