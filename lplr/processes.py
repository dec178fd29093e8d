"""Worker processes for work that is mostly Python, where threads would wait for each other."""

from __future__ import annotations

import functools
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lplr.exceptions import LplrWarning
from lplr.parallel import n_threads, single_threaded

__all__ = ["map_in_order"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    fn: Callable[[_Item], _Result], items: Sequence[_Item], patience: float = 0.25
) -> Iterator[_Result]:
    """Apply ``fn`` to each item, and yield the results in order.

    The work starts in this process and moves to worker processes once it has taken a while.
    The workers end with this process, within about a second where it is killed (on POSIX).

    Parameters
    ----------
    fn : callable
        Its result may depend on its argument alone, since the workers call copies of ``fn``.
    items : sequence
    patience : float
        Seconds that this process works alone before it starts `n_threads` workers. Their start
        takes longer than the default, 0.5 s or more, but only once in the life of this process.

    Yields
    ------
    The results, each computed on a single thread: the same bits in every process.

    Raises
    ------
    pickle.PicklingError
        If ``fn`` or an item cannot be sent to another process.

    Examples
    --------
    >>> from lplr.processes import map_in_order
    >>> list(map_in_order(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    start, done = time.perf_counter(), 0
    while done < len(items) and (n_threads() == 1 or time.perf_counter() - start < patience):
        yield _alone(fn, items[done])
        done += 1
    try:
        for result in _in_workers(fn, items[done:]):
            yield result
            done += 1
    except RuntimeError:
        if threading.main_thread().is_alive():
            raise
        # While the interpreter shuts down no worker takes an item.
        for item in items[done:]:
            yield _alone(fn, item)


def _alone(fn: Callable[[_Item], _Result], item: _Item) -> _Result:
    with single_threaded():
        return fn(item)


_owner: int | None = None  # the process that has started workers


def _in_workers(fn: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    global _owner
    if _owner not in (None, os.getpid()):
        # A fork of the process that has the workers: joblib would wait for them for ever.
        yield from (_alone(fn, item) for item in items)
    elif items:
        from joblib import Parallel, delayed

        _owner = os.getpid()
        work = delayed(functools.partial(_work, os.getpid(), fn))
        yield from Parallel(n_threads(), return_as="generator")(work(item) for item in items)


def _work(parent: int, fn: Callable[[_Item], _Result], item: _Item) -> _Result:
    _begin(parent)
    return _alone(fn, item)


@functools.cache
def _begin(parent: int) -> None:
    """What a worker does before its first item."""
    # Each worker would repeat the warning that this process gives.
    warnings.filterwarnings("ignore", "the cache of compiled kernels", LplrWarning)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # a parent that was killed has told its workers nothing

    if os.name == "posix":  # elsewhere the number of the parent stays the same after its end
        threading.Thread(target=watch, daemon=True).start()
