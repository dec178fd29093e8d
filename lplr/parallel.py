"""Threads that never change a result.

Work is cut into blocks whose size depends on the shape alone; a block runs on one thread with
single-threaded BLAS, and no two blocks share an output. Hence the same bits on one thread and
on many. This is the only place of the package that starts a thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["matmul", "n_threads", "run_blocks", "single_threaded", "single_threaded_blas"]


def n_threads() -> int:
    """Threads to use: ``LPLR_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the usable cores."""
    for name in ("LPLR_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_blocks(fn: Callable[[int, int], Any], n: int, block: int) -> None:
    """Call ``fn(start, stop)`` on consecutive blocks of ``range(n)``, in threads.

    ``fn`` must write only to the part of its outputs that belongs to its block. After an
    exception no further block is started; it is raised once the running ones have ended. Inside
    a block, another call runs on the thread it is in.

    Parameters
    ----------
    fn : callable
    n : int
    block : int
        Depends on shapes alone, never on the number of threads.
    """
    todo = deque(range(0, n, block))
    workers = 1 if getattr(_inside, "block", False) else min(n_threads(), len(todo))

    def work() -> None:
        _inside.block = workers > 1
        try:
            while True:
                try:
                    start = todo.popleft()
                except IndexError:
                    return
                fn(start, min(start + block, n))
        except BaseException:
            todo.clear()
            raise
        finally:
            _inside.block = False

    with single_threaded_blas():
        if workers <= 1:
            for start in todo:
                fn(start, min(start + block, n))
            return
        # The calling thread works as well: one wake-up less, which small products feel.
        helpers = [_pool(workers).submit(work) for _ in range(workers - 1)]
        try:
            work()
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()


_inside = threading.local()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep what the calling thread does, BLAS and `run_blocks`, on that thread."""
    before = getattr(_inside, "block", False)
    _inside.block = True
    try:
        with single_threaded_blas():
            yield
    finally:
        _inside.block = before


_executor: ThreadPoolExecutor | None = None


def _pool(workers: int) -> ThreadPoolExecutor:
    """The threads of this process, kept between calls; started anew after a fork."""
    global _executor
    if _executor is None or _executor._max_workers < workers - 1:
        _executor = ThreadPoolExecutor(workers - 1, thread_name_prefix="lplr")
    return _executor


def _forget_pool() -> None:
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


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
    """About eight tiles, each a multiple of 16 and at least 128 wide.

    Each tile packs the other operand anew, so many narrow ones cost more than they balance.
    """
    return max(128, -(-n // 128) * 16)


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
