"""``lplr bounds``: the table, the files, the exit codes, and what the command refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.cli.bounds_report import as_row
from lplr.cli.main import main
from lplr.evaluation.bound_panels import panels_of
from lplr.evaluation.plot_bounds import figure_of_bound
from lplr.quantizers import QUANTIZERS
from lplr.storage.table import read_table, write_table
from lplr.theory import montecarlo, statements
from lplr.theory.records import Outcome, Statement, Trial
from lplr.theory.statements.matrices import SPECTRA

COMMAND = (sys.executable, "-m", "lplr", "bounds")


def _constant(factor: float, saturated: bool = False) -> Any:
    """Trials that measure the bound times a factor, within a few percent."""

    def prepare(setting: Any, rng: np.random.Generator) -> Trial:
        def trial(rng: np.random.Generator) -> Outcome:
            spread = rng.uniform(0.95, 1.05)
            return Outcome(factor * setting.get("m", 1) * spread, setting.get("m", 1), saturated)

        return trial

    return prepare


_GRID = tuple(
    {"matrix": matrix, "n": 3, "d": 2, "m": m} for matrix in ("flat", "k^-1") for m in (1, 2, 9)
)


def _statement(
    name: str, factor: float, saturated: bool = False, grid: tuple[Any, ...] = _GRID
) -> Statement:
    words = ({"matrix": "real", "n": 9, "d": 9, "m": 4},)
    prepare = _constant(factor, saturated)
    return Statement(name, f"{name}: at most m", "a source", "expectation", prepare, grid, words)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three statements: one true, one false, one of which nothing is known."""
    made = (
        _statement("true-one", 0.5),
        _statement("false-one", 2.0),
        _statement("unmet-one", 0.5, saturated=True),
    )
    monkeypatch.setattr(statements, "STATEMENTS", {s.name: s for s in made})
    monkeypatch.chdir(tmp_path)


def ran(capsys: pytest.CaptureFixture[str], code: int, *args: str) -> str:
    assert main(["bounds", "--trials", "30", *args]) == code
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    try:
        code: Any = main(["bounds", *args])
    except SystemExit as exit:  # of argparse
        code = exit.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("lplr: error: ")
    assert captured.err.count("\n") == 1
    assert not os.listdir()
    return captured.err


def test_all_holds(capsys: pytest.CaptureFixture[str]) -> None:
    out = ran(capsys, 0, "true-one")
    assert "true-one" in out
    assert "false-one" not in out
    assert "6 cells of 30 trials, seed 0" in out
    assert "6 hold" in out


def test_refuted_ones_are_listed_and_set_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    out = ran(capsys, 1)
    summary, _, listed = out.partition("\nrefuted:\n")
    table = [line.split() for line in summary.splitlines()[2:5]]
    assert [row[:6] for row in table] == [
        ["true-one", "6", "6", "0", "0", "0"],
        ["false-one", "6", "0", "0", "6", "0"],
        ["unmet-one", "6", "0", "0", "0", "6"],
    ]
    assert listed.count("refuted") == 6 + 1  # and the line of totals
    assert "6 hold, 6 refuted, 6 assumption not met" in out


def test_what_is_not_met_is_neither_success_nor_failure(capsys: pytest.CaptureFixture[str]) -> None:
    out = ran(capsys, 0, "unmet-one")
    assert "6 assumption not met" in out
    assert " hold," not in out


def test_all_cells(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ran(capsys, 0, "true-one", "--all").splitlines()
    cells = [line.split() for line in lines if line.startswith("true-one")]
    assert len(cells) == 6
    assert cells[5][:7] == ["true-one", "k^-1", "3", "x", "2,", "m", "="]
    measured, error, bound, ratio, verdict = cells[5][8:]
    assert abs(float(measured) - 4.5) < 5 * float(error)
    assert (float(bound), verdict) == (9.0, "holds")
    assert abs(float(ratio) - 0.5) < 0.02


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(ran(capsys, 1, "--json"))
    assert [s["name"] for s in found["statements"]] == ["true-one", "false-one", "unmet-one"]
    assert found["statements"][1]["refuted"] == 6
    assert found["statements"][0]["title"] == "true-one: at most m"
    assert len(found["cells"]) == 18
    cell = found["cells"][5]
    assert (cell["statement"], cell["matrix"], cell["m"], cell["trials"]) == (
        "true-one",
        "k^-1",
        9,
        30,
    )
    assert cell["quantile_5"] < cell["quantile_50"] < cell["quantile_95"]
    assert (found["trials"], found["seed"], found["level"]) == (30, 0, 1e-6)


def test_full_goes_through_more(capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads(ran(capsys, 0, "true-one", "--full", "--json"))["cells"]
    assert [cell["matrix"] for cell in cells[6:]] == ["real"]


def test_seed(capsys: pytest.CaptureFixture[str]) -> None:
    means = [
        [c["mean"] for c in json.loads(ran(capsys, 0, "true-one", "--json", *args))["cells"]]
        for args in ((), ("--seed", "0"), ("--seed", "1"))
    ]
    assert means[0] == means[1] != means[2]


def test_out(capsys: pytest.CaptureFixture[str]) -> None:
    name = "cells.jsonl"
    found = json.loads(ran(capsys, 1, "--json", "--out", name, "--seed", "3"))
    rows, attrs = read_table(name)
    assert list(map(without_missing, rows)) == list(map(without_missing, found["cells"]))
    assert attrs["seed"] == 3
    assert attrs["settings"] == {"trials": 30, "level": 1e-6, "full": False}
    about = {"title": "true-one: at most m", "source": "a source", "function": ""}
    assert attrs["statements"]["true-one"] == about
    assert "numpy" in attrs["versions"]
    old = Path(name).read_bytes()
    assert main(["bounds", "--out", name]) == 2
    assert "exists" in capsys.readouterr().err
    assert Path(name).read_bytes() == old
    ran(capsys, 0, "true-one", "--out", name, "--overwrite")
    assert len(read_table(name)[0]) == 6


def without_missing(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def test_plot(capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, 0, "true-one", "--plot", "bounds.png")
    assert Path("bounds.png").read_bytes().startswith(b"\x89PNG")
    ran(capsys, 0, "true-one", "--plot", "bounds.svg")
    assert "</svg>" in Path("bounds.svg").read_text()
    assert set(os.listdir()) == {"bounds.png", "bounds.svg"}


def test_plot_of_several_statements(capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, 1, "--plot", "bounds.pdf")
    pages = Path("bounds.pdf").read_bytes()
    assert pages.count(b"/Type /Page ") == 3
    assert b"/FontFile2" in pages  # the letters are in the file
    ran(capsys, 1, "--plot", "pictures")
    made = {"true-one.png", "false-one.png", "unmet-one.png"}
    assert set(os.listdir("pictures")) == made
    Path("pictures", "mine.txt").touch()
    assert main(["bounds", "--trials", "30", "--plot", "pictures"]) == 2
    assert "true-one.png: exists" in capsys.readouterr().err
    ran(capsys, 1, "--plot", "pictures", "--overwrite")
    assert set(os.listdir("pictures")) == {*made, "mine.txt"}


def test_a_picture_says_what_it_leaves_out() -> None:
    both = (*_GRID, {"matrix": "flat", "n": 5, "d": 2, "m": 1})
    cells = montecarlo.run([_statement("s", 0.5, grid=both)], trials=2, rng=0)
    (panel,) = panels_of(cells)
    assert panel.omitted == "Shown: 6 of 7 cells; not those of n = 5"
    (panel,) = panels_of(cells[:6])
    assert not panel.omitted
    words = [text.get_text() for text in figure_of_bound(replace(panel, omitted="left out")).texts]
    assert "left out" in words


def test_all_spectra_of_a_real_statement_are_drawn() -> None:
    cell = montecarlo.run([_statement("s", 0.5)], trials=2, rng=0)[0]
    cells = [replace(cell, setting=dict(s)) for s in _REAL["lplr-bound"].grid]
    (panel,) = panels_of(cells)
    assert list(panel.series) == list(SPECTRA)


@pytest.mark.filterwarnings("always")  # or the warning would be an error
@pytest.mark.parametrize(("name", "code"), [("true-one", 3), ("false-one", 1)])
def test_a_failing_picture_loses_nothing_else(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("latex was not found")

    monkeypatch.setattr("lplr.evaluation.plot_bounds.figure_of_bound", fail)
    command = ["bounds", name, "--trials", "30", "--plot", "x.png", "--out", "x.csv"]
    assert main(command) == code
    captured = capsys.readouterr()
    assert "6 cells of 30 trials" in captured.out
    assert "lplr: warning: x.png: was not drawn" in captured.err
    assert "latex was not found" in captured.err
    assert not Path("x.png").exists()
    assert len(Path("x.csv").read_text().splitlines()) == 7


def test_a_mean_above_the_bound_is_not_said_to_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = _statement("exact-one", 1.0)
    monkeypatch.setattr(statements, "STATEMENTS", {"exact-one": exact})
    found = json.loads(ran(capsys, 0, "--json"))
    above = [cell["ratio"] > 1 for cell in found["cells"]]
    assert 0 < sum(above) < 6  # seed 0
    assert [cell["verdict"] == "not refuted" for cell in found["cells"]] == above
    assert found["statements"][0]["not refuted"] == sum(above)
    out = ran(capsys, 0, "--all")
    assert out.count("not refuted, p = 0.") == sum(above)
    assert f"{6 - sum(above)} hold, {sum(above)} not refuted" in out


def test_names_of_functions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "STATEMENTS", _REAL)
    out = ran(capsys, 0, "--list", "dithered_moments")
    assert "dithered-moments-mean  (26 cells" in out
    assert out.count("function: lplr.theory.bounds.dithered_moments\n") == 2
    assert "did you mean dithered-variance-bound" in refused(capsys, "dither-bound")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    out = ran(capsys, 0, "--list")
    for text in ("true-one", "6 cells, 1 more", "a source", "distortion", "Frobenius norm"):
        assert text in out
    listed = json.loads(ran(capsys, 0, "--list", "--json", "false-one"))["statements"]
    assert [s["name"] for s in listed] == ["false-one"]
    assert "\ndistortion\n" not in ran(capsys, 0, "--list", "false-one")


def test_distortion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"lloyd-max": QUANTIZERS["lloyd-max"]}  # others are simulated and take their time
    monkeypatch.setattr("lplr.quantizers.QUANTIZERS", quick)
    found = json.loads(ran(capsys, 0, "distortion", "--json"))
    assert list(found) == ["distortion"]
    (row,) = (r for r in found["distortion"] if (r["quantizer"], r["bits"]) == ("lloyd-max", 2))
    assert row["mse"] == pytest.approx(row["published"], rel=1e-3)  # four published digits
    out = ran(capsys, 0, "distortion", "true-one")
    assert "Max 1960" in out
    assert "6 hold" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["true-on"], "did you mean true-one?"),
        (["nothing"], "true-one, false-one"),
        (["distorsion"], "did you mean distortion?"),
        (["--trials", "29"], "--trials: must be at least 30"),
        (["--trials", "many"], "--trials"),
        (["--seed", "-1"], "--seed"),
        (["--plot", "x.gif"], "x.gif: a picture of bounds is a .pdf, a .png, a .svg or a folder"),
        (["--plot", "x.png"], "3 statements make 3 pictures; name a .pdf"),
        (["--plot", "no/x.pdf"], "does not exist"),
        (["--plot", "no/pictures"], "does not exist"),
        (["--out", "x.txt"], "ends in .jsonl"),
        (["--out", "no/x.jsonl"], "does not exist"),
        (["distortion", "--out", "x.jsonl"], "--out"),
        (["distortion", "--plot", "x.png"], "--plot"),
        (["distortion", "--full"], "--full: is about cells of statements"),
    ],
)
def test_refusals(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(capsys, *args)


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    command = [*COMMAND, "--trials", "100000", "--out", "x.jsonl", "--plot", "x.pdf"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        assert "statement lplr" in run.stderr.readline()
        run.send_signal(signal.SIGINT)
        out, rest = run.communicate(timeout=60)
    assert run.returncode == 130
    assert rest.splitlines()[-1] == "lplr: interrupted"
    assert "Traceback" not in rest
    assert out == ""
    assert not os.listdir(tmp_path)


def test_an_interrupt_between_the_files_leaves_whole_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lplr.evaluation.figures.write_atomic", interrupt)
    code = main(["bounds", "true-one", "--trials", "30", "--out", "x.jsonl", "--plot", "x.png"])
    assert code == 130
    assert set(os.listdir()) == {"x.jsonl", "x.meta.json"}
    assert len(read_table("x.jsonl")[0]) == 6


def test_the_real_statements_make_a_table() -> None:
    """Keys of their settings are columns of one kind, none with the name of a result."""
    (cell,) = montecarlo.run([_statement("s", 0.5, grid=({"m": 1},))], trials=2, rng=0)
    results = set(as_row(cell)) - {"m"}
    for statement in _REAL.values():
        for setting in (*statement.grid, *statement.full):
            assert not results & set(setting)
    columns = [s for statement in _REAL.values() for s in (*statement.grid, *statement.full)]
    write_table("t.jsonl", columns)
    assert len(read_table("t.jsonl")[0]) == len(columns)


def test_every_real_statement_has_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    small = [
        replace(s, grid=tuple(g for g in s.grid if g.get("matrix") == s.grid[0].get("matrix")))
        for s in _REAL.values()
    ]
    cells = montecarlo.run([replace(s, grid=s.grid[:2]) for s in small], trials=2, rng=0)
    shown = {panel.title for panel in panels_of(cells)}
    assert shown == {c.statement for c in cells if c.mean > 1e-9 * c.bound > 1e-20}


_REAL = dict(statements.STATEMENTS)  # before the fixture hides them
