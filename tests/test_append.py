"""Rows that are added to a folder of parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.algorithms.fit import Fit, fit_of_new_rows
from lplr.cli.main import main
from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix
from lplr.storage.folder import Folder

N, P, D = 3000, 1500, 32


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((N + P, D)) / np.arange(1, D + 1) ** 0.7).astype(np.float32)


@pytest.fixture(scope="module")
def kinds(A: np.ndarray) -> dict[str, PackedMatrix]:
    old = A[:N]
    return {
        "L R": lplr.factorize(old, rank=8, bits=4, effort="fast", rng=0),
        "Q + L R": lplr.compress(old, bits_per_entry=2, effort="fast", rng=0),
        "columns": lplr.quantize(old, bits=3, granularity="column"),
    }


def fit_of(folder: Path) -> dict[str, Any]:
    found = fit_of_new_rows(lplr.inspect(folder))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["L R", "Q + L R", "columns"])
def test_new_rows_lie_below_the_old_ones(
    kind: str, kinds: dict[str, Any], A: np.ndarray, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("lplr.algorithms.append._ENTRIES", 1024 * D)
    old, folder, new = kinds[kind], tmp_path / "f", tmp_path / "new.npy"
    np.save(new, A[N:])
    error = old.relative_error(A[:N])
    lplr.save(folder, old, parts=True, attrs={"relative_error": error} if kind == "columns" else {})
    f = lplr.append(folder, new)
    assert [part.shape[0] for part in f.blocks] == [N, 1024, P - 1024]
    np.testing.assert_array_equal(f[:N], old.to_dense())
    np.testing.assert_array_equal(lplr.load(folder).to_dense(), f.to_dense())
    # New rows are of the distribution of the old ones: 2 % for what R was fitted to these, and
    # the spread of 1500 rows.
    fit = fit_of(folder)
    measured = np.linalg.norm(f[N:] - A[N:]) / np.linalg.norm(A[N:])
    assert fit["relative_error"] == pytest.approx(measured, rel=1e-5)
    assert measured < 1.02 * error + 3 * fit["standard_error"]
    if kind != "columns":  # the same codes in another order of the work: 0.05 % was measured
        once = lplr.encode(old, A[N:])
        assert measured == pytest.approx(once.relative_error(A[N:]), rel=0.005)
    assert (fit["rows"], fit["parts"], fit["worse"]) == (P, 2, {})
    assert fit["relative_error_of_old_rows"] == pytest.approx(error, rel=1e-4)


def test_rows_that_fit_worse_are_told(
    kinds: dict[str, Any], A: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other, few = tmp_path / "f", tmp_path / "other.npy", tmp_path / "few.npy"
    lplr.save(folder, kinds["L R"], parts=True)
    lplr.append(folder, A[N:])
    np.save(other, A[N:, ::-1])
    np.save(few, A[:20, ::-1])
    assert main(["append", str(folder), str(few)]) == 0
    assert "fit the basis of the others as well" in capsys.readouterr().out  # not judged
    assert main(["append", str(folder), str(other)]) == 0
    said = capsys.readouterr().out
    assert main(["info", str(folder)]) == 0
    told = capsys.readouterr().out
    assert main(["info", str(folder), "--json"]) == 0
    fit = json.loads(capsys.readouterr().out)["new_rows"]
    f = lplr.load(folder)
    error = np.linalg.norm(f[-P:] - A[N:, ::-1]) / np.linalg.norm(A[N:])
    assert list(fit["worse"]) == ["part-00003.h5"]
    assert fit["worse"]["part-00003.h5"] == pytest.approx(error, rel=1e-5)
    old = fit["relative_error_of_old_rows"]
    for text in (said, told):
        assert f"those in part-00003.h5 fit the old basis worse: {error:.5f} is" in text
        assert f"that of the others {old:.5f}" in text


def test_rows_below_a_matrix_without_error(
    A: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    f = replace(lplr.quantize(A[:200], bits=2), meta={"history": [0.0]})
    lplr.save(tmp_path / "f", f, parts=True)
    np.save(tmp_path / "A.npy", A[:200])
    assert main(["append", str(tmp_path / "f"), str(tmp_path / "A.npy")]) == 0
    assert "fit the old basis worse" in capsys.readouterr().out


def test_errors_that_a_pass_cannot_tell_raise_no_alarm(A: np.ndarray, tmp_path: Path) -> None:
    """Below 0.001, as at 16 bits, sums of float32 products say nothing."""
    lplr.factorize(A[:N], rank=D, bits=16, rng=0, out=tmp_path / "f")
    lplr.append(tmp_path / "f", A[N:])
    assert fit_of(tmp_path / "f")["relative_error_of_old_rows"] < 1e-3
    assert fit_of(tmp_path / "f")["worse"] == {}


def test_the_standard_error_is_that_of_rows_drawn_anew() -> None:
    rng = np.random.default_rng(0)

    def drawn() -> Fit:
        norm = rng.gamma(4.0, size=400)
        return Fit.of(norm * rng.gamma(2.0, size=400), norm)

    fits = [drawn() for _ in range(1000)]
    spread = np.std([fit.relative_error for fit in fits])
    # The deviation of 1000 numbers is known within 2.2 %, that of 400 rows within 5 % or so.
    assert np.mean([fit.standard_error for fit in fits]) == pytest.approx(spread, rel=0.1)
    halves = [Fit.together(fits[i : i + 2]) for i in range(0, 1000, 2)]
    assert halves[0].rows == 800
    assert np.mean([fit.standard_error for fit in halves]) == pytest.approx(
        spread / np.sqrt(2), rel=0.1
    )


def test_what_is_refused_changes_nothing(
    kinds: dict[str, Any], A: np.ndarray, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("lplr.algorithms.append._ENTRIES", 1024 * D)
    folder = tmp_path / "f"
    lplr.save(folder, kinds["L R"], parts=True)
    before = lplr.verify(folder)
    bad = A.copy()
    bad[-1, 3] = np.nan
    for rows, said in ((bad, f"rows: .*{N + P - 1}"), (A[:, 1:], "32 columns"), (A[:0], "empty")):
        with pytest.raises(InputError, match=said):
            lplr.append(folder, rows)
    with pytest.raises(InputError, match="no folder of parts"):
        lplr.append(tmp_path, A)
    assert lplr.verify(folder) == before
    assert len(list(folder.glob("*.h5"))) == 1


def test_an_interrupt_at_the_end_leaves_the_new_matrix(
    kinds: dict[str, Any], A: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lplr.save(tmp_path / "f", kinds["L R"], parts=True)
    write = Folder.write

    def interrupted(self: Folder, **options: Any) -> None:
        write(self, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lplr.append(tmp_path / "f", A[N:])
    lplr.verify(tmp_path / "f")
    assert lplr.load(tmp_path / "f").shape == A.shape


def test_errors_under_other_weights_are_not_compared() -> None:
    fit = {"rows": 500, "norm": 1.0, "relative_error": 0.3, "standard_error": 0.01}
    for made_under, weighted, known in ((None, False, 0.1), ({}, False, None), ({}, True, 0.1)):
        meta = {"call": {"arguments": {"hessian": made_under}}, "history": [0.2, 0.1]}
        part = {"file": "part-00001.h5", "meta": {"appended": {**fit, "hessian": weighted}}}
        found = fit_of_new_rows({"groups": {"/": {"meta": meta}}, "attrs": {}, "parts": [part]})
        assert found is not None
        assert found["relative_error_of_old_rows"] == known
        assert bool(found["worse"]) == (known is not None)
