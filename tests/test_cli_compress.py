"""``lplr compress``: which function its options mean, what it writes and reports, its refusals."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import COMMAND, refused, report

import lplr
from lplr.cli.compress_call import Call, call_of
from lplr.cli.main import _parser, main
from lplr.exceptions import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layer = lplr.datasets.layer("minilm_l2_query")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "W.npy", layer.W[:96, :128])
    np.save(tmp_path / "H.npy", layer.H[:128, :128])
    np.save(tmp_path / "diagonal.npy", np.diagonal(layer.H)[None, :128].copy())
    np.save(tmp_path / "X.npy", rng.standard_normal((300, 128)).astype(np.float32))
    np.save(tmp_path / "wrong.npy", layer.H[:64, :64])
    np.savez(tmp_path / "G.npz", other=np.ones(3), G=np.linspace(1, 9, 96)[None])
    np.save(tmp_path / "a.npy", lplr.datasets.synthetic(90, 80, "power", exponent=1.0, rng=0))
    np.save(tmp_path / "one.npy", np.ones((9, 8)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- what the options mean -------------------------------------------------------------------


def meaning(options: str) -> Call:
    return call_of(_parser().parse_args(["compress", "a.npy", "-o", "a.h5", *options.split()]))


@pytest.mark.parametrize(
    ("options", "function", "arguments"),
    [
        ("--bits-per-entry 2", "compress", {"bits_per_entry": 2.0}),
        (
            "--bits-per-entry 2 --effort best --hessian H.npy",
            "compress",
            {"bits_per_entry": 2.0, "effort": "best"},
        ),
        (
            "--bits-per-entry 2 --memory-limit 2GB",
            "compress",
            {"bits_per_entry": 2.0, "memory_limit": "2GB"},
        ),
        ("--rank 3", "factorize", {"rank": 3}),
        ("--rank 3 --effort best", "factorize", {"rank": 3, "effort": "best"}),
        ("--rank 3 --bits 4,2", "factorize", {"rank": 3, "bits": (4, 2)}),
        (
            "--bits-per-entry 2 --quantizer e8p,lloyd-max",
            "factorize",
            {"bits_per_entry": 2.0, "quantizer": ("e8p", "lloyd-max")},
        ),
        (
            "--bits-per-entry 2 --method lplr --sketch srht",
            "factorize",
            {"bits_per_entry": 2.0, "method": "lplr", "sketch": "srht"},
        ),
        ("--hessian H.npy", "caldera", {}),
        ("--hessian H.npy --rank 3", "caldera", {"rank": 3}),
        ("--output-hessian G.npy", "caldera", {}),
        ("--output-hessians G.npz --bits-per-entry 2", "compress", {"bits_per_entry": 2.0}),
        (
            "--q-bits 3 --factor-bits 6,2 --n-iter 1",
            "caldera",
            {"q_bits": 3, "factor_bits": (6, 2), "n_iter": 1},
        ),
        ("--method naive --bits 3", "quantize", {"bits": 3, "quantizer": "uniform"}),
    ],
)
def test_options_mean_a_function(options: str, function: str, arguments: dict[str, Any]) -> None:
    assert meaning(options) == Call(function, {**arguments, "rng": 0})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("", "--rank: found neither"),
        ("--effort best", "--rank: found neither"),
        ("--bits 3", "--rank: found neither"),
        ("--rank 3 --bits-per-entry 2", "--rank: found both"),
        ("--q-bits 2 --effort best", "--effort: does not go with --q-bits"),
        ("--q-bits 2 --rank 3 --bits 4", "--bits: does not go with --rank, --q-bits"),
        ("--q-bits 2 --bits-per-entry 3", "--bits-per-entry: does not go with --q-bits"),
        ("--hessian H.npy --method lplr", "--method: does not go with --hessian"),
        ("--q-bits 2 --quantizer e8p,e8p", "found e8p,e8p; name one"),
        ("--output-hessian G.npy --output-hessians G.npz", "--output-hessian: is one, --output-h"),
        ("--output-hessian G.npy --method naive --bits 3", "--output-hessian: does not go with"),
        ("--method naive", "--bits: --method naive needs one number"),
        ("--method naive --bits 3,3", "found 3,3"),
        ("--method naive --bits 3 --rank 2", "--rank: does not go with --method, --bits"),
    ],
)
def test_options_that_do_not_go_together(options: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        meaning(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--rank 97", "--rank: "),
        ("--rank 2 --seed -1", "--seed: "),
        ("--bits-per-entry 0.001", "use at least"),
        ("--bits-per-entry 2 --hessian wrong.npy", "--hessian: "),
        ("--bits-per-entry 2 --output-hessian H.npy", "--output-hessian: must have shape (96, 96)"),
        ("--bits-per-entry 2 --output-hessian G.npz", "G.npz"),
        ("--bits-per-entry 2 --output-hessians G.npz", "--output-hessians: there is no matrix"),
        ("--hessian missing.npy --rank 4", "missing.npy"),
        ("--q-bits 9 --rank 4", "--q-bits: "),
        ("--damping -1 --rank 4", "--damping: "),
        ("--q-bits 2 --mode magic", "--mode"),
    ],
)
def test_refusals_name_the_option(folder, capsys, options: str, said: str) -> None:
    assert said in refused(capsys, "compress", "W.npy", "-o", "out.h5", *options.split())
    assert not Path("out.h5").exists()


# --- a budget --------------------------------------------------------------------------------


@pytest.mark.parametrize("hessian", [(), ("--hessian", "H.npy")])
def test_the_budget_is_spent_by_compress(folder, capsys, hessian) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", "--bits-per-entry", "2.5", *hessian)
    planned = report(capsys, *command, "--dry-run")["choices"]
    assert not Path("W.h5").exists()
    made = report(capsys, *command)
    H = np.load("H.npy") if hessian else None
    f = lplr.compress(np.load("W.npy"), bits_per_entry=2.5, hessian=H, rng=0)
    np.testing.assert_array_equal(lplr.load("W.h5").to_dense(), f.to_dense())
    assert made["stored_nbytes"] == f.nbytes <= 2.5 * 96 * 128 / 8
    assert made["search"] == [f.meta["plan"], *f.meta["others"]]
    assert sorted(c["predicted"] for c in made["search"]) == [c["predicted"] for c in planned]
    chosen = next(c for c in planned if c["predicted"] == made["search"][0]["predicted"])
    assert chosen["nbytes"] == f.nbytes
    assert (made["relative_error_under_hessian"] is None) == (not hessian)


def test_info_shows_the_choice_and_what_else_was_considered(folder, capsys) -> None:
    command = ("compress", "a.npy", "-o", "a.h5", "--bits-per-entry", "2", "--effort", "fast")
    assert main(command) == 0
    compressed = capsys.readouterr().out
    assert main(["info", "a.h5"]) == 0
    text = capsys.readouterr().out
    meta = lplr.load("a.h5").meta
    assert meta["call"]["arguments"]["effort"] == "fast"
    assert "what else was considered" in text
    for shown in (compressed, text):
        lines = [line for line in shown.splitlines() if line.startswith("* ")]
        assert len(lines) == 1
        assert f"{meta['plan']['predicted']:.5f}" in lines[0]
        assert f"{meta['plan']['error']:.5f}" in lines[0]
        assert all(f"{other['predicted']:.5f}" in shown for other in meta["others"])
    assert '"kind"' not in text  # as a table, not as JSON
    document = report(capsys, "info", "a.h5")
    assert document["groups"]["/"]["meta"]["plan"] == meta["plan"]


def test_both_sizes_are_named(folder, capsys) -> None:
    command = ("compress", "a.npy", "-o", "a.h5", "--bits-per-entry", "2", "--effort", "fast")
    assert main([*command]) == 0
    text = capsys.readouterr().out
    stored, file, source = lplr.load("a.h5").nbytes, Path("a.h5").stat().st_size, 8 * 90 * 80
    assert f"{stored} bytes stored (1/{source / stored:.1f} of the input)" in text
    assert f"the file has {file} bytes (1/{source / file:.1f} of the input)" in text


def test_a_constant_matrix(folder, capsys) -> None:
    command = ("compress", "one.npy", "-o", "one.h5", "--bits-per-entry", "4")
    assert report(capsys, *command, "--dry-run")["choices"][0]["kind"] == "constant"
    assert report(capsys, *command)["relative_error"] == 0
    assert main(["info", "one.h5"]) == 0
    assert "one value" in capsys.readouterr().out


# --- factors ---------------------------------------------------------------------------------


def test_same_seed_same_bytes(folder, capsys) -> None:
    options = ("compress", "a.npy", "--rank", "9", "--bits", "4,3", "--method", "lplr")
    report(capsys, *options, "-o", "a.h5")
    report(capsys, *options, "-o", "b.h5", "--seed", "0")
    report(capsys, *options, "-o", "c.h5", "--seed", "1")
    first, same, other = (Path(f"{name}.h5").read_bytes() for name in "abc")
    assert first == same
    assert first != other


@pytest.mark.parametrize("method", ["feedback", "lplr", "lplr-svd", "direct-svd"])
@pytest.mark.parametrize("size", [("--rank", "7", "--bits", "3"), ("--bits-per-entry", "2")])
def test_a_dry_run_bounds_the_size(folder, capsys, method: str, size: tuple[str, ...]) -> None:
    options = ("compress", "a.npy", "-o", "a.h5", "--method", method, *size)
    choices = report(capsys, *options, "--dry-run")["choices"]
    assert not Path("a.h5").exists()
    made = report(capsys, *options)
    assert made["search"] == []
    if method == "feedback" and "--rank" not in size:  # the data decide on all but the size
        (choice,) = choices
        assert 0 <= choice["nbytes"] - made["stored_nbytes"] < 0.05 * choice["nbytes"]
        return
    (chosen,) = (
        choice
        for choice in choices
        if choice["rank"] == made["rank"]
        and [made["codes"][side] for side in "LR"]
        == [f"{q} {b} bits" for q, b in zip(choice["quantizers"], choice["bits"], strict=True)]
    )
    # The shift and the offsets that a budget reserves are not always needed: 24 bytes at most.
    assert 0 <= chosen["nbytes"] - made["stored_nbytes"] <= 24


@pytest.mark.parametrize("quantizer", ["uniform", "e8p"])
def test_naive(folder, capsys, quantizer: str) -> None:
    options = ("compress", "a.npy", "-o", "a.h5", "--method", "naive", "--bits", "3")
    options = (*options, "--quantizer", quantizer)
    (choice,) = report(capsys, *options, "--dry-run")["choices"]
    made = report(capsys, *options)
    assert made["stored_nbytes"] == choice["nbytes"]
    assert made["codes"] == {"matrix": f"{quantizer} 3 bits"}
    assert isinstance(lplr.load("a.h5"), lplr.Quantized)


# --- Q + L R ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hessian", ["H.npy", "diagonal.npy", "X.npy"])
def test_a_hessian_in_a_file(folder, capsys, hessian: str) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", "--hessian", hessian, "--rank", "8")
    made = report(capsys, *command, "--q-bits", "3", "--factor-bits", "6,2")
    f = lplr.load("W.h5")
    assert isinstance(f, lplr.QPlusLowRank)
    assert (f.rank, f.backbone.bits, f.low_rank.left.bits, f.low_rank.right.bits) == (8, 3, 6, 2)
    assert made["relative_error"] == f.relative_error(np.load("W.npy"))
    assert 0 < made["relative_error_under_hessian"] < 1
    assert set(made["codes"]) == {"Q", "L", "R"}
    assert main(["info", "W.h5"]) == 0
    assert f"{f.meta['history'][-1]['error']:.5f}" in capsys.readouterr().out


@pytest.mark.parametrize("size", [("--rank", "8"), ("--bits-per-entry", "2")])
@pytest.mark.parametrize("hessian", [(), ("--hessian", "H.npy")])
def test_an_output_hessian_in_a_file(folder, capsys, size, hessian) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", *size, *hessian)
    made = report(capsys, *command, "--output-hessian", "G.npz:G")
    f, W, G = lplr.load("W.h5"), np.load("W.npy"), np.linspace(1, 9, 96)
    H = np.load("H.npy") if hessian else None
    if size[0] == "--rank":
        same = lplr.caldera(W, hessian=H, output_hessian=G, rng=0, rank=8)
    else:
        same = lplr.compress(W, hessian=H, output_hessian=G, rng=0, bits_per_entry=2)
    np.testing.assert_array_equal(f.to_dense(), same.to_dense())
    assert made["relative_error_under_output_hessian"] == f.relative_error(W, H, G)
    assert (made["relative_error_under_hessian"] is None) == (not hessian)
    weights = made["input"]["hessian"], made["input"]["output_hessian"]
    assert weights == (hessian[1] if hessian else None, "G.npz:G")
    assert main(["info", "W.h5"]) == main(["verify", "W.h5", "--against", "W.npy"]) == 0
    assert "output_hessian=G" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["default", "faithful"])
@pytest.mark.parametrize("rank", ["0", "5"])
def test_a_dry_run_knows_the_size(folder, capsys, mode: str, rank: str) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", "--mode", mode, "--rank", rank, "--n-iter", "1")
    (planned,) = report(capsys, *command, "--dry-run")["choices"]
    assert not Path("W.h5").exists()
    made = report(capsys, *command)
    assert planned["nbytes"] == made["stored_nbytes"]
    assert planned["bits_per_entry"] == made["bits_per_entry"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_an_interrupt_leaves_nothing(folder) -> None:
    rng = np.random.default_rng(0)
    np.save("big.npy", rng.standard_normal((1000, 1000), dtype=np.float32))
    command = [*COMMAND, "compress", "big.npy", "-o", "big.h5"]
    child = subprocess.Popen(
        [*command, "--mode", "faithful", "--n-iter", "1000", "--q-bits", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    while "round" not in child.stderr.readline():  # kernels are loaded, work is under way
        pass
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert error.splitlines()[-1] == "lplr: interrupted"
    assert "Traceback" not in error
    assert [p.name for p in folder.iterdir() if "big" in p.name or "tmp" in p.name] == ["big.npy"]
