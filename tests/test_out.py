"""Results in parts: written as they are made, within a limit of memory, again after a kill."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import lplr
from lplr.exceptions import BudgetError, InputError, MissingFileError, StorageError
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import at_most
from lplr.sources.mapped import MappedSource
from lplr.storage.atomic import write_atomic
from lplr.storage.folder_writer import write_part
from lplr.streaming import part_rows

N, D = 13000, 24  # three parts, the last of which is longer


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 4096 rows."""
    monkeypatch.setattr(part_rows, "_NBYTES", 1)


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    """Clusters on a falling spectrum, (N, D) float32."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 7, N)
    noise = rng.standard_normal((N, D)) / np.arange(1, D + 1) ** 0.7
    return (noise + rng.standard_normal((7, D))[label]).astype(np.float32)


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "rank": (lplr.factorize, {"rank": 5, "bits": 2}),
    "budget": (lplr.factorize, {"bits_per_entry": 1.5, "effort": "fast"}),
    "lplr": (lplr.factorize, {"bits_per_entry": 2, "method": "lplr", "normalize": True}),
    "dithered": (lplr.factorize, {"rank": 5, "method": "lplr", "rounding": "dithered"}),
    "svd": (lplr.factorize, {"rank": 5, "method": "direct-svd"}),
    "low-rank": (lplr.compress, {"bits_per_entry": 0.9, "effort": "fast"}),
    "backbone": (lplr.compress, {"bits_per_entry": 4, "effort": "fast"}),
    "weighted": (
        lplr.compress,
        {"bits_per_entry": 0.8, "hessian": np.linspace(1, 9, D), "effort": "fast"},
    ),
    "tensor": (lplr.quantize, {"bits": 2, "quantizer": "trellis-8"}),
    "row": (lplr.quantize, {"bits": 3, "granularity": "row", "scaling": "mse"}),
    "column": (lplr.quantize, {"bits": 4, "granularity": "column", "quantizer": "e8p"}),
}


KINDS = dict.fromkeys(("backbone", "weighted"), QPlusLowRank)
KINDS |= dict.fromkeys(("tensor", "row", "column"), Quantized)


@pytest.mark.parametrize("name", CALLS)
def test_parts_are_as_good_as_one_matrix(name: str, A: np.ndarray, tmp_path: Path) -> None:
    function, options = CALLS[name]
    f = function(A, rng=1, out=tmp_path / "f", **options)
    assert isinstance(f, lplr.RowParts)
    assert f.edges == [0, 4096, 8192, N]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert lplr.verify(tmp_path / "f")
    one = function(A, rng=1, memory_limit="1GB", **options)
    assert type(f.part(0)) is type(one) is KINDS.get(name, LowRank)
    # Each part pays for R, some 2 % of its bytes here, which is some 3 % of error at 3 bits.
    assert f.relative_error(A) < 1.05 * one.relative_error(A)
    if "bits_per_entry" in options:
        assert f.bits_per_entry <= options["bits_per_entry"]
    assert f.meta["call"] == one.meta["call"]
    if "history" in f.meta:
        assert np.isclose(f.meta["history"][-1], f.relative_error(A), rtol=1e-4)
    if "plan" in f.meta:
        weights = options.get("hessian")
        # A Hessian is damped by 1 % of its mean diagonal.
        assert np.isclose(f.meta["plan"]["error"], f.relative_error(A, weights), rtol=5e-3)
        assert f.meta["plan"]["nbytes"] == f.nbytes


@pytest.fixture(scope="module")
def path(A: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("A") / "A.npy"
    np.save(path, A)
    return path


def digest(folder: Path, path: Any, name: str, **options: Any) -> str:
    """Of the folder that a call makes."""
    function, given = CALLS[name]
    function(path, rng=1, out=folder, **given, **options)
    return lplr.verify(folder)


@pytest.mark.parametrize("name", ["budget", "backbone", "dithered"])
def test_neither_the_limit_nor_the_number_of_threads_changes_a_byte(
    name: str, path: Path, A: np.ndarray, tmp_path: Path
) -> None:
    expected = digest(tmp_path / "f", path, name)
    limit = least_limit(lambda: digest(tmp_path / "g", path, name, memory_limit="1KB"))
    assert digest(tmp_path / "g", path, name, memory_limit=limit) == expected
    with at_most(2):
        assert digest(tmp_path / "h", np.asfortranarray(A), name) == expected


def least_limit(call: Callable[[], Any]) -> str:
    """The limit that the refusal of a tiny one names."""
    with pytest.raises(InputError, match="use at least") as refusal:
        call()
    return re.findall(r"use at least '(.*)'", str(refusal.value))[0]


# --- interrupts and faults -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lplr", "low-rank", "backbone"])
def test_an_interrupted_call_goes_on_at_the_part_in_progress(
    name: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at each step at which something would be kept."""
    expected = digest(tmp_path / "f", path, name)
    out, job = tmp_path / "g", tmp_path / "g.job"
    edges = [0, 4096, 8192, N]
    reads: list[tuple[int, int]] = []
    rows = MappedSource.rows
    monkeypatch.setattr(
        MappedSource, "rows", lambda self, i, j: reads.append((i, j)) or rows(self, i, j)
    )
    for step in count():
        left = iter(range(step))

        def write(path: Any, *args: Any, left: Iterator[int] = left, **options: Any) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            write_atomic(path, *args, **options)

        reads.clear()
        finished = len(list(job.glob("part-*.h5")))
        with monkeypatch.context() as patch:
            patch.setattr("lplr.storage.header.write_atomic", write)
            patch.setattr("lplr.storage.folder.write_atomic", write)
            try:
                found = digest(out, path, name)
            except KeyboardInterrupt:
                assert not out.exists()
            else:
                break
        if finished:  # what is finished is not read again, but for a few tiles in comparison
            again = [(i, j) for i, j in reads if i < edges[finished]]
            assert all(i in edges and j - i <= 2048 for i, j in again)
    assert found == expected
    assert step >= 4  # nothing, one, two and three new files at least were written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "g"]


def test_new_rows_are_coded_like_those_of_any_part(A: np.ndarray, tmp_path: Path) -> None:
    f = lplr.factorize(A, rank=5, bits=4, effort="fast", rng=0, out=tmp_path / "f")
    new = lplr.encode(f, A[:200])
    assert np.array_equal(new.right.to_dense(), f.part(2).right.to_dense())
    before = np.linalg.norm(A[:200] - f[:200]) / np.linalg.norm(A[:200])
    assert new.relative_error(A[:200]) < 1.1 * before  # codes of one entry, rounded in turn


def test_a_seed_that_was_drawn_is_drawn_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f"
    with monkeypatch.context() as patch:
        patch.setattr("lplr.streaming.feedback.RowCoder", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            lplr.factorize(path, rank=3, effort="fast", out=out)
    seed = lplr.load(tmp_path / "f.job" / "seed.h5")["seed"][0]
    f = lplr.factorize(path, rank=3, effort="fast", out=out)
    assert f.meta["call"]["arguments"]["rng"] == seed


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


def test_another_call_is_refused_and_what_is_finished_stays(
    path: Path, A: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f"
    with monkeypatch.context() as patch:
        patch.setattr("lplr.streaming.results.write_part", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            lplr.quantize(path, bits=2, out=out)
    with pytest.raises(InputError, match=r"f\.job: holds what another call.*arguments"):
        lplr.quantize(path, bits=3, out=out)
    with pytest.raises(InputError, match=r"f\.job: holds what another call.*matrix"):
        lplr.quantize(A[:-1], bits=2, out=out)
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "0.0")
        with pytest.raises(InputError, match=r"f\.job: holds what another call.*versions"):
            lplr.quantize(path, bits=2, out=out)
    changed = A.copy()
    changed[5000] = 0
    with pytest.raises(InputError, match=r"rows 4096 to 6144 changed.*delete .*f\.job"):
        lplr.quantize(changed, bits=2, out=out)
    assert lplr.quantize(A, bits=2, out=out).edges[-1] == N


def test_a_part_that_is_damaged_meanwhile_is_told(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f"

    def damage(*args: Any) -> Any:
        (tmp_path / "f.job" / "part-00002.h5").write_bytes(b"damaged")
        return write_part(*args)

    with monkeypatch.context() as patch:
        patch.setattr("lplr.streaming.results.write_part", damage)
        with pytest.raises(StorageError, match="part-00002.h5: is damaged; repeat the call"):
            lplr.quantize(path, bits=2, out=out)
    assert lplr.quantize(path, bits=2, out=out).shape == (N, D)


def test_what_was_put_there_meanwhile_stays(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f"

    def put(*args: Any) -> Any:
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("mine")
        return write_part(*args)

    with monkeypatch.context() as patch:
        patch.setattr("lplr.streaming.results.write_part", put)
        with pytest.raises(StorageError, match="move what is there, and repeat"):
            lplr.quantize(path, bits=2, out=out)
    assert (out / "notes.txt").read_text() == "mine"
    out.rename(tmp_path / "mine")
    assert lplr.quantize(path, bits=2, out=out).shape == (N, D)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "mine"]


def test_bad_calls_leave_nothing(A: np.ndarray, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "f"
    bad = A.copy()
    bad[-1, -1] = np.nan
    with pytest.raises(InputError, match=rf"nan at .{N - 1}, {D - 1}"):
        lplr.compress(bad, bits_per_entry=1, out=out)
    with pytest.raises(BudgetError, match="nothing fits"):  # which the first pass has found
        lplr.compress(np.ones((5, 1)), bits_per_entry=8, out=out)
    with pytest.raises(InputError, match="rank"):
        lplr.factorize(path, rank=D + 1, out=out)
    with pytest.raises(InputError, match="memory_limit"):
        lplr.factorize(path, rank=3, out=out, memory_limit="1KB")
    with pytest.raises(InputError, match="output_hessian"):
        lplr.compress(path, bits_per_entry=1, output_hessian=np.ones(N), out=out)
    with pytest.raises(InputError, match="rng: must be an integer"):
        lplr.factorize(path, rank=3, rng=np.random.RandomState(0), out=out)
    for where in ({}, {"out": out}):
        with pytest.raises(InputError, match="hessian: "):
            lplr.compress(path, bits_per_entry=1, hessian=[[1.0, 2.0], [3.0]], **where)
    with pytest.raises(InputError, match="out: goes with a matrix whose rows are read"):
        lplr.factorize(scipy.sparse.csr_array(A[:9]), rank=3, out=out)
    with pytest.raises(InputError, match="out: must be the name"):
        lplr.factorize(path, rank=3, out=3)
    with pytest.raises(InputError, match="exists"):
        lplr.factorize(path, rank=3, out=tmp_path)
    with pytest.raises(MissingFileError, match="does not exist"):
        lplr.factorize(path, rank=3, out=tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_is_told_and_the_call_goes_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        for function in ("fsync", "write"):
            patch.setattr(os, function, raising(full))
        with pytest.raises(StorageError, match="No space left"):
            lplr.quantize(path, bits=2, out=out)
        assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        fsync, done = os.fsync, []
        patch.setattr(
            os, "fsync", lambda file: raising(full)() if len(done) > 7 else done.append(fsync(file))
        )
        with pytest.raises(StorageError, match="No space left"):
            lplr.quantize(path, bits=2, out=out)
    assert not out.exists()
    kept = sorted(path.name for path in (tmp_path / "f.job").glob("*.h5"))
    assert "part-00000.h5" in kept
    assert "part-00002.h5" not in kept
    assert lplr.quantize(path, bits=2, out=out).shape == (N, D)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (3, 9), (4097, 2)])
def test_odd_shapes(shape: tuple[int, int], tmp_path: Path) -> None:
    A = np.random.default_rng(0).standard_normal(shape)
    for name, f in {
        "c": lplr.compress(A, bits_per_entry=16, out=tmp_path / "c", rng=0),
        "f": lplr.factorize(A, rank=1, bits=8, out=tmp_path / "f", rng=0),
        "q": lplr.quantize(A, bits=8, out=tmp_path / "q"),
        "1": lplr.compress(np.ones(shape), bits_per_entry=60, out=tmp_path / "1"),
    }.items():
        assert f.shape == shape
        assert np.array_equal(lplr.load(tmp_path / name).to_dense(), f.to_dense())
    with pytest.raises(InputError, match="A: is empty"):
        lplr.quantize(np.empty((0, 3)), bits=2, out=tmp_path / "0")


def growth(path: str, out: str, limit: str) -> tuple[float, int]:
    """In a fresh process: bytes that the peak grows by, and those of the result."""
    from lplr.evaluation.resources import measured

    part_rows._NBYTES = 1 << 21
    small = np.random.default_rng(0).standard_normal((100, 64))
    lplr.quantize(small, bits=16, out=f"{out}.small")  # what is loaded on first use
    f, cost = measured(lambda: lplr.quantize(path, bits=16, out=out, memory_limit=limit))
    assert cost.extra_nbytes is not None
    return cost.extra_nbytes, f.nbytes


def test_a_result_may_be_larger_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lplr.evaluation.resources import run_fresh

    monkeypatch.setattr(part_rows, "_NBYTES", 1 << 21)
    n, d = 240_000, 64
    path, out = tmp_path / "A.npy", tmp_path / "f"
    M = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    block = np.random.default_rng(0).standard_normal((10_000, d), np.float32)
    for start in range(0, n, len(block)):
        M[start : start + len(block)] = block
    M.flush()
    least = least_limit(lambda: lplr.quantize(path, bits=16, out=out, memory_limit="1KB"))
    limit = 1e6 * float(least.removesuffix("MB"))
    folders = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": folders, "LPLR_NUM_THREADS": "2"}
    used, nbytes = run_fresh("test_out", "growth", str(path), str(out), least, **environment)
    print(f"grew by {used:,.0f} of {limit:,.0f}; {nbytes:,} bytes are stored")
    assert used < limit < nbytes
