"""``lplr bench scale``: what it measures, writes, resumes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.cli.main import main
from lplr.evaluation import scale
from lplr.evaluation.scale import ScaleSettings, run_method, written_rows
from lplr.evaluation.scale_chart import scale_chart
from lplr.evaluation.scale_methods import REFERENCE, SCALE_METHODS, Job
from lplr.exceptions import InputError, MissingPackageError
from lplr.sources import open_source
from lplr.storage.table import read_table

QUICK = ("bench", "scale", "--rows", "2000", "--columns", "16", "--methods", f"lplr,{REFERENCE}")


def test_a_longer_file_begins_with_the_rows_of_a_shorter_one(tmp_path: Path) -> None:
    with written_rows(1500, 8, tmp_path) as short, written_rows(17000, 8, tmp_path) as long:
        A, B = np.load(short), np.load(long)
        assert np.array_equal(A, B[:1500])
        assert not np.array_equal(B[:1500], B[-1500:])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in SCALE_METHODS if name != REFERENCE])
def test_rows_come_back_from_what_is_counted(name: str) -> None:
    """Every method keeps to the budget, and its rows are nearer than zeros."""
    A = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
    A *= np.arange(1, 17) ** -1.0
    settings = ScaleSettings(columns=16, bits=3)
    job = Job(open_source(A, "A"), settings.nbytes(len(A)), None, "1GB")
    try:
        stored = SCALE_METHODS[name](job)
    except MissingPackageError:
        pytest.skip(f"{name} is not installed")
    assert 0 < stored.nbytes <= job.nbytes
    assert stored.rows is not None
    at = np.arange(0, len(A), 7)
    assert np.linalg.norm(stored.rows(at) - A[at]) < 0.6 * np.linalg.norm(A[at])


def test_the_measured_error_is_that_of_the_rows(tmp_path: Path) -> None:
    settings = ScaleSettings(columns=16)
    with written_rows(2000, 16, tmp_path) as path:
        row = run_method(path, 2000, "feedback", json.dumps(vars(settings)))
        A = np.load(path)
    bits = 8 * settings.nbytes(2000) / A.size
    f = lplr.factorize(A, bits_per_entry=bits, rng=0, memory_limit="1GB")
    assert row["status"] == "ok"
    assert row["nbytes"] == f.nbytes
    assert row["error"] == pytest.approx(f.relative_error(A), rel=1e-4)


def test_a_run_is_resumed_and_its_page_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*QUICK, "--html", "scale.html"]) == 0
    assert "See bench-scale.jsonl, bench-scale.csv, scale.html" in capsys.readouterr().out
    page = Path("scale.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "LPLR (paper)" in page
    rows, attrs = read_table("bench-scale.jsonl")
    assert [row["method"] for row in rows] == ["lplr", REFERENCE]
    assert rows[0]["extra_nbytes"] is None or rows[0]["extra_nbytes"] > 0
    assert attrs["settings"]["columns"] == 16
    monkeypatch.setattr(scale, "_measured", None)  # nothing is left to measure
    assert main([*QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    assert main([*QUICK, "--columns", "8"]) == 2
    assert "--restart" in capsys.readouterr().err


def test_what_fails_or_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(job: Job) -> Any:
        raise MissingPackageError("PQ: needs faiss-cpu, which is not installed")

    monkeypatch.setattr(scale, "SCALE_METHODS", {**SCALE_METHODS, "PQ": missing})
    with written_rows(1000, 8, tmp_path) as path:
        settings = ScaleSettings(columns=8)
        row = run_method(path, 1000, "PQ", json.dumps(vars(settings)))
        assert row["status"] == "skipped"
        failed = scale._measured(path, 1000, "no such method", settings)
    assert failed["status"] == "failed"
    assert "no such method" in failed["message"]
    assert scale_chart([failed], "time") is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--rows", "12"), "--rows"),
        (("--rows", "1e5.5"), "--rows"),
        (("--columns", "1"), "--columns"),
        (("--bits", "0"), "--bits"),
        (("--rank", "128"), "--rank"),
        (("--rank", "4", "--bits", "2"), "--rank, --bits"),
        (("--methods", "lpl"), "did you mean lplr"),
        (("--rank", "4", "--methods", "PQ"), "at a given rank"),
        (("--memory-limit", "much"), "memory"),
        (("--folder", "nowhere"), "folder"),
        (("--html", "page.txt"), ".html"),
    ],
)
def test_wrong_arguments_are_named(
    options: tuple[str, ...],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "scale", *options]) == 2
    assert named in capsys.readouterr().err


def test_a_disk_without_room_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale.shutil, "disk_usage", lambda path: type("U", (), {"free": 1000}))
    with pytest.raises(InputError, match="1,000 free"), written_rows(1000, 8):
        pass
