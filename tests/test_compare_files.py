"""What a comparison of bounds prints, writes and draws."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import ExistingFileError, InputError
from lplr.storage.table import read_table
from lplr.theory import compare_bounds
from lplr.theory.comparison import Comparison

A = np.random.default_rng(3).standard_normal((40, 30)) * (1 / np.arange(1.0, 31))
SIGMA = np.linalg.svd(A, compute_uv=False)
QUICK: dict[str, Any] = {"rng": 0, "trials": 40, "oversampling": 4}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


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

    named = {
        f"Theorem {i} of LPLR (2023), with all of its constants": lambda steps: 1e9
        for i in range(6)
    }
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
