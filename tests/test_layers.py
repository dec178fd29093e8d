"""The report of many matrices, by the library and by the command, against what it reports of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.cli.main import main
from lplr.evaluation import spectrum
from lplr.evaluation.layers import FORMULAS, LayerReport, report_layers
from lplr.exceptions import InputError
from lplr.storage.table import read_table
from lplr.theory import rate_distortion_limit

RNG = np.random.default_rng(0)
W = RNG.standard_normal((60, 40)) @ np.diag(1 / np.arange(1.0, 41))
H = np.cov(RNG.standard_normal((200, 40)).cumsum(axis=1).T)


def naive_spectrum(A: np.ndarray) -> dict[str, float]:
    s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
    total = sum(s**2)
    found = {"stable_rank": total / s[0] ** 2}
    for percent in (50, 90, 99):
        rank = 0
        while sum(s[:rank] ** 2) < percent / 100 * total:
            rank += 1
        found[f"rank_{percent}"] = rank
    return found


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (3000, 5), (5, 3000), (1, 7)])
def test_spectrum(shape: tuple[int, int]) -> None:
    A = np.random.default_rng(1).standard_normal(shape) * np.geomspace(1, 50, shape[1])
    sigma = spectrum.singular_values(A)
    expected = np.linalg.svd(A, compute_uv=False)
    # Roots of eigenvalues, each known to rounding of the largest.
    np.testing.assert_allclose(sigma, expected, rtol=1e-9, atol=1e-7 * expected[0])
    found = spectrum.Spectrum.of(sigma)
    for name, value in naive_spectrum(A).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9)
    assert spectrum.Spectrum.of(np.zeros(4)) == spectrum.Spectrum(0.0, 0, 0, 0)


@pytest.mark.parametrize("hessian", [None, H])
def test_each_number(hessian: np.ndarray | None) -> None:
    hessians = None if hessian is None else {"w": hessian}
    (found,) = report_layers({"w": W}, bits_per_entry=2, hessians=hessians, rng=3)
    f = lplr.compress(W, bits_per_entry=2, hessian=hessian, rng=3)
    E = W - f.to_dense()
    assert (found.layer, found.status, found.note) == ("w", "ok", None)
    assert (found.shape, found.dtype, found.kind) == ("60 x 40", "float64", type(f).__name__)
    assert (found.rank, found.stored_bytes) == (getattr(f, "rank", None), f.nbytes)
    assert found.bits_per_entry == f.bits_per_entry
    for name, value in naive_spectrum(W).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5)  # of the matrix in float32
    # W is compressed, and compared, as float32.
    assert found.relative_error == pytest.approx(np.linalg.norm(E) / np.linalg.norm(W), rel=1e-5)
    sigma = np.linalg.svd(W, compute_uv=False)
    limit = rate_distortion_limit(sigma, W.shape, f.bits_per_entry)
    assert found.limit == pytest.approx(limit, rel=1e-5)
    if hessian is None:
        assert found.error_under_h is None
    else:
        expected = np.sqrt(np.trace(E @ H @ E.T) / np.trace(W @ H @ W.T))
        assert found.error_under_h == pytest.approx(expected, rel=1e-5)
    assert found.seconds is not None
    assert found.seconds > 0


def test_memory_and_time_are_of_the_compression() -> None:
    import time

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell peak memory")

    def compress(A: np.ndarray, _: Any) -> lplr.Quantized:
        if A.shape == W.shape:
            time.sleep(0.05)
            np.ones(10**7)  # 80 MB, gone again when the function returns
        return lplr.quantize(A, bits=4)

    loads = []

    def layer() -> np.ndarray:
        loads.append(np.ones(2 * 10**7).sum())  # 160 MB that are not the compressor's
        return W

    # Twice: memory that the first one has freed counts for the second one as well.
    for found in report_layers({"a": layer, "b": layer}, compress=compress):
        assert found.peak_mb == pytest.approx(80, abs=8)
        assert found.seconds > 0.05
    assert len(loads) == 2


def test_nothing_is_left_out() -> None:
    def broken() -> np.ndarray:
        raise InputError("file: is damaged")

    layers = {
        "bias": np.zeros(7),
        "kernel": np.zeros((3, 3, 2, 2)),
        "nan": np.full((4, 4), np.nan),
        "text": np.array([["a", "b"]]),
        "broken": broken,
        "tiny": np.eye(2),
        "zero": np.zeros((20, 30)),
        "good": W.astype(np.float16),
    }
    found = {r.layer: r for r in report_layers(layers, bits_per_entry=2, rng=0)}
    assert list(found) == list(layers)
    status = {name: r.status for name, r in found.items()}
    assert status == {
        "bias": "skipped", "kernel": "skipped", "nan": "failed", "text": "failed",
        "broken": "failed", "tiny": "failed", "zero": "ok", "good": "ok",
    }  # fmt: skip
    notes = {name: r.note for name, r in found.items() if r.note}
    assert "shape (7,)" in notes["bias"]
    assert notes["nan"].startswith("nan: has nan at (0, 0)")
    assert notes["broken"] == "file: is damaged"
    assert "use at least" in notes["tiny"]
    assert found["nan"].shape == "4 x 4"  # what is known is told
    assert found["zero"].relative_error == 0
    assert found["good"].dtype == "float16"


def test_every_number_has_a_formula() -> None:
    numbers = {
        name
        for name, kind in LayerReport.__annotations__.items()
        if "float" in kind or "int" in kind
    }
    assert numbers - FORMULAS.keys() == {"rank", "stored_bytes"}
    assert numbers > FORMULAS.keys()


def test_refusals() -> None:
    for layers in ({}, [W], W):
        with pytest.raises(InputError, match=r"^layers: "):
            report_layers(layers)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^hessians: 'v' is the name of no layer"):
        report_layers({"w": W}, hessians={"v": H})
    with pytest.raises(InputError, match=r"^bits_per_entry: "):
        report_layers({"w": W}, bits_per_entry=0)
    (found,) = report_layers({"w": W}, hessians={"w": H[:3, :3]}, rng=0)
    assert found.status == "failed"
    assert str(found.note).startswith("hessian: must have shape")


# --- command ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("model.npz", w=W, bias=np.zeros(5))
    np.save("v.npy", W.T.astype(np.float32))
    np.savez("hessians.npz", w=H, other=H)
    return tmp_path


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "layers", "model.npz", "v.npy", "--hessians", "hessians.npz"]
    assert main([*command, "--budgets", "2,3", "--out", "found.h5"]) == 0
    shown = capsys.readouterr().out
    rows, attrs = read_table("found.h5")
    assert [(r["layer"], r["budget"], r["status"]) for r in rows] == [
        (name, budget, status)
        for budget in (2, 3)
        for name, status in (("w", "ok"), ("bias", "skipped"), ("v", "ok"))
    ]
    (expected,) = report_layers({"w": W}, bits_per_entry=3, hessians={"w": H}, rng=0)
    assert rows[3]["error_under_h"] == expected.error_under_h
    assert rows[5]["error_under_h"] is None
    assert f"{expected.error_under_h:.4f}" in shown
    assert attrs["formulas"] == dict(FORMULAS)
    assert "|A - B|_F / |A|_F" in shown
    assert "not a matrix: shape (5,)" in shown


def test_command_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "layers", "model.npz:w", "--budgets", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in found["rows"]] == ["w"]
    np.savez("bad.npz", nan=np.full((9, 9), np.nan))
    assert main(["bench", "layers", "bad.npz", "--budgets", "2", "--json"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quick",), "--quick: is not for FILE"),
        (("--methods", "PQ"), "--methods: is not for FILE"),
        (("--html", "x.html"), "--html: is not for FILE"),
        (("--out", "x.txt"), "x.txt: an output of this command ends in"),
        (("--out", "v.npy"), "v.npy: "),
        (("--hessians", "v.npy"), "--hessians: v.npy has none for w, bias"),
        (("--budgets", "two"), "--budgets: must be numbers"),
        (("--budgets", "0"), "bits_per_entry: "),
        (("none.npz",), "none.npz: no such file"),
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
