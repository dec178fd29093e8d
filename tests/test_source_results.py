"""What computes with matrices that are read in blocks of rows gives what it gives of arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from row_sources import Rows, write_vectors

import lplr
from lplr.cli.main import main
from lplr.exceptions import InputError, MissingFileError
from lplr.sources import open_source
from lplr.validation.matrices import check_block

A = np.random.default_rng(0).standard_normal((60, 7))
A32 = A.astype(np.float32)
BYTES = (100 + 20 * A).astype(np.uint8)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


CALLS: dict[str, Callable[[Any], lplr.PackedMatrix]] = {
    "factorize": lambda A: lplr.factorize(A, rank=2, rng=0),
    "compress": lambda A: lplr.compress(A, bits_per_entry=8, rng=0),
    "quantize": lambda A: lplr.quantize(A, bits=3),
    "caldera": lambda A: lplr.caldera(A, rank=1, q_bits=4, n_iter=1, rng=0),
    "LPLR": lambda A: lplr.LPLR(2, random_state=0).fit(A).factors_,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_source_gives_the_bytes_of_the_array(call: Callable[[Any], lplr.PackedMatrix]) -> None:
    np.save("A.npy", A)
    lplr.save("expected.h5", call(A))
    for same in (Path("A.npy"), Rows(A)):
        lplr.save("found.h5", call(same), overwrite=True)
        assert Path("found.h5").read_bytes() == Path("expected.h5").read_bytes()


def test_a_model_is_fitted_and_used_on_a_file() -> None:
    np.save("A.npy", BYTES)
    expected = lplr.LPLR(2, random_state=0).fit_transform(BYTES)
    found = lplr.LPLR(2, random_state=0).fit_transform("A.npy")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    np.save("A.npy", np.where(A == A[37, 5], np.nan, A))
    with pytest.raises(InputError, match=r"^X: has nan at \(37, 5\); every entry must be finite"):
        lplr.LPLR(2).fit("A.npy")


def test_the_error_is_summed_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same bits as for the array, with and without a Hessian, and over several blocks."""
    monkeypatch.setattr("lplr.matrices.decoded._BLOCK", 8 * 7)
    monkeypatch.setattr("lplr.matrices.errors._WAITING", 2)
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    read = []

    class Counted(Rows):
        def __getitem__(self, rows: slice) -> np.ndarray:
            read.append((rows.start, rows.stop))
            return super().__getitem__(rows)

    H = np.linspace(1, 2, 7)
    for B in (A, A32, BYTES, A.astype(np.float16)):
        f = lplr.quantize(B, bits=4)
        for hessian in (None, H):
            read.clear()
            assert f.relative_error(Counted(B), hessian) == f.relative_error(B, hessian)
            assert read == [(0, 16), (16, 32), (32, 48), (48, 60)]
        G = np.linspace(1, 2, 60)
        assert f.relative_error(Rows(B), H, G) == f.relative_error(B, H, G)
    f = lplr.quantize(A, bits=4)
    B = A.copy()
    B[37, 5] = np.nan
    with pytest.raises(InputError, match=r"^A: has nan at \(37, 5\); every entry must be finite"):
        f.relative_error(Rows(B))
    with pytest.raises(InputError, match="^A: its largest magnitude is"):
        f.relative_error(Rows(1e35 * A))
    with pytest.raises(InputError, match=r"^A: must have shape \(60, 7\), found \(59, 7\)"):
        f.relative_error(Rows(A[1:]))
    assert check_block(A, "A", 0) == np.abs(A).max()


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("A.npy", A)
    monkeypatch.setattr("lplr.sources.base.available_memory", lambda: 4 * A.nbytes - 1)
    monkeypatch.setattr("lplr.inputs.npy.available_memory", lambda: 4 * A.nbytes - 1)
    np.savez("A.npz", x=np.asfortranarray(A))
    with pytest.raises(InputError, match=r"^A\.npz:x: takes more than a quarter .* as \.npy"):
        open_source("A.npz")
    f = lplr.quantize(A, bits=3)
    with pytest.raises(InputError, match=r"takes 3,360 bytes .* quarter of the 13,439"):
        lplr.quantize("A.npy", bits=3)
    assert f.relative_error("A.npy") == f.relative_error(A)


def test_the_command_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    write_vectors("A.fvecs", A32)
    np.save("A.npy", A32)
    for name in ("A.fvecs", "A.npy"):
        output = name.replace(".", "-") + ".h5"
        assert main(["compress", name, "-o", output, "--rank", "2"]) == 0
    assert Path("A-fvecs.h5").read_bytes() == Path("A-npy.h5").read_bytes()
    assert main(["verify", "A-fvecs.h5", "--against", "A.fvecs"]) == 0
    assert main(["compress", "none.fvecs", "-o", "out.h5", "--rank", "2"]) == 2
    assert "none.fvecs: no such file" in capsys.readouterr().err
    assert main(["compress", "A.fvecs:3", "-o", "out.h5", "--rank", "2"]) == 2
    with pytest.raises(MissingFileError, match=r"^none\.fvecs: no such file"):
        lplr.factorize("none.fvecs", rank=2)
