"""Threads never change a result: blocks, products, every method, and the bytes of a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import lplr
from lplr.parallel import matmul, n_threads, reproducible, run_blocks

METHODS = ("feedback", "lplr", "lplr-svd", "direct-svd")


def blas_threads() -> set[int]:
    """Of the libraries that are used here; faiss, say, brings its own."""
    ours = [lib for lib in threadpool_info() if re.search("numpy|scipy", lib["filepath"])]
    return {lib["num_threads"] for lib in ours or threadpool_info() if lib["user_api"] == "blas"}


# --- thread count ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "omp", "expected"),
    [("3", "5", 3), ("", "5", 5), ("0", "5", 5), ("many", "5", 5), ("-1", "5", 5), ("2", "", 2)],
)
def test_n_threads(monkeypatch: pytest.MonkeyPatch, own: str, omp: str, expected: int) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert n_threads() == expected


def test_n_threads_defaults_to_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LPLR_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= n_threads() <= os.cpu_count()


# --- blocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize(("n", "block"), [(0, 4), (1, 4), (4, 4), (5, 4), (103, 10)])
def test_blocks_cover_the_range_once(monkeypatch, threads: str, n: int, block: int) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", threads)
    seen, workers = np.zeros(n, int), set()

    def fn(start: int, stop: int) -> None:
        assert start % block == 0
        assert stop == min(start + block, n)
        seen[start:stop] += 1
        workers.add(threading.get_ident())

    run_blocks(fn, n, block)
    np.testing.assert_array_equal(seen, 1)
    assert len(workers) <= int(threads)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_an_exception_comes_through_and_stops_the_rest(monkeypatch, threads: str) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", threads)
    before, started = threading.active_count(), []

    def fn(start: int, stop: int) -> None:
        started.append(start)
        if start >= 20:
            raise RuntimeError(f"block {start}")

    with pytest.raises(RuntimeError, match="block 20"):
        run_blocks(fn, 100_000, 10)
    assert len(started) < 10_000
    assert threading.active_count() <= before + int(threads) - 1  # the pool is kept


def test_one_blas_thread_inside_as_many_as_before_outside() -> None:
    before = blas_threads()
    inside = []
    with reproducible():
        with reproducible():
            inside.append(blas_threads())
        inside.append(blas_threads())  # the inner exit must not lift the limit
        run_blocks(lambda i, j: inside.append(blas_threads()), 3, 1)
        inside.append(blas_threads())
    assert all(threads == {1} for threads in inside)
    assert blas_threads() == before


# --- products --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (200, 31, 70), (65, 300, 1030)])
def test_matmul_is_the_product(shape: tuple[int, int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    n, k, d = shape
    a, b = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, d)).astype(dtype)
    # Each entry is a sum of k terms: k eps |a| |b| bounds its error.
    bound = k * np.finfo(dtype).eps * (np.abs(a) @ np.abs(b)).max()
    expected = a.astype(np.longdouble) @ b.astype(np.longdouble)
    for left, right in ((a, b), (np.asfortranarray(a), b[::-1][::-1]), (a, np.asfortranarray(b))):
        found = matmul(left, right)
        assert found.dtype == dtype
        assert np.abs(found - expected).max() <= bound
    out = np.full((n, d), np.nan, dtype)
    assert matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, matmul(a, b))
    assert matmul(a, b.astype(np.float64)).dtype == np.float64


def test_matmul_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for n, k, d in ((900, 400, 130), (130, 400, 900)):
        a = rng.standard_normal((n, k)).astype(np.float32)
        b = rng.standard_normal((k, d)).astype(np.float32)
        results = []
        for threads in "123":
            monkeypatch.setenv("LPLR_NUM_THREADS", threads)
            results.append(matmul(a, b).tobytes())
        assert len(set(results)) == 1


# --- results ---------------------------------------------------------------------------------


def results() -> dict[str, lplr.LowRank | lplr.Quantized]:
    """One of each kind, of several blocks: more than 2**17 entries and 512 columns."""
    A = lplr.datasets.synthetic(700, 600, "power", exponent=1.0, rng=0).astype(np.float32)
    made = {m: lplr.factorize(A, rank=40, method=m, bits=4, rng=0) for m in METHODS}
    made["searched"] = lplr.factorize(A, bits_per_entry=0.3, rng=0)
    # A rank at which OpenBLAS would solve in threads of its own.
    made["lattice"] = lplr.factorize(A, rank=250, bits=2, rng=0)
    for sketch in ("rademacher", "srht", "sparse-sign"):
        made[sketch] = lplr.factorize(A, rank=40, method="lplr", sketch=sketch, bits=8, rng=0)
    made["dithered"] = lplr.factorize(
        A, rank=20, method="lplr", rounding="dithered", normalize=True, bits=4, rng=0
    )
    made["quantized"] = lplr.quantize(A, bits=3, scaling="mse", granularity="column")
    return made


def test_same_file_bytes_at_any_number_of_threads(monkeypatch, tmp_path: Path) -> None:
    files = []
    for threads in "123":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        made = results()
        for name, f in made.items():
            lplr.save(tmp_path / f"{name}.h5", f, overwrite=True)
        files.append({name: (tmp_path / f"{name}.h5").read_bytes() for name in made})
    for other in files[1:]:
        assert [name for name in files[0] if files[0][name] != other[name]] == []


def test_same_codes_whatever_the_threads_of_blas() -> None:
    """In processes of their own: BLAS reads its number of threads when it is loaded."""
    script = (
        "import hashlib, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_parallel import results\n"
        "for name, f in results().items():\n"
        "    parts = [f] if not hasattr(f, 'left') else [f.left, f.right]\n"
        "    parts = [q for p in parts for q in getattr(p, 'parts', [p])]\n"
        "    data = b''.join(p.codes.tobytes() + p.scale.tobytes() for p in parts)\n"
        "    print(name, hashlib.sha256(data + repr(dict(f.meta)).encode()).hexdigest())\n"
    )
    outputs = []
    for threads in "12":
        env = os.environ | {"OPENBLAS_NUM_THREADS": threads, "LPLR_NUM_THREADS": threads}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.splitlines())
    assert len(outputs[0]) == len(results())
    assert outputs[0] == outputs[1]
