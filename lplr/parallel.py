"""Threads that never change a result.

Work is cut into blocks whose size depends on the shape alone; a block runs on one thread with
single-threaded BLAS, and no two blocks share an output. Hence the same bits on one thread and
on many. This is the only place of the package that starts a thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["matmul", "n_threads", "run_blocks", "single_threaded_blas"]


def n_threads() -> int:
    """Threads to use: ``LPLR_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the usable cores."""
    for name in ("LPLR_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_blocks(fn: Callable[[int, int], Any], n: int, block: int) -> None:
    """Call ``fn(start, stop)`` on consecutive blocks of ``range(n)``, in threads.

    ``fn`` must write only to the part of its outputs that belongs to its block. The first
    exception of any block is raised after the running blocks have ended.
    """
    starts = range(0, n, block)
    workers = min(n_threads(), len(starts))
    with single_threaded_blas():
        if workers <= 1:
            for start in starts:
                fn(start, min(start + block, n))
            return
        with ThreadPoolExecutor(workers) as pool:
            try:
                for _ in pool.map(lambda s: fn(s, min(s + block, n)), starts):
                    pass
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """``a @ b`` with the same bits at any number of threads.

    The longer side of the product is cut into tiles that depend on the shape alone; the inner
    dimension is never cut, so that no sum depends on who computes it.

    Parameters
    ----------
    a : ndarray of shape (n, k)
    b : ndarray of shape (k, d)
    out : ndarray of shape (n, d), optional
        Filled and returned when given.

    Returns
    -------
    ndarray of shape (n, d), of the common dtype

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.parallel import matmul
    >>> matmul(np.ones((2, 3)), np.ones((3, 2)))
    array([[3., 3.],
           [3., 3.]])
    """
    n, d = a.shape[0], b.shape[1]
    if out is None:
        out = np.empty((n, d), np.result_type(a, b))
    if n >= d:
        run_blocks(lambda i, j: np.matmul(a[i:j], b, out=out[i:j]), n, _tile(n))
    else:
        run_blocks(lambda i, j: np.matmul(a, b[:, i:j], out=out[:, i:j]), d, _tile(d))
    return out


def _tile(n: int) -> int:
    """About sixteen tiles, each a multiple of 16 and at least 64 wide."""
    return max(64, -(-n // 256) * 16)


_lock = threading.Lock()
_depth = 0
_limiter: Any = None


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit BLAS to one thread while at least one caller is inside.

    BLAS results may differ with its thread count; a count of users, rather than a saved value
    for each, keeps the limit in force until the last of several concurrent callers has left.
    """
    global _depth, _limiter
    with _lock:
        if _depth == 0:
            _limiter = _controller().limit(limits=1, user_api="blas")
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _limiter.restore_original_limits()
                _limiter = None


_cached_controller: Any = None


def _controller() -> Any:
    """Threadpoolctl's view of the loaded BLAS libraries, found once."""
    global _cached_controller
    if _cached_controller is None:
        # SciPy ships a BLAS of its own; load it first, or the controller would not see it.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import ThreadpoolController

        _cached_controller = ThreadpoolController()
    return _cached_controller
