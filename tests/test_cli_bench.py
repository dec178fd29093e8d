"""``lplr bench``: what it prints, writes and refuses."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr import datasets
from lplr.cli import bench as command_module
from lplr.cli.main import main
from lplr.evaluation import tasks
from lplr.evaluation.baselines import DEFAULT, METHODS
from lplr.evaluation.tasks import Queries, Task
from lplr.storage.table import read_table


@pytest.fixture(autouse=True)
def small_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two small matrices in place of every suite, and a folder of one's own."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 90)
    A = (rng.standard_normal((2, 24))[labels] + 0.5 * rng.standard_normal((90, 24))).astype("f4")
    queries = Queries(labels[:70], A[70:], labels[70:], 3, "euclidean")
    phantom = datasets.shepp_logan(40).astype(np.float32)
    suite = [Task("rows", A[:70], queries=queries), Task("phantom", phantom, is_image=True)]
    monkeypatch.setattr(tasks, "load_suite", lambda what, quick: suite)
    monkeypatch.chdir(tmp_path)


def bench(*args: str) -> int:
    return main(["bench", *args])


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert bench(*args) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("lplr: error: ")
    return message


QUICK = ("knn", "--quick", "--budgets", "1,4", "--methods", "feedback,naive")


def test_prints_tables_and_writes_all_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert bench(*QUICK) == 0
    text, log = capsys.readouterr()
    assert "rows, 70 x 24: accuracy" in text
    assert "phantom, 40 x 40: psnr" in text
    for word in ("feedback", "naive", "uncompressed", "yardstick", "1 bit", "4 bits"):
        assert word in text
    assert "%" in log
    assert {path.name for path in tmp_path.iterdir()} == {
        "bench-knn-quick.jsonl",
        "bench-knn-quick.csv",
        "bench-knn-quick.meta.json",
        "bench-knn-quick.pictures.npz",
    }
    rows, attrs = read_table(tmp_path / "bench-knn-quick.jsonl")
    assert {row["method"] for row in rows} == {"feedback", "naive", "uncompressed"}
    assert {row["budget"] for row in rows} == {1.0, 4.0, 32.0}
    assert attrs["limits"]["rows"].keys() == {"1", "4"}
    assert attrs["default"] == "feedback"


def test_json_is_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert bench(*QUICK, "--json", "--out", "r.csv") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == read_table(tmp_path / "r.jsonl")[0]
    assert document["files"] == ["r.jsonl", "r.csv", "r.meta.json", "r.pictures.npz"]
    assert document["attrs"]["versions"].keys() >= {"lplr", "numpy", "sklearn"}
    assert document["speed"] is None


def test_second_run_measures_nothing_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench(*QUICK, "--json") == 0
    first = json.loads(capsys.readouterr().out)["rows"]
    monkeypatch.setattr(command_module, "_warm_up", lambda methods: None)
    assert bench(*QUICK, "--json") == 0
    text, log = capsys.readouterr()
    # Seconds and memory too: they are the same rows.
    assert json.loads(text)["rows"] == first
    assert f"rows so far: {len(first)}\n" in log
    assert bench(*QUICK, "--json", "--restart") == 0
    again = json.loads(capsys.readouterr().out)["rows"]
    assert [row["seconds"] for row in again] != [row["seconds"] for row in first]
    assert [row["value"] for row in again] == [row["value"] for row in first]


def test_report_with_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = (*QUICK, "--html", "report.html")
    assert bench(*command) == 0
    page = (tmp_path / "report.html").read_text()
    # The phantom: original and the default at two budgets; original and both methods at one bit.
    assert page.count("data:image/png") == 3 + 3
    assert "exists; pass --overwrite" in refused(capsys, *command)
    # All rows and pictures are there.
    assert bench(*command, "--overwrite") == 0
    assert (tmp_path / "report.html").read_text() == page
    capsys.readouterr()
    assert bench("report", "bench-knn-quick.jsonl", "--html", "again.html") == 0
    assert "Compared: 2 methods at 1 or 4 stored bits per entry." in capsys.readouterr().out
    assert (tmp_path / "again.html").read_text() == page


def test_report_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "none.jsonl': no such file" in refused(capsys, "report", "none.jsonl")
    (tmp_path / "r.jsonl").touch()
    assert "r.jsonl: has no results yet" in refused(capsys, "report", "r.jsonl")
    assert "ends in .html" in refused(capsys, "report", "r.jsonl", "--html", "r.pdf")


def test_failures_show_and_set_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(A: Any, bits: float, rng: int | None = None) -> Any:
        raise ArithmeticError("on purpose")

    methods = {**METHODS, "lplr": replace(METHODS["lplr"], run=broken)}
    monkeypatch.setattr("lplr.evaluation.grid.METHODS", methods)
    assert bench("image", "--quick", "--methods", "lplr,naive", "--budgets", "1") == 3
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "ArithmeticError: on purpose" in line)
    assert line.split()[:2] == ["lplr", "failed"]


def test_names_that_are_no_text_are_spelled_out(tmp_path: Path) -> None:
    np.save(tmp_path / os.fsdecode(b"\xff.npy"), np.eye(3))
    assert list(command_module._open_all([os.fsdecode(b"\xff.npy")])) == ["\\xff"]


def test_families_and_order() -> None:
    def methods(names: str | None, families: str | None, what: str) -> list[str]:
        options = argparse.Namespace(methods=names, families=families, what=what, files=[])
        return command_module._methods(options)

    names = methods("feedback,compress", "sklearn", "knn")
    assert names[0] == DEFAULT
    assert "PCA int8" in names
    assert "PQ" not in names
    # A method and a family have this name.
    assert methods("lplr", None, "knn") == ["lplr"]
    assert methods(None, "lplr", "knn") == ["compress", "feedback"]
    # The first is what the others are compared with: one of ours, where there is one.
    assert methods("naive,feedback", None, "knn") == ["feedback", "naive"]
    assert set(methods(None, None, "all")) == set(METHODS)
    offered = {METHODS[name].family for name in methods(None, None, "sklearn")}
    assert offered == {"lplr", "paper", "naive", "sklearn"}
    assert {method.family for method in METHODS.values()} == set(command_module._ALL_FAMILIES)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--methods", "nothing"), "--methods: there is no 'nothing'; there are"),
        (("--families", "PQ"), "--families: there is no 'PQ'; there are lplr, paper"),
        (("--methods", ","), "name at least one"),
        (("--budgets", "one"), "--budgets: must be numbers"),
        (("--budgets", "0"), "budgets: must be"),
        (("--seeds", "1.5"), "--seeds: must be numbers"),
        (("--out", "r.txt"), "end in .jsonl"),
        (("--out", "none/r.jsonl"), "does not exist"),
        (("--html", "r.pdf"), "ends in .html"),
    ],
)
def test_bad_usage(
    args: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert said in refused(capsys, "knn", "--quick", *args)
    assert not list(tmp_path.iterdir())


def test_results_of_other_settings_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    quick = ("image", "--budgets", "1", "--methods", "naive", "--out", "r.jsonl")
    assert bench(*quick, "--quick") == 0
    content = (tmp_path / "r.jsonl").read_bytes()
    capsys.readouterr()
    assert "quick was True, is False" in refused(capsys, *quick)
    assert (tmp_path / "r.jsonl").read_bytes() == content
    (tmp_path / "r.jsonl").write_bytes(content[:-1])
    assert "truncated" in refused(capsys, *quick, "--quick")


def test_all_measures_speed_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lplr.cli.bench_speed.measure", lambda quick: [{"quick": quick}])
    command = ("all", "--quick", "--methods", "naive", "--budgets", "1", "--json")
    assert bench(*command) == 0
    assert json.loads(capsys.readouterr().out)["speed"] == [{"quick": True}]


@pytest.mark.filterwarnings("always")  # or the warning would be an error
def test_a_page_that_fails_does_not_lose_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("lplr.evaluation.report.sections.rate_chart", broken)
    assert bench(*QUICK, "--html", "report.html") == 3
    out, log = capsys.readouterr()
    assert "rows, 70 x 24: accuracy" in out
    assert "lplr: warning: report.html: was not drawn, everything else" in log
    assert "RuntimeError: no fonts" in log
    assert not (tmp_path / "report.html").exists()
    assert len(read_table(tmp_path / "bench-knn-quick.jsonl")[0]) > 0
