"""The engine that puts statements to the test: statistics, streams, verdicts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lplr.exceptions import InputError, LplrError
from lplr.parallel import reproducible
from lplr.theory.montecarlo import Cell, Outcome, Statement, Status, run
from lplr.theory.statements import STATEMENTS
from lplr.theory.streaming import LogHistogram, Moments, Tally

Draw = Callable[[np.random.Generator], Outcome]


def statement(draw: Draw, kind: str = "expectation", cells: int = 1, name: str = "s") -> Statement:
    return Statement(
        name, "", "", kind, lambda setting, rng: draw, tuple({"cell": i} for i in range(cells))
    )


def exponential(bound: float, kind: str = "expectation") -> Statement:
    return statement(lambda rng: Outcome(rng.exponential(), bound), kind)


def only(cells: list[Cell]) -> Cell:
    assert len(cells) == 1
    return cells[0]


# --- statistics ---------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60),
    st.lists(st.integers(1, 59), max_size=6),
)
def test_moments_of_parts_are_those_of_the_whole(values: list[float], cuts: list[int]) -> None:
    x = np.array(values)
    total = Moments()
    for part in np.split(x, sorted({c for c in cuts if c < len(x)})):
        total.merge(Moments.of(part))
    assert total.count == len(x)
    # Sums of up to 60 terms: each loses at most half a unit in the last place of the largest.
    spread = np.abs(x).max()
    assert total.mean == pytest.approx(x.mean(), abs=1e-14 * spread)
    assert total.standard_error == pytest.approx(
        x.std(ddof=1) / np.sqrt(len(x)), abs=1e-7 * spread, rel=1e-10
    )


def test_moments_survive_a_large_offset() -> None:
    # The naive formula E x^2 - (E x)^2 has no digit left here.
    x = 1e9 + np.random.default_rng(0).standard_normal(1000)
    total = Moments()
    for part in np.split(x, 10):
        total.merge(Moments.of(part))
    assert total.standard_error == pytest.approx(x.std(ddof=1) / np.sqrt(1000), rel=1e-6)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_order_statistics_within_the_stated_accuracy(
    values: list[float], share: float
) -> None:
    x = np.array(values)
    histogram = LogHistogram()
    for part in np.array_split(x, min(3, len(x))):
        histogram.merge(LogHistogram.of(part))
    found = histogram.quantiles([share])[0]
    exact = np.quantile(x, share, method="inverted_cdf")
    # A hair more than half a bin, for the rounding of the logarithm at the edge of one.
    assert abs(np.log2(found / exact)) <= 1 / 128 + 1e-9


def test_zeros_and_rounding_errors_below_zero_are_the_lowest_quantiles() -> None:
    histogram = LogHistogram.of(np.array([0.0, -1e-18, 1.0, 4.0]))
    low, high = histogram.quantiles([0.5, 1.0])
    assert low == 0
    assert high == pytest.approx(4.0, rel=0.0055)


def test_memory_does_not_grow_with_the_trials() -> None:
    rng = np.random.default_rng(0)
    total = Tally()
    for _ in range(200):
        value = rng.uniform(1, 2, 500)
        total.merge(Tally.of(value, np.ones(500), np.zeros(500), np.zeros(500)))
    assert total.value.count == 100_000
    assert len(total.histogram.bins) <= 64


# --- streams ------------------------------------------------------------------------------------


def test_same_bits_in_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Names, not statements: more than the quarter of a second after which others take over.
    names = ["lplr", "ldlq"]
    found = []
    for processes in ("1", "2"):
        monkeypatch.setenv("LPLR_NUM_THREADS", processes)
        found.append(run([*names, _where()], trials=30, rng=5))
    # repr, so that NaN equals NaN
    assert repr(found[0][:-1]) == repr(found[1][:-1])
    assert found[0][-1].mean == os.getpid()
    assert found[1][-1].mean != os.getpid()


def _where() -> Statement:
    return statement(lambda rng: Outcome(float(os.getpid()), 1.0), name="where")


def test_a_cell_of_many_trials_is_shared_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")

    def draw(rng: np.random.Generator) -> Outcome:
        time.sleep(0.002)
        return Outcome(float(os.getpid()), 1.0)

    cell = only(run([statement(draw)], trials=2000, rng=0))
    assert cell.standard_error > 0  # of the numbers of the processes: there were several


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


def _small(name: str) -> Statement:
    return replace(STATEMENTS[name], grid=STATEMENTS[name].grid[:2], full=())


def test_a_cell_does_not_depend_on_the_table_it_is_in() -> None:
    alone = run([_small("sketch-energy")], trials=20, rng=1)
    among = run([_small("range-finder"), _small("sketch-energy")], trials=20, rng=1)
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
    first, second = (
        only(run([exponential(1)], trials=5, rng=np.random.default_rng(3))) for _ in range(2)
    )
    assert first.mean == second.mean
    assert run([exponential(1)], trials=5)[0].mean != run([exponential(1)], trials=5)[0].mean


# --- verdicts -----------------------------------------------------------------------------------


def test_cell_reports_what_it_measured() -> None:
    cell = only(run([exponential(2.0)], trials=2000, rng=0))
    assert cell.trials == 2000
    assert cell.bound == 2
    assert cell.saturated == 0
    # 5 standard errors of a mean of exponentials
    assert cell.mean == pytest.approx(1, abs=5 / np.sqrt(2000))
    assert cell.standard_error == pytest.approx(1 / np.sqrt(2000), rel=0.2)
    assert cell.ratio == cell.mean / 2
    # Of quantiles, the density at the 95th being 0.05: 5 of their standard deviations.
    expected = -np.log(1 - np.array([0.05, 0.25, 0.5, 0.75, 0.95]))
    deviation = np.sqrt(np.array([0.05, 0.25, 0.5, 0.75, 0.95]) / np.exp(-expected) / 2000)
    assert (np.abs(cell.quantiles - expected) < 5 * deviation + 0.006 * expected).all()


def test_expectation_holds_at_its_value_and_is_refuted_a_little_below() -> None:
    # Mean 1, deviation 1: at 4000 trials 10 % are 6.3 standard errors, and 4.9 refute.
    assert only(run([exponential(1.0)], trials=4000, rng=0)).verdict == "holds"
    refuted = only(run([exponential(0.9)], trials=4000, rng=0))
    assert refuted.verdict == "refuted"
    assert refuted.p_value < 1e-6


def test_pairing_cancels_what_value_and_bound_share() -> None:
    def draw(rng: np.random.Generator) -> Outcome:
        common = rng.exponential()
        return Outcome(1.01 * common, common)

    # Unpaired, 1 % would be a fifth of a standard error.
    assert only(run([statement(draw)], trials=400, rng=0)).verdict == "refuted"


def test_level_is_that_of_the_whole_table() -> None:
    marginal = exponential(0.85)
    p = only(run([marginal], trials=400, rng=0)).p_value
    assert 0 < p < 0.1
    assert only(run([marginal], trials=400, rng=0, level=2 * p)).verdict == "refuted"
    others = statement(lambda rng: Outcome(0.0, 1.0), cells=9, name="others")
    assert run([marginal, others], trials=400, rng=0, level=2 * p)[0].verdict == "holds"
    # Statements that are not tested by a mean do not count.
    exact = statement(lambda rng: Outcome(1.0, 1.0), "identity", cells=9, name="exact")
    assert run([marginal, exact], trials=400, rng=0, level=2 * p)[0].verdict == "refuted"


def test_heavy_tails_to_the_right_make_the_test_conservative() -> None:
    # 1 over chi-squared of 3 degrees has mean 1 and no variance: that of |(V'S)^+|^2 at m = k + 2.
    heavy = statement(lambda rng: Outcome(1 / rng.chisquare(3), 1.0), cells=300)
    p = np.array([cell.p_value for cell in run([heavy], trials=60, rng=0)])
    # If p were uniform, 3 of 300 would be below 0.01, and more than 15 once in 10^6 tables.
    assert (p < 0.01).sum() <= 3
    assert (p > 0.5).sum() > 150  # most samples lack the tail: their mean is below the true one


def test_always_and_identity_allow_for_rounding_and_for_nothing_else() -> None:
    def verdict(kind: str, value: float, bound: float, rounding: float = 0.0) -> str:
        outcome = Outcome(value, bound, rounding=rounding)
        return only(run([statement(lambda rng: outcome, kind)], trials=2, rng=0)).verdict

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
    draw = statement(lambda rng: Outcome(next(seen), 1.0), "always")
    cell = only(run([draw], trials=100, rng=0))
    assert cell.verdict == "refuted"
    assert cell.worst == 1.5


@pytest.mark.parametrize("kind", ["expectation", "always", "identity"])
@pytest.mark.parametrize("value", [0.0, 5.0])
def test_saturation_is_neither_success_nor_refutation(kind: str, value: float) -> None:
    def draw(rng: np.random.Generator) -> Outcome:
        return Outcome(value, 1.0, saturated=bool(rng.random() < 0.5))

    cell = only(run([statement(draw, kind)], trials=40, rng=0))
    assert cell.verdict == "assumption not met"
    assert 5 < cell.saturated < 35  # of 40 fair coins: all but 1 in 10^6


def test_a_bound_of_zero_has_no_ratio() -> None:
    cell = only(run([statement(lambda rng: Outcome(0.0, 0.0))], trials=3, rng=0))
    assert np.isnan(cell.ratio)
    assert np.isnan(cell.worst)
    assert cell.verdict == "holds"


# --- errors, progress, threads ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "options", "named"),
    [
        (["no-such-bound"], {}, "statements: 'no-such-bound' is not one of lplr"),
        ([3], {}, "statements: 3"),
        ([], {}, "statements: is empty"),
        (["lplr"], {"trials": 1}, "trials"),
        (["lplr"], {"trials": 2.5}, "trials"),
        (["lplr"], {"level": 0}, "level"),
        (["lplr"], {"level": 1.0}, "level"),
        (["lplr"], {"level": float("nan")}, "level"),
        (["lplr"], {"rng": -1}, "rng"),
        (["lplr"], {"rng": "seed"}, "rng"),
        (["lplr"], {"rng": True}, "rng"),
    ],
)
def test_refusals(statements: list[str], options: dict[str, int], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}"):
        run(statements, **options)  # type: ignore[arg-type]


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


def test_progress_has_an_estimate() -> None:
    def draw(rng: np.random.Generator) -> Outcome:
        time.sleep(0.0005)
        return Outcome(0.0, 1.0)

    seen: list[Status] = []
    run([statement(draw, cells=4)], trials=64, rng=0, progress=seen.append)
    assert [s.cell for s in seen] == sorted(s.cell for s in seen)
    assert {s.cells for s in seen} == {4}
    assert {s.statement for s in seen} == {"s"}
    assert all(s.elapsed >= 0 and s.remaining >= 0 and 0 <= s.share <= 1 for s in seen)
    assert seen[0].remaining > 0
    assert seen[-1].cell == 3
    assert seen[-1].remaining < seen[0].remaining
    assert seen[-1].share > 0.5


def test_trials_of_lplr_cost_little_more_than_their_products() -> None:
    n, d, m, trials = 512, 256, 40, 96
    setting = {"matrix": "k^-1", "n": n, "d": d, "m": m, "bits": 4}
    lplr = replace(STATEMENTS["lplr-own-range"], grid=(setting,), full=())
    rng = np.random.default_rng(0)
    A, S, L = (rng.standard_normal(shape) for shape in ((n, d), (d, m), (n, m)))

    def products() -> None:
        with reproducible():
            for _ in range(trials):
                A @ S
                L.T @ L
                L.T @ A

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    # The matrix of the cell is made once, which is no part of its trials.
    once = min(seconds(lambda: run([lplr], trials=2, rng=0)) for _ in range(3))
    ratios = []
    for _ in range(5):
        bare = seconds(products)
        ratios.append((seconds(lambda: run([lplr], trials=trials, rng=0)) - once) / bare)
    # 2.1 to 3 when quiet; the target is 5, and other work may disturb any one round.
    assert min(ratios) < 5
