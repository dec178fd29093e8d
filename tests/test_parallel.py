"""Blocks in threads, the limits on BLAS around them, and products of the same bits."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (loads the BLAS that SciPy brings)
from threadpoolctl import threadpool_info, threadpool_limits

import lplr
from lplr.exceptions import InputError
from lplr.parallel import _blas_libraries, matmul, n_threads, reproducible, run_blocks


def blas_threads() -> set[int]:
    """Of the libraries that are used here; faiss, say, brings its own."""
    ours = [lib for lib in threadpool_info() if re.search("numpy|scipy", lib["filepath"])]
    return {lib["num_threads"] for lib in ours or threadpool_info() if lib["user_api"] == "blas"}


# --- thread count ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "omp", "expected"),
    [("3", "5", 3), (" 3 ", "", 3), ("", "5", 5), ("", "4,2", 4), ("2", "many", 2)],
)
def test_n_threads(monkeypatch: pytest.MonkeyPatch, own: str, omp: str, expected: int) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert n_threads() == expected


@pytest.mark.parametrize("omp", ["", "many", "0"])
def test_n_threads_defaults_to_the_usable_cores(monkeypatch: pytest.MonkeyPatch, omp: str) -> None:
    monkeypatch.delenv("LPLR_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert 1 <= n_threads() <= os.cpu_count()


@pytest.mark.parametrize("own", ["0", "-1", "many", "2.5", "4,2"])
def test_a_number_of_threads_that_is_none(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", own)
    with pytest.raises(InputError, match=f"^LPLR_NUM_THREADS is '{own}'; set it to"):
        lplr.quantize(np.eye(3), bits=4)


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


def test_late_helpers_and_those_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the interpreter shuts down: the calling thread does the work."""
    monkeypatch.setenv("LPLR_NUM_THREADS", "3")
    kept = []

    class Pool:
        def submit(self, help_out: Callable[[], None]) -> None:
            kept.append(help_out)
            if len(kept) == 2:
                raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr("lplr.parallel._pool", lambda size: Pool())
    seen = []
    run_blocks(lambda i, j: seen.append(i), 5, 1)
    for help_out in kept:
        help_out()
    assert seen == [0, 1, 2, 3, 4]


# --- the state that computations run in ------------------------------------------------------


@pytest.fixture
def three_blas_threads() -> Iterator[None]:
    """Set without threadpoolctl, which would then let only this thread set limits."""
    shared, local = _blas_libraries()
    before = [blas.get() for blas in shared + local]
    for blas in shared + local:
        blas.set(3)
    yield
    for blas, count in zip(shared + local, before, strict=True):
        blas.set(count)


class InThread:
    """A guard that another thread holds."""

    def __init__(self, guard: Callable[[], AbstractContextManager[object]]) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.hold, args=(guard,))
        self.thread.start()
        assert self.entered.wait(60)

    def hold(self, guard: Callable[[], AbstractContextManager[object]]) -> None:
        with guard():
            self.entered.set()
            assert self.leave.wait(60)

    def end(self) -> None:
        self.leave.set()
        self.thread.join()


@pytest.mark.usefixtures("three_blas_threads")
def test_one_blas_thread_inside_as_many_as_before_outside() -> None:
    inside = []
    with reproducible():
        with reproducible():
            inside.append(blas_threads())
        inside.append(blas_threads())  # the inner exit must not lift the limit
        run_blocks(lambda i, j: inside.append(blas_threads()), 3, 1)
        inside.append(blas_threads())
    assert inside == [{1}] * len(inside)
    assert blas_threads() == {3}
    with pytest.raises(ZeroDivisionError), reproducible():
        _ = 1 / 0
    assert blas_threads() == {3}


@pytest.mark.usefixtures("three_blas_threads")
def test_the_last_of_overlapping_threads_lifts_the_limit() -> None:
    first, second = InThread(reproducible), InThread(reproducible)
    assert blas_threads() == {1}
    first.end()
    assert blas_threads() == {1}
    second.end()
    assert blas_threads() == {3}


@pytest.mark.usefixtures("three_blas_threads")
def test_limits_of_other_libraries_act() -> None:
    """In any thread, around the guard, inside it and overlapping with it."""

    def two() -> AbstractContextManager[object]:
        return threadpool_limits(2, user_api="blas")

    before = blas_threads()
    with two():
        with reproducible():
            assert blas_threads() == {1}
        assert blas_threads() == {2}
    with reproducible():
        with two():
            assert blas_threads() == {2}
            with reproducible():
                assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == before
    ours, other = InThread(reproducible), InThread(two)
    other.end()
    ours.end()
    other = InThread(two)
    assert blas_threads() == {2}
    ours = InThread(reproducible)
    other.end()
    with reproducible():
        assert blas_threads() == {1}
    ours.end()
    assert blas_threads() == before


@pytest.mark.parametrize("threads", ["1", "2"])
def test_floating_point_errors_are_those_of_numpy_but_for_invalid(monkeypatch, threads) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", threads)
    states = []
    default = np.geterr()
    with np.errstate(all="raise"):
        run_blocks(lambda i, j: states.append(np.geterr()), 20, 1)
        assert set(np.geterr().values()) == {"raise"}
    assert states == [default | {"invalid": "ignore"}] * 20


def test_false_alarms_of_blas_are_not_heard() -> None:
    """What OpenBLAS left in its buffer sets a flag now and then, on processors with AVX-512."""
    one, other = np.ones((1, 5), np.float32), np.ones((6, 5), np.float32).T
    with np.errstate(all="raise"), reproducible():
        for seed in range(3000):
            X = np.random.default_rng(seed).standard_normal((8, 8))
            assert np.isfinite(X @ X[0]).all()
            assert (one @ other == 5).all()


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
