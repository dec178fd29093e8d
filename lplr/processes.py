"""Worker processes for work that is mostly Python, where threads would wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import TypeVar

from lplr.parallel import n_threads, single_threaded

__all__ = ["map_in_order"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    fn: Callable[[_Item], _Result], items: Sequence[_Item], patience: float = 0.25
) -> Iterator[_Result]:
    """``fn`` of each item, in order, on all cores once it is known to be worth their start.

    Parameters
    ----------
    fn : callable
        Its result may depend on its argument alone: items that are slow to come are computed by
        copies of it in other processes.
    items : sequence
    patience : float
        Seconds of work after which `n_threads` processes take over; starting them takes two or
        three times as long, once in the life of this process.

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
    start, here = perf_counter(), 0
    while here < len(items) and (n_threads() == 1 or perf_counter() - start < patience):
        yield _alone(fn, items[here])
        here += 1
    rest = items[here:]
    if rest:
        from joblib import Parallel, delayed

        work = delayed(partial(_alone, fn))
        yield from Parallel(n_threads(), return_as="generator")(work(item) for item in rest)


def _alone(fn: Callable[[_Item], _Result], item: _Item) -> _Result:
    with single_threaded():
        return fn(item)
