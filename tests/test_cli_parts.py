"""Matrices in parts on the command line, and what SIGKILL leaves of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.cli.main import main
from lplr.streaming import part_rows

N, D = 13000, 16


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    np.save(place / "A.npy", rng.standard_normal((N, D), np.float32) / np.arange(1, D + 1) ** 0.5)
    return place


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_from_a_matrix_to_parts_and_back(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_rows, "_NBYTES", 1)
    A, out, dense = place / "A.npy", place / "A.parts", place / "dense.npy"
    how = "--rank", 4, "--bits", 3, "--effort", "fast", "--parts", "--memory-limit", "100MB"
    code, said, _ = run(capsys, "compress", A, "-o", out, *how, "--json")
    assert code == 0
    made = json.loads(said)
    f = lplr.load(out)
    assert len(f.blocks) == 3
    assert made["relative_error"] == lplr.inspect(out)["attrs"]["relative_error"]
    code, said, _ = run(capsys, "verify", out, "--against", A, "--json")
    assert code == 0
    found = json.loads(said)
    assert found["parts"] == 3
    assert found["relative_error"] == pytest.approx(made["relative_error"], rel=1e-6)
    assert found["largest_error"] == pytest.approx(np.abs(np.load(A) - f.to_dense()).max())
    assert run(capsys, "verify", out)[0] == 0
    assert run(capsys, "info", out)[0] == 0
    assert run(capsys, "decompress", out, "-o", dense)[0] == 0
    X = np.load(A)
    X[-1, -1] = np.nan
    np.save(place / "bad.npy", X)
    code, _, told = run(capsys, "verify", out, "--against", place / "bad.npy")
    assert code == 2
    assert f"has nan at ({N - 1}, {D - 1})" in told
    (place / "bad.npy").unlink()
    # Blocks of other sizes are multiplied with R.
    assert np.allclose(np.load(dense), f.to_dense(), rtol=0, atol=1e-5)
    # Replaced as a whole, or not at all.
    code, _, told = run(capsys, "compress", A, "-o", out, *how)
    assert code == 2
    assert "--overwrite" in told
    code, _, _ = run(capsys, "compress", A, "-o", out, *how, "--overwrite", "--seed", 1)
    assert code == 0
    assert {path.name for path in place.iterdir()} == {"A.npy", "A.parts", "dense.npy"}


RECORDS: dict[str, dict[str, Any]] = {
    "texts": {"call": "mine", "plan": "mine", "history": "mine", "appended": "mine"},
    "members": {"call": {"arguments": 3}, "plan": {"error": []}, "appended": {"rows": 3}},
    "numbers": {
        "history": [10**400],
        "appended": {"rows": -1, "norm": 10**400, "relative_error": [], "standard_error": None},
    },
}


@pytest.mark.parametrize("record", RECORDS)
def test_records_of_any_form_are_shown(
    record: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    A = np.load(place / "A.npy")[:200]
    f = replace(lplr.quantize(A, bits=2), meta=RECORDS[record])
    lplr.save(tmp_path / "f", lplr.RowParts((f, f), meta=RECORDS[record]), parts=True)
    lplr.save(tmp_path / "f.h5", f)
    np.save(tmp_path / "A.npy", A)
    assert run(capsys, "append", tmp_path / "f", tmp_path / "A.npy")[0] == 0
    for name in ("f", "f.h5"):
        code, said, _ = run(capsys, "info", tmp_path / name)
        assert code == 0
        assert "about it" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("compress A.npy -o A.npy --parts --rank 2 --overwrite", "is no folder of parts"),
        ("compress A.npy -o no/where --parts --rank 2", "does not exist"),
        ("compress A.npy -o new --parts --q-bits 2", "--parts: goes with"),
        ("compress A.npy -o new --parts --rank 2 --memory-limit 1MB", "use at least"),
        ("compress A.npy -o new.h5 --rank 2 --memory-limit 1MB", "use at least"),
    ],
)
def test_what_makes_no_parts(
    words: str,
    said: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    code, _, told = run(capsys, *words.split())
    assert code == 2
    assert said in told
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("replaced", [False, True])
def test_an_interrupt_while_the_error_is_measured(
    replaced: bool,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is there is complete with its record, or the previous one; the same command goes on."""
    out = tmp_path / "f"
    if replaced:
        lplr.save(out, lplr.quantize(np.eye(4), bits=2), parts=True)
        out.chmod(0o700)
        before = lplr.verify(out)
    how = "--method", "naive", "--bits", 2, "--parts", "--overwrite"

    def stop(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lplr.cli.compress.errors_of", stop)
        assert run(capsys, "compress", place / "A.npy", "-o", out, *how)[0] == 130
    assert (lplr.verify(out) == before) if replaced else not out.exists()
    assert run(capsys, "compress", place / "A.npy", "-o", out, *how)[0] == 0
    assert lplr.inspect(out)["attrs"]["relative_error"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    if replaced:
        assert out.stat().st_mode & 0o777 == 0o700
