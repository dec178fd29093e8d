"""What a comparison of bounds refuses, in a call and on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.cli.main import main
from lplr.exceptions import InputError, MissingFileError
from lplr.theory import Quantizer, bounds, compare_bounds

A = np.random.default_rng(3).standard_normal((40, 30)) * (1 / np.arange(1.0, 31))
SIGMA = np.linalg.svd(A, compute_uv=False)
QUICK: dict[str, Any] = {"rng": 0, "trials": 40, "oversampling": 4}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "bit"}, "x: must be one of bits, rank, oversampling"),
        ({"values": []}, "values: is empty"),
        ({"values": 3}, "values: must be a sequence"),
        ({"values": [2.5]}, "values: must be an integer"),
        ({"values": [0]}, "values: must be from 1 to 16"),
        ({"x": "rank", "values": [31]}, "values: must be from 1 to 30"),
        ({"x": "oversampling", "values": [1]}, "values: must be at least 2"),
        ({"bits": 3}, "bits: is x, which varies"),
        ({"x": "rank", "rank": 3}, "rank: is x, which varies"),
        ({"rank": 0}, "rank: "),
        ({"oversampling": 1}, "oversampling: must be at least 2"),
        ({"x": "rank", "bits": 17}, "bits: "),
        ({"trials": 1}, "trials: "),
        ({"rng": -1}, "rng: "),
        ({"shape": (40, 30)}, "shape: goes with singular values"),
        ({"method": "svd"}, "method: must be one of"),
        ({"method": "lplr-svd", "oversampling": 4}, "oversampling: lplr-svd sketches nothing"),
        ({"quantizer": "round"}, "quantizer: must be one of dithered, nearest"),
        ({"quantizer": 3}, "quantizer: must be"),
        ({"quantizer": ("dithered",) * 3}, "quantizer: give one value or two"),
        ({"quantizer": Quantizer(np.round, 9.0, 1.0)}, "quantizer: a Quantizer has one step"),
        ({"quantizer": lambda bits, dynamic_range: 0.1}, "quantizer: a function of"),
        ({"quantizer": lambda X: X}, r"quantizer: what rounds a matrix goes into Quantizer\("),
        ({"bounds": "lplr_boud"}, "bounds: 'lplr_boud' is no bound.*did you mean lplr_bound"),
        ({"bounds": "direct_svd_bound"}, "bounds: direct_svd_bound is about direct-svd; pass"),
        ({"bounds": bounds.direct_svd_bound}, "bounds: direct_svd_bound is about direct-svd"),
        ({"bounds": "naive_bound"}, "bounds: 'naive_bound' is no bound on the error of lplr"),
        ({"bounds": {}}, "bounds: is empty"),
        ({"bounds": 3}, "bounds: must be a name"),
        ({"bounds": [3]}, "bounds: 3 is neither"),
        ({"bounds": {"w": lambda a, b: 1.0}}, "bounds: w asks for 'a'; a bound can ask for A, sin"),
        ({"bounds": {"w": lambda m: "a"}}, "bounds: w returned 'a'"),
        ({"bounds": {"w": lambda m: -1.0}}, "bounds: w returned -1.0"),
        ({"bounds": {"w": lambda m: np.nan}}, "bounds: w returned nan"),
        ({"bounds": {"w": lambda m: None}}, "bounds: w returned None"),
        ({"progress": 3}, "progress: "),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        compare_bounds(A, **options)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((4, 4)), "A: is zero"),
        (np.full((4, 4), np.nan), "A: has nan"),
        ([1.0, 2.0], "singular_values: .*descending"),
        (3.0, "A: must have 2 dimensions"),
    ],
)
def test_refusals_of_matrices(matrix: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        compare_bounds(matrix)
    with pytest.raises(MissingFileError):
        compare_bounds("nothing.npy")


@pytest.mark.parametrize("function", [lambda X: X[:1], lambda X: X * np.nan, lambda X: 1j * X])
def test_what_a_quantizer_returns_is_checked(function: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"^quantizer: (of a matrix of shape|must) "):
        compare_bounds(A, x="rank", values=[3], quantizer=Quantizer(function, 1.0, 1.0), **QUICK)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((3, 1.0, 1.0), "function"),
        ((np.round, 0.0, 1.0), "dynamic_range"),
        ((np.round, "1", 1.0), "dynamic_range"),
        ((np.round, 1.0, -1.0), "step"),
        ((np.round, 1.0, None), "step"),
    ],
)
def test_a_quantizer_needs_a_range_and_a_step(arguments: Any, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}: "):
        Quantizer(*arguments)


def test_an_exception_of_a_bound_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        compare_bounds(A, bounds=lambda m: 1 / 0, **QUICK)


# --- the command --------------------------------------------------------------------------------


def ran(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    np.save("m.npy", A)
    assert main(["bounds", "--matrix", "m.npy", "--trials", "30", *args]) == code
    return capsys.readouterr().out


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--x", "rank", "--values", "2,4", "--bits", "5", "--oversampling", "6")
    files = ("--plot", "x.pdf", "--out", "x.csv")
    out = ran(capsys, *options, *files)
    expected = compare_bounds(A, x="rank", values=[2, 4], bits=5, oversampling=6, trials=30, rng=0)
    assert repr(expected) in out
    assert set(os.listdir()) == {"m.npy", "x.pdf", "x.csv", "x.meta.json"}
    document = json.loads(ran(capsys, *options, "--json"))
    assert document["rows"] == expected.rows()
    one = json.loads(ran(capsys, "lplr-nested-bound", "--values", "2", "--json"))["rows"][0]
    assert "lplr_nested_bound" in one
    assert "lplr_bound" not in one
    assert "direct-svd, A 40 x 30" in ran(capsys, "direct_svd_bound", "--values", "2")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--values", "1;2"], "--values: must be integers with commas"),
        (["--values", "99"], "--values: must be from 1 to 16"),
        (["--bits", "3"], "--bits: is x, which varies; give its values"),
        (["--list"], "--list: does not go with --matrix"),
        (["--full"], "--full: does not go with --matrix"),
        (["--plot", "x.gif"], "ends in .pdf or .svg or .png"),
        (["--out", "x.txt"], "ends in .jsonl or .csv"),
        (["lplr_svd"], "NAME: with --matrix, 'lplr_svd' is no bound on A ~ L R; did you mean"),
        (["lplr_bound", "direct_svd_bound"], "are about two methods"),
        (["--trials", "2"], "--trials: must be at least 30"),
        (["--rank", "31"], "--rank: must be from 1 to 30"),
    ],
)
def test_command_refuses(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("m.npy", A)
    assert main(["bounds", "--matrix", "m.npy", *args]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir() == ["m.npy"]


def test_a_table_is_refused_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.meta.json").write_text("{}")
    np.save("m.npy", A)
    assert main(["bounds", "--matrix", "m.npy", "--out", "x.csv"]) == 2
    told = capsys.readouterr()
    assert "x.meta.json: exists; pass --overwrite" in told.err
    assert told.out == ""


@pytest.mark.parametrize("option", [["--x", "rank"], ["--rank", "3"], ["--values", "3"]])
def test_options_of_a_matrix_need_one(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bounds", *option]) == 2
    assert f"{option[0]}: goes with --matrix" in capsys.readouterr().err
