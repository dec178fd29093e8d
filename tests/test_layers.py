"""``lplr bench layers FILE``: every matrix of files, against what the library says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import lplr
from lplr.cli.main import main
from lplr.evaluation.gallery import Gallery
from lplr.evaluation.report import write_report
from lplr.evaluation.spectrum import describe_spectrum, singular_values
from lplr.storage.table import read_table

RNG = np.random.default_rng(0)
W = (RNG.standard_normal((60, 40)) @ np.diag(1 / np.arange(1.0, 41))).astype(np.float32)
H = np.cov(RNG.standard_normal((200, 40)).cumsum(axis=1).T)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (3000, 5), (5, 3000), (1, 7)])
def test_spectrum(shape: tuple[int, int]) -> None:
    A = np.random.default_rng(1).standard_normal(shape) * np.geomspace(1, 50, shape[1])
    sigma = singular_values(A)
    s = np.linalg.svd(A, compute_uv=False)
    # Roots of eigenvalues, each known to rounding of the largest.
    np.testing.assert_allclose(sigma, s, rtol=1e-9, atol=1e-7 * s[0])
    found = describe_spectrum(sigma)
    assert found["stable_rank"] == pytest.approx(sum(s**2) / s[0] ** 2, rel=1e-9)
    for percent in (50, 90, 99):
        rank = 0
        while sum(s[:rank] ** 2) < percent / 100 * sum(s**2):
            rank += 1
        assert found[f"rank_{percent}"] == rank
    assert set(describe_spectrum(np.zeros(4)).values()) == {0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("model.npz", w=W, bias=np.zeros(5), empty=np.zeros((0, 4)))
    np.save("v.npy", W.T)
    np.savez("hessians.npz", w=H, other=H)
    return tmp_path


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "layers", "model.npz", "v.npy", "--hessians", "hessians.npz"]
    command += ["--budgets", "2,3", "--html", "page.html"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    rows, attrs = read_table("bench-model.jsonl")
    found = {(r["dataset"], r["budget"], r["metric"]): r["value"] for r in rows}
    f = lplr.compress(W, bits_per_entry=3, hessian=H, rng=0)
    assert found["w", 3.0, "relative error"] == f.relative_error(W)
    under_h = found["w", 3.0, "relative error under H"]
    assert under_h == pytest.approx(f.relative_error(W, H), rel=1e-9)
    assert ("v", 3.0, "relative error under H") not in found
    assert attrs["spectra"].keys() == {"w", "v"}
    for text in (f"{under_h:.4f}", "60 x 40", "stable rank", "90 %", "|A - B|_F / |A|_F"):
        assert text in shown
    assert "not a matrix: shape (5,)" in shown
    assert "not a matrix: shape (0, 4)" in shown
    assert "60 x 40" in (folder / "page.html").read_text()


def test_hessians_as_compress_takes_them(folder: Path) -> None:
    with h5py.File("model.h5", "w") as file:
        file["up/w.weight"], file["down"] = W, W
    diagonal = np.diag(H)
    np.savez("hessians.npz", **{"up/w": H, "down": diagonal[None]})
    command = ["bench", "layers", "model.h5", "--hessians", "hessians.npz", "--budgets", "3"]
    assert main(command) == 0
    rows, _ = read_table("bench-model.jsonl")
    found = {r["dataset"]: r["value"] for r in rows if r["metric"] == "relative error under H"}
    for name, hessian in (("up/w.weight", H), ("down", diagonal)):
        f = lplr.compress(W, bits_per_entry=3, hessian=hessian, rng=0)
        assert found[name] == pytest.approx(f.relative_error(W, hessian), rel=1e-9)


def test_an_interrupt_leaves_a_table_that_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def see(self: Gallery, run: Any, f: Any) -> None:
        seen.append(run.key)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Gallery, "see", see)
    command = ["bench", "layers", "model.npz:w", "v.npy", "--budgets", "1,2"]
    command += ["--out", "r.csv", "--html", "page.html"]
    assert main(command) == 130
    assert len(read_table("r.jsonl")[0]) == 1
    assert not (folder / "page.html").exists()
    assert main(["bench", "report", "r.jsonl", "--html", "part.html"]) == 0
    capsys.readouterr()
    assert main(["bench", "report", "r.csv"]) == 2
    assert "name the one beside, r.jsonl" in capsys.readouterr().err
    assert main(command) == 0
    assert "going on with r.jsonl; rows so far: 1\n" in capsys.readouterr().err
    assert [(name, budget) for name, _, budget, _ in seen] == [
        ("w", 1.0), ("w", 2.0), ("w", 2.0), ("v", 1.0), ("v", 2.0),
    ]  # fmt: skip
    assert not list(folder.glob(".lplr-*"))


def test_json_is_what_the_other_functions_take(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "layers", "model.npz:w", "--budgets", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["dataset"] for row in found["rows"]} == {"w"}
    write_report("again.html", found["rows"], found["attrs"])
    frame = pd.DataFrame(found["rows"])
    assert frame.equals(pd.DataFrame(read_table(found["files"][0])[0]))
    np.savez("bad.npz", nan=np.full((9, 9), np.nan))
    assert main(["bench", "layers", "bad.npz", "--budgets", "2", "--json"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "x.txt"), "x.txt: results end in .jsonl or .csv"),
        (("--out", "x.h5"), "results in HDF5 are no longer read"),
        (("--hessians", "v.npy"), "--hessians: v.npy has none for w, bias"),
        (("none.npz",), "none.npz: no such file"),
        (("--methods", "compres"), "no 'compres' (did you mean compress?)"),
        (("--quick",), "--quick: the matrices of FILE are measured whole"),
    ],
)
def test_command_refuses(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["bench", "layers", "model.npz", *options]) == 2
    assert message in capsys.readouterr().err


def test_hessians_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "layers", "--hessians", "hessians.npz"]) == 2
    assert "--hessians: name the FILE" in capsys.readouterr().err
