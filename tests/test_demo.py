"""The demonstration, the benchmark and the figures, each run as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import lplr
from lplr import datasets
from lplr.cli.main import main
from lplr.evaluation.baselines import float16_svd, naive
from lplr.evaluation.plots import Curve, Panel, Picture, draw_curves, draw_images
from lplr.exceptions import BudgetError
from lplr.theory import rate_distortion_limit


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


def test_files_are_what_the_table_says(demo: Path) -> None:
    document = json.loads((demo / "results.json").read_text())
    images = datasets.fashion_mnist(n=1000).images
    sigma = np.linalg.svd(images, compute_uv=False)
    rows = [row for row in document["results"] if row["matrix"] == "fashion-mnist"]
    # Seven methods, two budgets.
    assert len(rows) == 14
    assert len({row["file"] for row in document["results"]}) == len(document["results"]) == 56
    for row in rows:
        f = lplr.load(demo / row["file"])
        # Naive quantization stores a scale and an offset beside its bits: 8 bytes.
        assert f.bits_per_entry <= row["budget"] + 64 / images.size
        assert row["error"] == f.relative_error(images)
        limit = rate_distortion_limit(sigma, images.shape, f.bits_per_entry)
        # From singular values in float32, and of the Gram matrix there.
        assert row["ratio"] == pytest.approx(row["error"] / limit, rel=1e-3)


def test_our_methods_win_where_the_data_have_low_rank(demo: Path) -> None:
    rows = json.loads((demo / "results.json").read_text())["results"]
    for matrix in ("fashion-mnist", "embeddings", "phantom"):
        for budget in (1, 2):
            found = {
                row["method"]: row["error"]
                for row in rows
                if (row["matrix"], row["budget"]) == (matrix, budget)
            }
            assert sorted(found, key=lambda method: found[method])[:2] == ["compress", "feedback"]


def test_layer_under_its_hessian(demo: Path) -> None:
    rows = json.loads((demo / "results.json").read_text())["layer_under_hessian"]
    error = {row["method"]: row["error"] for row in rows}
    assert error["CALDERA, default"] < error["CALDERA, faithful"] < error["naive rounding"]
    assert error["feedback alone"] < error["naive rounding"]
    assert error["compress"] < min(error["feedback alone"], error["CALDERA, default"])
    for row in rows:
        assert lplr.load(demo / row["file"]).bits_per_entry == row["bits_per_entry"]
        assert 2.97 < row["bits_per_entry"] < 3.002  # 3 but for scales and seeds


def test_pictures_show_something(demo: Path) -> None:
    names = ("rate-distortion", "fashion-mnist", "phantom", "layer-under-hessian")
    for name in (f"{name}.png" for name in names):
        pixels = imread(demo / name)[:, :, :3]
        assert min(pixels.shape[:2]) > 400
        # White and much else: neither an empty canvas nor one colour.
        assert 0.05 < (pixels < 0.95).any(axis=2).mean() < 0.95


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
    document = json.loads(run("bench", "speed", "--quick", "--json"))
    for entry in document["factorizations"]:
        assert entry["runs"]["two products"]["error"] is None
        # The order is that of the methods: rounding, feedback, and no quantization at all.
        errors = [entry["runs"][k]["error"] for k in ("lplr", "feedback", "randomized_svd")]
        assert 1 > errors[0] > errors[1] > errors[2] > 0
        assert all(run["seconds"] > 0 for run in entry["runs"].values())
        for memory in entry["memory"].values():
            n, d = entry["shape"]
            assert memory["input"] == 4 * n * d
            assert memory["extra"] > 0
    assert document["decoding"]["uniform, 8 bits"]["entries_per_second"] > 0
    assert 0 < document["imports"]["import lplr"] < 10


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


def test_figures_are_reproducible_and_leave_no_global_state(tmp_path: Path) -> None:
    panel = Panel("p", [Curve("a", [1, 2], [0.2, 0.1])], Curve("limit", [1, 2], [0.1, 0.05]))
    rows = {"a": [Picture(np.eye(8), "x"), None]}
    for name in ("1", "2"):
        draw_curves(tmp_path / f"c{name}.png", [panel])
        draw_images(tmp_path / f"i{name}.png", "title", rows, ["head", "other"])
    assert (tmp_path / "c1.png").read_bytes() == (tmp_path / "c2.png").read_bytes()
    assert (tmp_path / "i1.png").read_bytes() == (tmp_path / "i2.png").read_bytes()
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
