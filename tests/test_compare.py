"""One's own matrix, quantizer and bound against simulation, in a call and on the command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.cli.main import main
from lplr.exceptions import ExistingFileError, InputError, MissingFileError
from lplr.storage.table import read_table
from lplr.theory import Quantizer, bounds, compare_bounds
from lplr.theory.comparison import Comparison

A = np.random.default_rng(3).standard_normal((40, 30)) * (1 / np.arange(1.0, 31))
SIGMA = np.linalg.svd(A, compute_uv=False)
QUICK: dict[str, Any] = {"rng": 0, "trials": 40, "oversampling": 4}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


def integers(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dithered rounding to integers."""
    return np.floor(X + rng.random(X.shape))


# --- what is measured ---------------------------------------------------------------------------


def test_bounds_are_those_of_the_steps_that_were_used() -> None:
    steps: list[tuple[float, float]] = []
    found = compare_bounds(A, values=[2, 5], bounds=[bounds.lplr_bound, keep(steps)], **QUICK)
    for i, pair in enumerate(steps):
        expected = bounds.lplr_bound(SIGMA, A.shape, 7, pair)
        assert found.bounds["lplr_bound"][i] == pytest.approx(expected, rel=1e-9)
    assert found.settings[0] == {"rank": 3, "oversampling": 4, "m": 7, "bits": 2}
    # 2 bits have 3 gaps where 5 have 31; the range of L is that of the same sketch.
    assert steps[0][0] / steps[1][0] == pytest.approx(31 / 3, rel=1e-9)
    assert found.energy == pytest.approx(np.square(A).sum())
    assert found.best[0] == pytest.approx(np.square(SIGMA[7:]).sum())


def keep(seen: list[tuple[float, float]]) -> Callable[..., float]:
    def own(steps: tuple[float, float]) -> float:
        seen.append(steps)
        return 1e9

    return own


@pytest.mark.parametrize("method", ["lplr", "lplr-svd", "direct-svd"])
@pytest.mark.parametrize("x", ["bits", "rank"])
def test_true_bounds_are_not_refuted_and_the_best_matrix_is_better(method: str, x: str) -> None:
    found = compare_bounds(A, x=x, values=[2, 6], method=method, rng=0, trials=60)
    for name, words in found.verdicts.items():
        assert set(words) <= {"holds", "not refuted"}, name
        assert (found.mean < 1.1 * found.bounds[name]).all()
    assert (found.quantiles[:, 0] >= found.best).all()  # Eckart and Young: always
    assert (np.diff(found.quantiles, axis=1) >= 0).all()


def test_a_wrong_bound_is_refuted() -> None:
    half = {
        "half": lambda singular_values, shape, m, steps: (
            bounds.lplr_bound(singular_values, shape, m, steps) / 3
        )
    }
    found = compare_bounds(A, values=[1, 2], bounds=half, **QUICK)
    assert found.verdicts["half"] == ("refuted", "refuted")
    assert found.p_values["half"].max() < 1e-6
    assert "REFUTED" in repr(found)


@pytest.mark.parametrize("method", ["lplr", "lplr-svd", "direct-svd"])
def test_rounding_in_float64_refutes_nothing(method: str) -> None:
    """A matrix of rank 5 without quantization: the bounds are 0, and 1e-31 is measured."""
    exact = Quantizer(lambda X: X, dynamic_range=np.inf, step=0.0)
    low = A[:, :5] @ A[:5]
    found = compare_bounds(low, x="rank", values=[5, 8], quantizer=exact, method=method, rng=0)
    for name, words in found.verdicts.items():
        assert (found.bounds[name] == 0).all()
        assert words == ("holds", "holds")


def test_measured_with_ones_own_quantizer() -> None:
    """A quantizer that rounds nothing leaves the error of the sketch, by hand."""
    exact = Quantizer(lambda X: X, dynamic_range=np.inf, step=0.0)
    found = compare_bounds(A, x="rank", values=[3], quantizer=exact, **QUICK | {"trials": 400})
    rng, errors = np.random.default_rng(1), []
    for _ in range(400):
        L = A @ rng.standard_normal((30, 7))
        Q = np.linalg.qr(L)[0]
        errors.append(np.square(A - Q @ (Q.T @ A)).sum())
    spread = np.hypot(found.standard_error[0], np.std(errors) / 20)
    assert abs(found.mean[0] - np.mean(errors)) < 6 * spread  # by chance once in 5e8
    expected = bounds.lplr_bound(SIGMA, A.shape, 7, 0.0)
    assert found.bounds["lplr_bound"][0] == pytest.approx(expected, rel=1e-9)


def test_quantizers_of_ones_own() -> None:
    fixed = Quantizer(integers, dynamic_range=np.inf, step=1.0)
    made: list[tuple[int, float]] = []

    def family(bits: int, dynamic_range: float) -> Quantizer:
        made.append((bits, dynamic_range))
        step = bounds.uniform_step(bits, dynamic_range)
        return Quantizer(lambda X, rng: step * integers(X / step, rng), np.inf, step)

    one = compare_bounds(A, values=[3, 4], quantizer=(fixed, family), **QUICK)
    assert [bits for bits, _ in made] == [3, 4]
    assert set(one.verdicts["lplr_nested_bound"]) <= {"holds", "not refuted"}
    both = compare_bounds(A, values=[3, 4], quantizer=family, **QUICK)
    assert len(made) == 6
    assert (both.mean != one.mean).all()
    # Without dither there is no bound; with it, the same points lie closer on the mean.
    nearest = compare_bounds(A, values=[3], quantizer="nearest", **QUICK)
    assert nearest.mean[0] < compare_bounds(A, values=[3], **QUICK).mean[0]


def test_randomness_reaches_a_wrapped_quantizer() -> None:
    wrapped = Quantizer(lambda X, **options: integers(X, **options), np.inf, 1.0)
    direct = Quantizer(integers, np.inf, 1.0)
    X = A.copy()
    assert (wrapped(X, np.random.default_rng(0)) == direct(X, np.random.default_rng(0))).all()


def test_a_range_that_is_left_is_an_assumption_that_fails() -> None:
    narrow = Quantizer(integers, dynamic_range=1e-3, step=1.0)
    found = compare_bounds(A, x="rank", values=[2], quantizer=(narrow, "dithered"), **QUICK)
    assert found.saturated.tolist() == [40]
    assert found.verdicts["lplr_bound"] == ("assumption not met",)
    assert "saturated in 40 of 40" in repr(found)


def test_bounds_get_what_they_ask_for() -> None:
    asked = {}

    def own(
        A: Any, n: int, d: int, k: int, m: int, rank: int, ranges: Any, extra: int = 5
    ) -> float:
        asked.update(n=n, d=d, k=k, m=m, rank=rank, extra=extra, shape=A.shape)
        return float("inf")

    found = compare_bounds(
        A,
        values=[2],
        bounds={
            **{"own": own, "x": lambda b: 100.0 + b, "all": lambda **a: a["m"]},
            "by position": lambda b, /: 200.0 + b,
        },
        rank=2,
        **QUICK,
    )
    assert asked == {"n": 40, "d": 30, "k": 2, "m": 6, "rank": 2, "extra": 5, "shape": (40, 30)}
    assert found.bounds["x"][0] == 102
    assert found.bounds["by position"][0] == 202
    assert found.bounds["all"][0] == 6
    assert found.verdicts["own"] == ("holds",)


def test_names_of_bounds() -> None:
    for name in ("LPLR-Bound", "lplr.theory.bounds.lplr_bound"):
        found = compare_bounds(A, values=[2], bounds=[name, "lplr_bound"], **QUICK)
        assert list(found.bounds) == ["lplr_bound"]
    # A name that is a column of the table already does not take its place.
    (row,) = compare_bounds(A, values=[2], bounds={"mean": lambda m: 1e9}, **QUICK).rows()
    assert row["mean_bound"] == 1e9
    assert row["mean"] < 1e9
    with pytest.raises(InputError, match="^bounds: two are called own"):
        compare_bounds(A, bounds=[keep([]), keep([])], **QUICK)


def test_singular_values_and_files_in_place_of_a_matrix() -> None:
    drawn = compare_bounds(SIGMA, shape=(50, 30), values=[4], bounds="lplr-sharp-bound", **QUICK)
    assert drawn.shape == (50, 30)
    assert drawn.energy == pytest.approx(np.square(SIGMA).sum())
    np.save("m.npy", A)
    np.savez("m.npz", mine=A, other=np.eye(3))
    for name in ("m.npy", Path("m.npy"), "m.npz:mine"):
        assert compare_bounds(name, values=[4], **QUICK).rows() == (
            compare_bounds(A, values=[4], **QUICK).rows()
        )


def test_same_bits_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = compare_bounds(A, **QUICK)
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    assert compare_bounds(A, **QUICK).rows() == alone.rows()
    assert compare_bounds(A, **QUICK | {"rng": 1}).rows() != alone.rows()


def test_progress_rises_to_one() -> None:
    seen: list[tuple[float, str]] = []
    compare_bounds(A, values=[1, 2], progress=lambda *said: seen.append(said), **QUICK)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert {"pilot trials", "bounds", "simulation"} <= {what for _, what in seen}


# --- what comes out -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare_bounds(A, values=[2, 4, 6], **QUICK)


def test_table(found: Comparison) -> None:
    lines = repr(found).splitlines()
    assert "lplr, A 40 x 30, rank 3, oversampling 4, 40 trials" in lines[0]
    assert lines[1].split()[:2] == ["bits", "measured"]
    assert [line.split()[0] for line in lines[2:5]] == ["2", "4", "6"]
    assert float(lines[2].split()[1]) == pytest.approx(found.mean[0] / found.energy, rel=1e-3)


def test_files(found: Comparison) -> None:
    found.save("x.jsonl")
    rows, attrs = read_table("x.jsonl")
    assert rows == found.rows()
    assert (attrs["method"], attrs["seed"]) == ("lplr", 0)
    found.save("y.csv")
    assert len(Path("y.csv").read_text().splitlines()) == 4
    with pytest.raises(ExistingFileError):
        found.save("y.csv")


def test_pictures_can_be_printed(found: Comparison) -> None:
    for name in ("x.pdf", "x.svg", "x.png"):
        found.plot(name)
    pdf = Path("x.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # the letters are in the file
    assert b"/Type3" not in pdf
    width, height = map(float, re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)[0])
    assert width == pytest.approx(3.3 * 72)
    assert 0.7 < height / width < 1.2
    svg = Path("x.svg").read_text()
    assert "<text" not in svg  # outlines
    again = Path("x.png").read_bytes()
    found.plot("x.png")
    assert Path("x.png").read_bytes() == again
    with pytest.raises(ExistingFileError):
        found.plot("x.png", overwrite=False)
    for name, options in (("x.gif", {}), ("x.png", {"width": 1}), ("x.png", {"width": "a"})):
        with pytest.raises(InputError):
            found.plot(name, **options)


def test_a_picture_of_one_value_shows_its_bounds() -> None:
    from lplr.theory.figure import _figure

    one = compare_bounds(A, values=[4], **QUICK)
    upper, lower = _figure(one, 3.3).axes
    for axes in (upper, lower):
        lines = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert len(lines) >= 3
        assert all(np.ptp(line.get_xdata()) > 0 for line in lines)
    assert len(upper.get_yticks()) >= 3  # within one power of ten too


def test_words_of_a_picture_are_apart_and_inside() -> None:
    from matplotlib import style

    from lplr.theory.figure import _STYLE, _figure

    named = {f"Theorem {i} of LPLR (2023), with all of its constants": keep([]) for i in range(6)}
    many = compare_bounds(A, x="rank", values=range(1, 31), bounds=named, **QUICK)
    with style.context(["default", _STYLE]):
        figure = _figure(many, 3.3)
        figure.draw_without_rendering()
    upper, lower = figure.axes
    ends = [label.get_window_extent() for label in lower.get_xticklabels()]
    assert len(ends) > 5
    assert all(left.x1 < right.x0 for left, right in pairwise(ends))
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width
    assert legend.y1 <= figure.bbox.height
    looks = {(line.get_color(), str(line._dash_pattern)) for line in upper.lines}
    assert len(looks) >= 2 + len(named)  # with the mean and the best matrix


# --- refusals -----------------------------------------------------------------------------------


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
