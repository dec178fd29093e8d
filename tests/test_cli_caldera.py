"""The command line under a Hessian: what it writes, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr import datasets
from lplr.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layer = datasets.layer("minilm_l2_query")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "W.npy", layer.W[:96, :128])
    np.save(tmp_path / "H.npy", layer.H[:128, :128])
    np.save(tmp_path / "diagonal.npy", np.diagonal(layer.H)[None, :128].copy())
    np.save(tmp_path / "X.npy", rng.standard_normal((300, 128)).astype(np.float32))
    np.save(tmp_path / "wrong.npy", layer.H[:64, :64])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any], str]:
    try:
        code: Any = main([*args, "--json"])
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else {}, captured.err


@pytest.mark.parametrize("hessian", ["H.npy", "diagonal.npy", "X.npy"])
def test_compress_under_a_hessian(folder, capsys, hessian: str) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", "--hessian", hessian, "--rank", "8")
    code, report, _ = run(capsys, *command, "--q-bits", "3", "--factor-bits", "6,2")
    assert code == 0
    f = lplr.load("W.h5")
    assert isinstance(f, lplr.QPlusLowRank)
    assert (f.rank, f.backbone.bits, f.low_rank.left.bits, f.low_rank.right.bits) == (8, 3, 6, 2)
    assert report["relative_error"] == f.relative_error(np.load("W.npy"))
    assert 0 < report["relative_error_under_hessian"] < 1
    assert set(report["codes"]) == {"Q", "L", "R"}
    code, info, _ = run(capsys, "info", "W.h5")
    assert info["groups"]["/low_rank/right"]["values"]["bits"] == 2
    assert main(["decompress", "W.h5", "-o", "again.npy"]) == 0
    np.testing.assert_array_equal(np.load("again.npy"), f.to_dense())


@pytest.mark.parametrize("mode", ["default", "faithful"])
@pytest.mark.parametrize("rank", ["0", "5"])
def test_a_dry_run_knows_the_size(folder, capsys, mode: str, rank: str) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", "--mode", mode, "--rank", rank, "--n-iter", "1")
    code, planned, _ = run(capsys, *command, "--dry-run")
    assert code == 0
    assert not Path("W.h5").exists()
    code, made, _ = run(capsys, *command)
    assert code == 0
    assert planned["choices"][0]["nbytes"] == made["stored_nbytes"]
    assert planned["choices"][0]["bits_per_entry"] == made["bits_per_entry"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--q-bits", "2", "--bits", "4"), "--rank and --quantizer"),
        (("--q-bits", "2", "--bits-per-entry", "3"), "--bits-per-entry"),
        (("--hessian", "H.npy", "--method", "lplr"), "--method"),
        (("--q-bits", "2", "--quantizer", "e8p,e8p"), "one"),
        (("--q-bits", "9", "--rank", "4"), "9"),
        (("--hessian", "wrong.npy", "--rank", "4"), "hessian"),
        (("--hessian", "missing.npy", "--rank", "4"), "missing.npy"),
        (("--q-bits", "2", "--rank", "97"), "rank"),
        (("--damping", "-1", "--rank", "4"), "damping"),
    ],
)
def test_refusals(folder, capsys, options: tuple[str, ...], message: str) -> None:
    code, report, error = run(capsys, "compress", "W.npy", "-o", "W.h5", *options)
    assert code == 2
    assert not report
    last = error.splitlines()[-1]
    assert last.startswith("lplr: error: ")
    assert message in last
    assert "Traceback" not in error
    assert not Path("W.h5").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_an_interrupt_leaves_nothing(folder) -> None:
    rng = np.random.default_rng(0)
    np.save("big.npy", rng.standard_normal((1500, 1500), dtype=np.float32))
    command = (sys.executable, "-m", "lplr", "compress", "big.npy", "-o", "big.h5")
    child = subprocess.Popen(
        [*command, "--mode", "faithful", "--n-iter", "1000", "--q-bits", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    while "round 1" not in child.stderr.readline():  # kernels are loaded, work is under way
        pass
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in error
    assert sorted(p.name for p in folder.iterdir() if "big" in p.name or "tmp" in p.name) == [
        "big.npy"
    ]
