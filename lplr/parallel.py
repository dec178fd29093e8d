"""Threads that never change a result.

Work is cut into blocks whose size depends on the shape alone. A block runs on one thread with
single-threaded BLAS, and no two blocks share an output, so the result has the same bits on one
thread and on many. This is the only module of the package that starts threads for computation.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError

__all__ = [
    "at_most",
    "blas_name",
    "matmul",
    "n_threads",
    "reproducible",
    "run_blocks",
    "single_threaded",
]


def n_threads() -> int:
    """Number of threads to use.

    Returns
    -------
    int
        What `at_most` says around the call; else ``LPLR_NUM_THREADS`` if it is set, else the first
        number of ``OMP_NUM_THREADS``, else the number of cores that this process may use.

    Raises
    ------
    InputError
        If ``LPLR_NUM_THREADS`` is no whole number from 1.

    Examples
    --------
    >>> from lplr.parallel import n_threads
    >>> n_threads() >= 1
    True
    """
    limit = _limit.get()
    if limit is not None:
        return limit
    own = os.environ.get("LPLR_NUM_THREADS", "").strip()
    if own:
        if not (own.isdecimal() and int(own) > 0):
            raise InputError(
                f"LPLR_NUM_THREADS is {own!r}; set it to a whole number from 1, or unset it"
            )
        return int(own)
    # OpenMP takes one number for each level of nested parallelism: "4,2".
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if omp.isdecimal() and int(omp) > 0:
        return int(omp)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_limit: ContextVar[int | None] = ContextVar("lplr_threads", default=None)


@contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """Inside, so many threads are used where there is work for them; None changes nothing.

    Examples
    --------
    >>> from lplr.parallel import at_most, n_threads
    >>> with at_most(3):
    ...     n_threads()
    3
    """
    before = _limit.set(_limit.get() if threads is None else threads)
    try:
        yield
    finally:
        _limit.reset(before)


def run_blocks(fn: Callable[[int, int], Any], n: int, block: int) -> None:
    """Call ``fn(start, stop)`` on consecutive blocks of ``range(n)``, in threads.

    ``fn`` must write only to the part of its outputs that belongs to its block. After an
    exception no further block is started; the exception is raised once the running blocks have
    ended. A call from inside a block runs on the thread of that block. Where no thread can be
    started, as while the interpreter shuts down, the calling thread does all the work.

    Parameters
    ----------
    fn : callable
    n : int
    block : int
        Must depend on shapes alone, never on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.parallel import run_blocks
    >>> squares = np.arange(5)
    >>> def square(start, stop):
    ...     squares[start:stop] **= 2
    >>> run_blocks(square, n=5, block=2)
    >>> squares
    array([ 0,  1,  4,  9, 16])
    """
    starts = deque(range(0, n, block))
    threads = 1 if getattr(_inside, "block", False) else min(n_threads(), len(starts))
    if threads <= 1:
        with reproducible():
            for start in starts:
                fn(start, min(start + block, n))
        return

    changed = threading.Condition()
    helping = 0
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with single_threaded():
                while True:
                    try:
                        start = starts.popleft()
                    except IndexError:
                        return
                    fn(start, min(start + block, n))
        except BaseException:
            starts.clear()
            raise

    def help_out() -> None:
        nonlocal helping
        with changed:
            if not starts:  # came too late: the caller may have returned already
                return
            helping += 1
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            with changed:
                helping -= 1
                changed.notify()

    with reproducible():
        try:
            # The calling thread works as well: one wake-up less, which small products feel.
            for _ in range(threads - 1):
                _pool(threads - 1).submit(help_out)
        except RuntimeError:
            pass  # The interpreter is shutting down, or the system has no thread left.
        try:
            work()
        finally:
            with changed:
                changed.wait_for(lambda: helping == 0)
        if errors:
            raise errors.pop()


_inside = threading.local()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep what the calling thread does, in BLAS and in `run_blocks`, on that thread."""
    before = getattr(_inside, "block", False)
    _inside.block = True
    try:
        with reproducible():
            yield
    finally:
        _inside.block = before


_executor: ThreadPoolExecutor | None = None


def _pool(size: int) -> ThreadPoolExecutor:
    """The helper threads of this process, kept between calls."""
    global _executor
    pool = _executor
    if pool is None or pool._max_workers < size:
        pool = _executor = ThreadPoolExecutor(size, thread_name_prefix="lplr")
    return pool


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


@contextmanager
def reproducible() -> Iterator[None]:
    """Compute what the package computes elsewhere, whatever the calling program has set.

    Inside, BLAS uses one thread, because its results may differ with the number of threads, and
    NumPy treats floating-point errors as it does by default, but for invalid operations, of which
    BLAS gives false alarms. Any thread may enter, also while it or another thread is inside; the
    BLAS limit that was found is set again when the last one leaves. Every public function that
    computes stands inside.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.parallel import reproducible
    >>> with np.errstate(all="raise"), reproducible():
    ...     np.float32(1e-30) * np.float32(1e-30)
    np.float32(0.0)
    """
    shared, local = _blas_libraries()
    guard = object()
    lowered: list[tuple[_Blas, int]] = []
    try:
        with _lock:
            _guards[guard] = threading.get_ident()
            for blas in shared:
                found = blas.get()
                if found != 1:
                    # Another library may have changed the limit since the first guard. Limits
                    # lower the number, so the largest that was seen is the one without a limit.
                    _found[blas] = max(found, _found.get(blas, found))
                    blas.set(1)
        for blas in local:
            found = blas.get()
            if found != 1:
                lowered.append((blas, found))
                blas.set(1)
        # OpenBLAS reads past a vector in its own buffer on AVX-512 (seen in 0.3.31: 1 x 5 by 5 x 6,
        # float32), which sets the flag of invalid operations although no result depends on it.
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="ignore"):
            yield
    finally:
        for blas, found in lowered:
            blas.set(found)
        with _lock:
            _guards.pop(guard, None)
            _lift_unless_guarded()


@functools.cache
def blas_name() -> str:
    """The BLAS that NumPy multiplies with, and the kind of processor that it was made for.

    Where these differ, the last bits of a product may.
    """
    import scipy.linalg
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").info()
    # Other packages bring a BLAS of their own, with which nothing is multiplied here.
    homes = tuple(os.path.dirname(str(module.__file__)) for module in (np, scipy))
    found = [blas for blas in found if blas["filepath"].startswith(homes)] or found
    kinds = {f"{blas['internal_api']} ({blas.get('architecture', 'any')})" for blas in found}
    return ", ".join(sorted(kinds))


@dataclass(frozen=True, eq=False)
class _Blas:
    """How the number of threads of one BLAS library is read and set."""

    get: Callable[[], int]
    set: Callable[[int], Any]


# Reentrant: a garbage collection inside may run a finalizer that computes. Each step below leaves
# a state in which such a finalizer, or one that an exception cuts short, does no harm.
_lock = threading.RLock()
_guards: dict[object, int] = {}  # of all threads: guard and the thread that it is in
_found: dict[_Blas, int] = {}  # the limits to set again


def _lift_unless_guarded() -> None:
    while _found and not _guards:
        blas, found = _found.popitem()
        if blas.get() == 1:  # else another library has set a limit since, which stands
            blas.set(found)


@functools.cache
def _blas_libraries() -> tuple[list[_Blas], list[_Blas]]:
    """The BLAS libraries with one limit for the process, and those with one for each thread."""
    # SciPy ships a BLAS of its own; load it first, or the controller would not see it.
    import ctypes

    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    shared, local = [], []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        if library.internal_api == "openblas" and library.threading_layer != "openmp":
            # Threadpoolctl lets only one thread at a time set this limit and ignores the others,
            # so OpenBLAS is called directly; PYFUNCTYPE keeps the interpreter lock meanwhile.
            name = next(name for name in library.check_symbols if hasattr(library.dynlib, name))
            get = ctypes.PYFUNCTYPE(ctypes.c_int)((name, library.dynlib))
            set_ = ctypes.PYFUNCTYPE(None, ctypes.c_int)(
                (name.replace("_get_", "_set_"), library.dynlib)
            )
            shared.append(_Blas(get, set_))
        else:
            local.append(_Blas(library.get_num_threads, library.set_num_threads))
    return shared, local


def _start_anew_after_fork() -> None:
    """Only the thread that forked lives on in the child: forget the helpers and other guards."""
    global _executor, _lock
    _executor, _lock = None, threading.RLock()
    for guard, thread in list(_guards.items()):
        if thread != threading.get_ident():
            del _guards[guard]
    _lift_unless_guarded()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
