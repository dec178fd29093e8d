"""``lplr bench profile``: each moment is of one step, and what threads cannot share is told."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from lplr.cli.main import main
from lplr.evaluation.profile_steps import STEPS, WORKS, code_of
from lplr.evaluation.stopwatch import REST, Stopwatch
from lplr.parallel import run_blocks


def outer(blocks: int) -> None:
    time.sleep(0.02)
    run_blocks(lambda i, j: inner(), blocks, 1)


def inner() -> None:
    time.sleep(0.01)


def watched(blocks: int) -> Stopwatch:
    steps = {outer.__code__: "outer", inner.__code__: "inner"}
    works = {inner.__code__: lambda given: ("bytes", 3.0)}
    with Stopwatch(steps.get, works) as watch:
        start = time.perf_counter()
        outer(blocks)
        passed = time.perf_counter() - start
    assert sum(watch.seconds.values()) >= passed  # entering and leaving as well
    return watch


def test_a_moment_belongs_to_the_innermost_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    watch = watched(3)
    # What sleeps is inside: `sleep` never returns early.
    assert watch.seconds["outer", 1] >= 0.02
    assert watch.seconds["inner", 3] >= 0.03
    assert {step for step, _ in watch.seconds} == {"outer", "inner", REST}
    assert watch.calls == {"outer": 1, "inner": 3}
    assert watch.work == {("inner", "bytes"): 9.0}
    assert ("inner", 1) in watched(1).seconds  # one block is no work to share


def test_waiting_for_other_threads_is_time_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    caller = threading.get_ident()

    def block(i: int, j: int) -> None:
        mine = threading.get_ident() == caller
        inner() if mine else time.sleep(0.05)

    with Stopwatch({inner.__code__: "inner"}.get, {}) as watch:
        start = time.perf_counter()
        run_blocks(block, 2, 1)
        passed = time.perf_counter() - start
    shared = {step: seconds for (step, blocks), seconds in watch.seconds.items() if blocks == 2}
    assert set(shared) <= {"inner", REST}
    assert sum(watch.seconds.values()) >= passed


@pytest.mark.parametrize("target", sorted({*sum(STEPS.values(), ()), *WORKS}))
def test_every_function_of_the_table_is_there(target: str) -> None:
    if ":" in target:
        assert code_of(target).co_name == target.split(".")[-1].split(":")[-1]
    else:
        __import__(target)


@pytest.fixture
def _peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"float32": 1e11, "float64": 5e10, "bytes": 1e10}
    monkeypatch.setattr("lplr.evaluation.profile.measured_peaks", lambda count: found)


@pytest.mark.usefixtures("_peaks")
@pytest.mark.parametrize(
    "options", [(), ("--method", "caldera", "--rank", "16"), ("--method", "factorize")]
)
def test_steps_cover_the_time(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "profile.html"
    command = ["bench", "profile", "--size", "300x200", *options, "--html", str(page)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    seconds = {row["step"]: row["seconds"] for row in found["rows"]}
    assert seconds.get(REST, 0.0) <= 0.1 * found["total"]["seconds"]
    assert "code search" in page.read_text()


@pytest.mark.usefixtures("_peaks")
def test_functions_are_steps(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "profile", "--method", "quantize", "--size", "30x20", "--functions"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "coding/rounding:round_matrix" in shown
    assert "30 x 20, 2 bits, without a Hessian" in shown


@pytest.mark.usefixtures("_peaks")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "0x4"), "--size: must be two numbers"),
        (("--rank", "3"), "--rank: lplr.compress takes none"),
    ],
)
def test_what_is_refused(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "profile", *options]) == 2
    assert said in capsys.readouterr().err
