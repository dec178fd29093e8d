"""The engine that tests statements: random streams, verdicts, errors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import InputError, LplrError
from lplr.theory.montecarlo import _p_value, run
from lplr.theory.records import QUANTILES, Cell, Outcome, Statement
from lplr.theory.statements import STATEMENTS

Draw = Callable[[np.random.Generator], Outcome]


def statement(draw: Draw, kind: str = "expectation", cells: int = 1, name: str = "s") -> Statement:
    return Statement(
        name, "", "", kind, lambda setting, rng: draw, tuple({"cell": i} for i in range(cells))
    )


def exponential(bound: float, kind: str = "expectation") -> Statement:
    return statement(lambda rng: Outcome(rng.exponential(), bound), kind)


def only(statement: Statement, trials: int, **options: Any) -> Cell:
    (cell,) = run([statement], trials=trials, **{"rng": 0} | options)
    return cell


def small(name: str, cells: int = 2) -> Statement:
    return replace(STATEMENTS[name], grid=STATEMENTS[name].grid[:cells], full=())


# --- streams ------------------------------------------------------------------------------------


def test_same_bits_in_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    # A cell of several blocks, enough work before it that other processes have taken over.
    slow = statement(lambda rng: Outcome(time.sleep(2e-3) or rng.random(), 1.0), name="slow")  # type: ignore[func-returns-value]
    where = statement(lambda rng: Outcome(float(os.getpid()), 1.0), name="where")
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv("LPLR_NUM_THREADS", processes)
        found.append(run([slow, small("lplr-bound"), where], trials=450, rng=5))
    # repr, so that NaN equals NaN
    assert repr(found[0][:-1]) == repr(found[1][:-1])
    assert found[0][-1].mean == os.getpid()
    assert found[1][-1].mean != os.getpid()


def test_a_statement_that_cannot_be_sent_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()

    def draw(rng: np.random.Generator) -> Outcome:
        with lock:
            time.sleep(0.01)
        return Outcome(0.0, 1.0)

    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    with pytest.raises(LplrError, match="^statements: .*LPLR_NUM_THREADS=1"):
        run([statement(draw, cells=4)], trials=20, rng=0)
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    assert len(run([statement(draw, cells=4)], trials=20, rng=0)) == 4


def test_a_cell_does_not_depend_on_the_table_it_is_in() -> None:
    alone = run([small("sketch-energy")], trials=20, rng=1)
    among = run([small("range-finder-bound"), small("sketch-energy")], trials=20, rng=1)
    assert repr(among[2:]) == repr(alone)


def test_trials_and_cells_have_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")  # copies elsewhere would append elsewhere
    seen: list[float] = []

    def draw(rng: np.random.Generator) -> Outcome:
        seen.append(float(rng.random()))
        return Outcome(seen[-1], 1.0)

    run([statement(draw, cells=3), statement(draw, cells=2, name="t")], trials=50, rng=0)
    assert len(set(seen)) == len(seen) == 250
    assert run([statement(draw)], trials=50, rng=0) != run([statement(draw)], trials=50, rng=1)


def test_seed_generator_and_none() -> None:
    first, second = (only(exponential(1), 5, rng=np.random.default_rng(3)) for _ in range(2))
    assert first.mean == second.mean
    assert only(exponential(1), 5, rng=None).mean != only(exponential(1), 5, rng=None).mean


# --- verdicts -----------------------------------------------------------------------------------


def test_cell_reports_what_it_measured() -> None:
    cell = only(exponential(2.0), 2000)
    assert (cell.trials, cell.bound, cell.saturated) == (2000, 2, 0)
    # 5 standard errors of a mean of exponentials
    assert cell.mean == pytest.approx(1, abs=5 / np.sqrt(2000))
    assert cell.standard_error == pytest.approx(1 / np.sqrt(2000), rel=0.2)
    assert cell.ratio == cell.mean / 2
    # 5 standard deviations of a sample quantile, which depend on the density there.
    expected = -np.log(1 - np.array(QUANTILES))
    deviation = np.sqrt(np.array(QUANTILES) / np.exp(-expected) / 2000)
    assert (np.abs(cell.quantiles - expected) < 5 * deviation).all()


def test_expectation_holds_at_its_value_and_is_refuted_a_little_below() -> None:
    # Mean 1, deviation 1: at 4000 trials 10 % are 6.3 standard errors, and 4.9 refute.
    assert only(exponential(1.1), 4000).verdict == "holds"
    assert only(exponential(1.0), 4000).verdict in ("holds", "not refuted")
    refuted = only(exponential(0.9), 4000)
    assert refuted.verdict == "refuted"
    assert refuted.p_value < 1e-6


def test_a_mean_above_the_bound_is_never_said_to_hold() -> None:
    found = [only(exponential(1.0), 50, rng=seed) for seed in range(40)]
    for cell in found:
        assert cell.verdict == ("not refuted" if cell.ratio > 1 else "holds")
        # Student's t is symmetric: a mean above is below one half, a mean below above it.
        assert (cell.p_value < 0.5) == (cell.ratio > 1)
    assert {cell.verdict for cell in found} == {"holds", "not refuted"}  # each 1 of 2: not by 1e-11


def test_pairing_cancels_what_value_and_bound_share() -> None:
    def draw(rng: np.random.Generator) -> Outcome:
        common = rng.exponential()
        return Outcome(1.01 * common, common)

    # Unpaired, 1 % would be a fifth of a standard error.
    assert only(statement(draw), 400).verdict == "refuted"


def test_level_is_that_of_the_whole_table() -> None:
    marginal = exponential(0.85)
    p = only(marginal, 400).p_value
    assert 0 < p < 0.1
    assert only(marginal, 400, level=2 * p).verdict == "refuted"
    others = statement(lambda rng: Outcome(0.0, 1.0), cells=9, name="others")
    assert run([marginal, others], trials=400, rng=0, level=2 * p)[0].verdict == "not refuted"
    # Statements that are not tested by a mean do not count.
    exact = statement(lambda rng: Outcome(1.0, 1.0), "identity", cells=9, name="exact")
    assert run([marginal, exact], trials=400, rng=0, level=2 * p)[0].verdict == "refuted"


def test_heavy_tails_to_the_right_make_the_test_conservative() -> None:
    # 1 over chi-squared of 3 degrees has mean 1 and no variance: that of |(V'S)^+|^2 at m = k + 2.
    excess = 1 / np.random.default_rng(0).chisquare(3, (3000, 60)) - 1
    p = np.array([_p_value(row, 0.0) for row in excess])
    # If p were uniform, 30 of 3000 would be below 0.01.
    assert (p < 0.01).sum() <= 30
    assert (p > 0.5).sum() > 1500  # most samples lack the tail: their mean is below the true one


def test_always_and_identity_allow_for_rounding_and_for_nothing_else() -> None:
    def verdict(kind: str, value: float, bound: float, rounding: float = 0.0) -> str:
        outcome = Outcome(value, bound, rounding=rounding)
        return only(statement(lambda rng: outcome, kind), 2).verdict

    assert verdict("always", 1 + 1e-13, 1.0) == "holds"
    assert verdict("always", 1 + 1e-11, 1.0) == "refuted"
    assert verdict("always", 0.5, 1.0) == "holds"
    assert verdict("identity", 0.5, 1.0) == "refuted"
    assert verdict("identity", 1 - 1e-11, 1.0) == "refuted"
    assert verdict("identity", 1 - 1e-11, 1.0, rounding=1e-10) == "holds"
    # Without spread, a mean is judged by rounding as well.
    assert verdict("expectation", 1 + 1e-13, 1.0) == "holds"
    assert verdict("expectation", 1 + 1e-11, 1.0) == "refuted"


def test_one_violation_refutes() -> None:
    seen = iter([*[0.5] * 70, 1.5, *[0.5] * 100])
    cell = only(statement(lambda rng: Outcome(next(seen), 1.0), "always"), 100)
    assert cell.verdict == "refuted"
    assert cell.worst == 1.5


@pytest.mark.parametrize("kind", ["expectation", "always", "identity"])
@pytest.mark.parametrize("value", [0.0, 5.0])
def test_saturation_is_neither_success_nor_refutation(kind: str, value: float) -> None:
    def draw(rng: np.random.Generator) -> Outcome:
        return Outcome(value, 1.0, saturated=bool(rng.random() < 0.5))

    cell = only(statement(draw, kind), 40)
    assert cell.verdict == "assumption not met"
    assert 5 < cell.saturated < 35  # of 40 fair coins: all but 1 in 10^6


def test_a_bound_of_zero_has_no_ratio() -> None:
    cell = only(statement(lambda rng: Outcome(0.0, 0.0)), 3)
    assert np.isnan(cell.ratio)
    assert np.isnan(cell.worst)
    assert cell.verdict == "holds"


# --- errors and progress ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "options", "named"),
    [
        (["no-such-bound"], {}, "statements: no statement and no function is called"),
        ([3], {}, "statements: 3"),
        ([], {}, "statements: is empty"),
        (["lplr-bound"], {"trials": 1}, "trials"),
        (["lplr-bound"], {"level": 0}, "level"),
        (["lplr-bound"], {"level": 1.0}, "level"),
        (["lplr-bound"], {"rng": -1}, "rng"),
    ],
)
def test_refusals(statements: list[Any], options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}"):
        run(statements, **options)


def test_kind_is_checked() -> None:
    with pytest.raises(InputError, match="^kind"):
        exponential(1.0, "sometimes")


@pytest.mark.parametrize("outcome", [Outcome(np.nan, 1.0), Outcome(1.0, np.inf)])
def test_what_is_not_finite_is_an_error_and_not_a_verdict(outcome: Outcome) -> None:
    with pytest.raises(LplrError, match="^s: trial 0 measured"):
        run([statement(lambda rng: outcome)], trials=2, rng=0)


def test_an_error_in_a_trial_ends_the_run() -> None:
    def draw(rng: np.random.Generator) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run([statement(draw)], trials=100, rng=0)


def test_progress_hears_of_all_trials() -> None:
    seen: list[tuple[float, str]] = []
    draws = statement(lambda rng: Outcome(0.0, 1.0), cells=2)
    run([draws], trials=450, rng=0, progress=lambda *done: seen.append(done))
    trials = [0, 200, 400, 450, 650, 850, 900]
    assert [share for share, _ in seen] == pytest.approx([n / 900 for n in trials], abs=1e-6)
    assert {what for _, what in seen} == {"s"}


# --- matrices of one's own ----------------------------------------------------------------------

MINE = np.random.default_rng(7).standard_normal((30, 20)) @ np.diag(1 / np.arange(1.0, 21))


def on_mine(name: str, **setting: Any) -> Statement:
    return replace(STATEMENTS[name], grid=({"matrix": "mine", **setting},), full=())


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("lplr-bound", {"m": 8, "bits": 3}),
        ("direct-svd-bound", {"m": 8, "bits": 3}),
        ("dithered-moments-variance", {"bits": 3}),
        ("nearest-error-bound", {"bits": 3}),
        ("range-finder-bound", {"m": 8, "power_iterations": 0}),
        ("ldlq-expected-loss-dithered", {"bits": 3}),
        ("caldera-theorem-4-1", {"k": 4, "bits": 3, "factor_bits": 8}),
    ],
)
def test_a_statement_on_a_matrix_of_ones_own(name: str, setting: dict[str, Any]) -> None:
    H = np.diag(np.arange(1.0, 21)) + 1.0
    cell = run([on_mine(name, **setting)], trials=40, rng=0, matrices={"mine": (MINE, H)})[0]
    assert cell.verdict in ("holds", "not refuted")
    assert cell.setting == {"matrix": "mine", "n": 30, "d": 20, **setting}
    # NumPy's numbers, as a range of NumPy has them, are the same setting.
    from_numpy = {key: np.int64(value) for key, value in setting.items()}
    again = run([on_mine(name, **from_numpy)], trials=40, rng=0, matrices={"mine": (MINE, H)})[0]
    assert (again.mean, again.setting) == (cell.mean, cell.setting)
    # It is this matrix: another one has another measured value.
    other = run([on_mine(name, **setting)], trials=40, rng=0, matrices={"mine": (MINE**3, H)})[0]
    assert cell.mean != other.mean


def test_a_matrix_of_ones_own_in_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = statement(lambda rng: Outcome(time.sleep(2e-3) or rng.random(), 1.0), name="slow")  # type: ignore[func-returns-value]
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv("LPLR_NUM_THREADS", processes)
        tests = [slow, on_mine("lplr-bound", m=8, bits=3)]
        found.append(run(tests, trials=450, rng=5, matrices={"mine": MINE}))
    assert found[0] == found[1] or repr(found[0]) == repr(found[1])


@pytest.mark.parametrize(
    ("tested", "matrices", "message"),
    [
        (on_mine("lplr-bound", m=8, bits=3), {}, "matrix: 'mine' is not one of flat"),
        (on_mine("ldlq-loss", bits=3), {}, "matrix: 'mine' is not one of flat"),
        (on_mine("lplr-bound", bits=3), {"mine": MINE}, "grid: the statement asks for 'm'"),
        (on_mine("lplr-bound", m=8, bits=3), {"mine": [[np.nan]]}, r"matrices\['mine'\]: has nan"),
        (on_mine("lplr-bound", m=8, bits=3, n=3), {"mine": MINE}, "matrices: 'mine' has the shape"),
        (on_mine("lplr-bound", m=8, bits=3), {"mine": 0 * MINE}, r"matrices\['mine'\]: is zero"),
        (on_mine("lplr-bound", matrix=MINE), {}, "grid: 'matrix' is the name"),
        (on_mine("lplr-bound", m=8, bits=3), [MINE], "matrices: must be a mapping"),
        (on_mine("lplr-bound", m=8, bits=3), {"mine": MINE, "o": MINE}, "matrices: no setting nam"),
        (on_mine("lplr-bound", m=8, bits=3), {"flat": MINE}, "matrices: 'flat' is the name of"),
        (on_mine("ldlq-loss", bits=3), {"mine": MINE}, "matrices: this statement is about a loss"),
        (on_mine("ldlq-ratio", bits=3), {"mine": MINE}, "matrices: this statement draws its own"),
        (on_mine("nearest-high-rate-error", bits=3), {"mine": MINE}, "matrices: this statement dr"),
    ],
)
def test_refusals_of_matrices(tested: Statement, matrices: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        run([tested], trials=2, rng=0, matrices=matrices)
