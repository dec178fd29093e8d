"""The demonstration, the speed benchmark and the figures, each run as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import lplr
from lplr import datasets
from lplr.cli.demo import _folder
from lplr.cli.main import main
from lplr.evaluation.baselines import float16_svd, naive
from lplr.evaluation.figures import new_figure
from lplr.evaluation.plots import error_axes
from lplr.evaluation.report import write_report
from lplr.exceptions import BudgetError
from lplr.theory import rate_distortion_limit

PICTURES = (
    "overview.png",
    "rate-distortion.png",
    "fashion-mnist.png",
    "phantom.png",
    "layer-under-hessian.png",
)


def run(*args: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lplr", *map(str, args)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    text = run("demo", "--quick", "--out", folder)
    assert f"See {folder}:" in text
    assert "TruncatedSVD float16" in text
    return folder


@pytest.fixture(scope="module")
def document(demo: Path) -> dict[str, Any]:
    return json.loads((demo / "results.json").read_text())


def errors(document: dict[str, Any], dataset: str, metric: str, budget: float) -> dict[str, float]:
    wanted = dataset, metric, budget
    return {
        row["method"]: row["value"]
        for row in document["rows"]
        if (row["dataset"], row["metric"], row["budget"]) == wanted
    }


def test_files_are_what_the_table_says(demo: Path, document: dict[str, Any]) -> None:
    images = datasets.fashion_mnist(n=500).images
    sigma = np.linalg.svd(images, compute_uv=False)
    rows = [row for row in document["rows"] if row["dataset"] == "Fashion-MNIST"]
    assert len(rows) == 14  # seven methods, two budgets
    # Four matrices, and five ways to compress a layer under its Hessian.
    assert len({row["file"] for row in document["rows"]}) == 4 * 14 + 5
    for row in rows:
        f = lplr.load(demo / row["file"])
        # Naive quantization stores a scale and an offset beside its bits: 8 bytes.
        assert f.bits_per_entry <= row["budget"] + 64 / images.size
        assert row["value"] == f.relative_error(images)
        assert row["file_nbytes"] == (demo / row["file"]).stat().st_size
    for bits, value in document["attrs"]["limits"]["Fashion-MNIST"].items():
        limit = rate_distortion_limit(sigma, images.shape, float(bits))
        assert value == pytest.approx(limit, rel=1e-3)  # singular values in float32 here


def test_our_methods_win_where_the_data_have_low_rank(document: dict[str, Any]) -> None:
    for dataset in ("Fashion-MNIST", "text embeddings", "Shepp-Logan phantom"):
        for budget in (1, 2):
            found = errors(document, dataset, "relative error", budget)
            assert sorted(found, key=lambda method: found[method])[:2] == ["compress", "feedback"]


def test_layer_under_its_hessian(demo: Path, document: dict[str, Any]) -> None:
    error = errors(document, "minilm_l2_query under H", "relative error under H", 3)
    assert error["caldera"] < error["caldera, faithful"] < error["naive"]
    assert error["feedback alone"] < error["naive"]
    assert error["compress"] < min(error["feedback alone"], error["caldera"])
    for row in document["rows"]:
        if row["dataset"] == "minilm_l2_query under H":
            assert lplr.load(demo / row["file"]).bits_per_entry == row["bits_per_entry"]
            assert 2.97 < row["bits_per_entry"] < 3.002  # 3 but for scales and seeds


def test_its_rows_make_a_report(document: dict[str, Any], tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", document["rows"], document["attrs"])
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_pictures_show_something(demo: Path) -> None:
    for name in PICTURES:
        pixels = imread(demo / name)[:, :, :3]
        assert min(pixels.shape[:2]) > 400
        # White and much else: not one colour, and more than axes and their labels, about 1 %.
        assert 0.02 < (pixels < 0.95).any(axis=2).mean() < 0.95


def test_a_curve_that_leaves_its_panel_is_explained_there() -> None:
    axes = new_figure(3, 3).add_axes((0, 0, 1, 1))
    curves = {
        "compress": ([1.0, 2.0, 4.0], [0.2, 0.1, 0.02]),
        "naive": ([1.0, 2.0, 4.001], [0.4, 0.2, 2e-8]),
        "limit": ([1.0, 4.0], [0.15, 0.015]),
    }
    error_axes(axes, curves)
    low, high = axes.get_ylim()
    assert low < 0.015 < 0.4 < high
    assert [text.get_text() for text in axes.texts] == ["naive rounding:\nno error at 4 bits"]
    x, y = axes.texts[0].xy
    assert y == pytest.approx(low, rel=0.3)  # at the edge
    assert 2 < x < 4.001


@pytest.fixture
def quickest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demonstration of one small matrix by each method."""
    from lplr.cli import demo
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.tasks import Task

    images = datasets.fashion_mnist(n=200).images

    def grids(quick: bool, seed: int) -> list[Any]:
        return [Grid([Task("images", images)], ["naive"], [1.0], [seed])] * 2

    def layer(quick: bool, seed: int) -> Any:
        W, H = (x[:40, :40] for x in datasets.layer("minilm_l2_query")[1:])
        return Grid([Task("layer", W, hessian=H)], ["naive"], [3.0], [seed])

    monkeypatch.setattr(demo, "_grids", grids)
    monkeypatch.setattr(demo, "_layer_grid", layer)


@pytest.mark.filterwarnings("always")  # or the warning would be an error
def test_a_picture_that_fails_does_not_lose_the_table(
    quickest: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("latex could not be found")

    monkeypatch.setattr("lplr.evaluation.plots.draw_errors", broken)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 3
    out, log = capsys.readouterr()
    assert "relative error = " in out
    assert "layer-under-hessian.png: was not drawn, everything else is complete" in log
    assert "RuntimeError: latex could not be found" in log
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {*PICTURES[:4], "results.json", "files"}
    assert "layer-under-hessian.png" not in out


def contents(folder: Path) -> dict[str, bytes]:
    """What a user sees there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


@pytest.mark.parametrize(
    "step",
    [
        "lplr.evaluation.grid.run_grid",
        "lplr.load",
        "lplr.evaluation.results_file.describe",
        "lplr.storage.atomic.write_atomic",
        "lplr.evaluation.plots.draw_curves",
        "lplr.storage.names.rename_folder",
    ],
)
def test_an_interrupt_leaves_nothing_new(
    step: str, quickest: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, interrupt)
        assert main(["demo", "--out", str(tmp_path / "out")]) == 130
    assert not list(tmp_path.iterdir())


def test_an_interrupt_keeps_what_an_earlier_run_left(
    quickest: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    assert main(["demo", "--out", str(tmp_path)]) == 0
    before = contents(tmp_path)
    assert {"results.json", *PICTURES} < set(before)
    with monkeypatch.context() as patch:
        patch.setattr("lplr.evaluation.plots.draw_errors", interrupt)
        assert main(["demo", "--seed", "1", "--out", str(tmp_path)]) == 130
    assert contents(tmp_path) == before
    assert main(["demo", "--seed", "1", "--out", str(tmp_path)]) == 0
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert json.loads(after["results.json"])["seed"] == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_a_kill_leaves_nothing_that_can_be_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lplr", "demo", "--quick", "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        while not list(tmp_path.glob(".*/files/*.h5")):
            assert child.poll() is None
            time.sleep(0.05)
        child.kill()
    assert list(tmp_path.glob(".*"))
    assert contents(tmp_path) == {}
    assert _folder(str(tmp_path)) == tmp_path  # where the next run may write


# What a user's matplotlibrc can do to a picture; each breaks or alters plain Matplotlib.
_MATPLOTLIBRC = """
text.usetex: True
backend: TkAgg
interactive: True
font.family: fantasy
font.size: 40
figure.facecolor: black
axes.facecolor: black
axes.grid: True
image.cmap: jet
savefig.bbox: tight
savefig.format: svg
savefig.transparent: True
svg.fonttype: path
figure.constrained_layout.use: True
axes.prop_cycle: cycler('color', ['k'])
"""
_SCRIPT = """
import sys, lplr, numpy as np
from pathlib import Path
sys.path.insert(0, "tests")
from bench_rows import attrs, table
from lplr.evaluation.overview import draw_overview
from lplr.evaluation.plots import draw_curves, draw_errors
from lplr.evaluation.pictures import Picture, draw_images
from lplr.evaluation.bound_panels import panels_of
from lplr.evaluation.plot_bounds import draw_bounds
from lplr.evaluation.report import write_report
from lplr.theory.montecarlo import run
out = Path(sys.argv[1])
out.mkdir()
curves = {name: ([1, 2], [0.2, 0.1]) for name in ("compress", "lplr", "limit")}
curves["naive"] = [1, 2], [0.3, 0.0]
draw_curves(out / "curves.png", {"p": curves})
draw_errors(out / "errors.png", "title", {"a": 0.2, "compress": 0.1}, "note")
draw_images(out / "images.png", "title", {"a": [Picture(np.eye(8), "x"), None]}, ["head", "other"])
A, labels = lplr.datasets.fashion_mnist(n=100)
draw_overview(out / "overview.png", A, labels, {"naive": lplr.quantize(A, bits=1)}, curves)
draw_bounds(out / "bounds.png", panels_of(run("range-finder-bound", trials=2, rng=0)))
write_report(out / "report.html", table((0,))[:40], attrs())
assert "matplotlib.pyplot" not in sys.modules
"""


def test_pictures_do_not_depend_on_the_settings_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(_MATPLOTLIBRC)
    (tmp_path / "file").touch()  # no folder can be made there, whoever asks
    hostile = {
        "MATPLOTLIBRC": str(tmp_path),
        "MPLBACKEND": "TkAgg",
        "DISPLAY": "",
        "MPLCONFIGDIR": str(tmp_path / "file"),
    }
    found = []
    for name, changes in {"plain": {}, "hostile": hostile}.items():
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(tmp_path / name)],
            env=os.environ | changes,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_demo_keeps_out_of_other_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out, said in ((tmp_path, "not empty"), (tmp_path / "mine.txt", "not a folder")):
        assert main(["demo", "--out", str(out)]) == 2
        message = capsys.readouterr().err
        assert len(message.splitlines()) == 1
        assert said in message
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_bench_speed() -> None:
    rows = json.loads(run("bench", "speed", "--quick", "--json"))["rows"]
    error = {r["what"]: r["error"] for r in rows if r["benchmark"] == "factorization"}
    assert error["two products"] is None
    # The order is that of the methods: rounding, feedback, and no quantization at all.
    assert 1 > error["lplr"] > error["feedback"] > error["randomized_svd"] > 0
    assert all(row["seconds"] > 0 for row in rows)
    assert {row["benchmark"] for row in rows} == {
        "factorization", "decoding", "kernels", "products", "compress", "CALDERA", "fresh process",
    }  # fmt: skip
    memory = [row["extra_mb"] for row in rows if row["what"] in ("lplr", "feedback")]
    assert not Path("/proc/self/clear_refs").exists() or min(memory) > 0


# --- baselines and figures -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (2, 50)])
def test_float16_svd(shape: tuple[int, int]) -> None:
    A = datasets.synthetic(*shape, "power", exponent=1.0, rng=0)
    f = float16_svd(A, 18, rng=0)
    assert f.bits_per_entry <= 18
    s = np.linalg.svd(A, compute_uv=False)
    best = np.sqrt(np.square(s[f.rank :]).sum() / np.square(s).sum())
    # The randomized SVD and float16 add little to the best of this rank.
    assert best <= f.relative_error(A) <= 1.05 * best + 1e-3


def test_float16_svd_refuses_too_small_a_budget() -> None:
    with pytest.raises(BudgetError, match="rank 1"):
        float16_svd(np.eye(20), 0.5)


def test_naive_takes_the_better_range() -> None:
    rng = np.random.default_rng(0)
    outlier = np.where(np.arange(900).reshape(30, 30) == 7, 50.0, rng.standard_normal((30, 30)))
    for A in (outlier, datasets.shepp_logan(64)):
        least = min(
            lplr.quantize(A, bits=2, scaling=s).relative_error(A) for s in ("minmax", "mse")
        )
        assert naive(A, 2).relative_error(A) == least
