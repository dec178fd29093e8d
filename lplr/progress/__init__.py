"""How far a long computation is: what ``progress=`` means, and how computations report.

**For callers.** ``progress`` is False, True or a callable. False, the default: nothing is said.
True: a bar of tqdm where tqdm is installed, in notebooks too, and else a line on standard error. A
callable is called as ``progress(share, what)``, in the thread that called the function, with the
share of the work that is done and a few words on what is being done now. The shares rise from 0.0
to 1.0, which comes once all is done and not before. They follow the work, as measured on typical
matrices, so that time is about proportional to them. An exception that the callable raises ends
the computation and reaches the caller; the caller's data are as before, and nothing is left
behind. Results do not depend on ``progress``, and do not record it.

**For computations.** A public function stands inside `tracked`. What it calls divides its share of
the work among parts (`until`, `parts`) or counts through it (`counter`), and needs not know who
listens: without a listener all of this does nothing. So a function that calls others which report
says only which share each one is, and a public function that runs inside another one reports as a
part of it.

>>> from lplr.progress import parts, tracked, until
>>> def work(progress=False):
...     with tracked(progress, "start"):
...         with until(0.6, "first half"):
...             for name in parts(["a", "b"], weights=[1, 2]):
...                 pass
...         for name in parts(["c", "d"], what="second half"):
...             pass
>>> work(lambda share, what: print(f"{share:.1f} {what}"))
0.0 start
0.0 first half
0.2 first half
0.6 first half
0.6 second half
0.8 second half
1.0 second half
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import accumulate
from typing import TypeAlias, TypeVar

from lplr.exceptions import InputError

__all__ = ["Progress", "counter", "parts", "tracked", "unheard", "until"]

Progress: TypeAlias = bool | Callable[[float, str], object]

_Item = TypeVar("_Item")
_LEAST = 1e-3  # of the work: what has passed before it is said again


class _Listener:
    """Who is told, by one thread, shares that never fall."""

    def __init__(self, tell: Callable[[float, str], object]) -> None:
        self.tell, self.thread = tell, threading.get_ident()
        self.said: tuple[float, str] | None = None

    def hear(self, share: float, what: str) -> None:
        if threading.get_ident() != self.thread:
            return
        share = round(float(share), 6)  # NumPy's floats would print their type
        if self.said is not None:
            before, about = self.said
            share = max(share, before)
            if share - before < _LEAST and what == about and share < 1.0:
                return
        self.said = share, what
        with _as_current(None):  # what the listener computes is no part of this
            self.tell(share, what)


class _Part:
    """A range of the whole work, which its owner goes through from ``place`` 0 to 1."""

    def __init__(
        self, listener: _Listener, start: float, stop: float, what: str, outer: _Part | None = None
    ) -> None:
        self.listener, self.start, self.stop, self.what = listener, start, stop, what
        self.outer = outer
        self.heading: str = "" if outer is None else outer.heading  # what all words come after
        self.place = 0.0

    def inner(self, place: float, what: str) -> _Part:
        """The part from here to a place; it keeps these words where it has none."""
        start, stop = self._at(self.place), self._at(place)
        return _Part(self.listener, start, stop, what or self.what, self)

    def within(self, other: _Part) -> bool:
        """Whether this is the other part or lies in it."""
        return self is other or (self.outer is not None and self.outer.within(other))

    def go(self, place: float, what: str = "") -> None:
        """All up to a place is done."""
        self.place = max(self.place, min(place, 1.0))
        share = self._at(self.place)
        if share < 1.0 - _LEAST / 2:  # that everything is over, `tracked` alone knows
            self.listener.hear(share, self.heading + (what or self.what))

    def _at(self, place: float) -> float:
        return self.start + place * (self.stop - self.start)


_current: ContextVar[_Part | None] = ContextVar("lplr_progress", default=None)


@contextmanager
def _as_current(part: _Part | None) -> Iterator[None]:
    """Inside, the present work is this part."""
    outer = _current.get()
    _current.set(part)
    try:
        yield
    finally:
        # A loop over `parts` that an exception ended may come here only after those around it,
        # which then have left its part as well.
        current = _current.get()
        if part is None or (current is not None and current.within(part)):
            _current.set(outer)


@contextmanager
def tracked(progress: Progress, what: str = "") -> Iterator[None]:
    """A computation that reports as its caller asks; `lplr.progress` says what that means.

    Parameters
    ----------
    progress : bool or callable
        The argument of the public function. Inside another tracked computation only a callable
        gets a report of its own.
    what : str
        Words for what is done, where no part has its own.

    Raises
    ------
    InputError
        If ``progress`` is neither a bool nor callable.
    """
    if not (callable(progress) or isinstance(progress, bool)):
        raise InputError(
            f"progress: must be True, False or a callable of (share, what), found {progress!r}"
        )
    outer = _current.get()
    if not callable(progress) and (outer is not None or not progress):
        yield
        return
    with _listener(progress, what) as tell:
        listener = _Listener(tell)
        with _as_current(whole := _Part(listener, 0.0, 1.0, what)):
            whole.go(0.0)
            yield
        listener.hear(1.0, listener.said[1] if listener.said else what)


def unheard() -> AbstractContextManager[None]:
    """Inside, nothing is said: what is done takes no time to speak of, or nobody should talk."""
    return _as_current(None)


def _listener(
    progress: Progress, what: str
) -> AbstractContextManager[Callable[[float, str], object]]:
    """The callable, or something that draws."""
    if callable(progress):
        return nullcontext(progress)
    from lplr.progress.display import drawn

    return drawn(what)


@contextmanager
def until(place: float, what: str = "", heading: str = "") -> Iterator[None]:
    """The part of the present work from where it is to a place between 0 and 1.

    Parameters
    ----------
    place : float
        Share of the present work that is done when this part is.
    what : str
        Words for it; by default those of the present work.
    heading : str
        What comes before all words that are said inside.
    """
    outer = _current.get()
    if outer is None:
        yield
        return
    with _as_current(inner := outer.inner(place, what)):
        inner.heading += heading
        inner.go(0.0)
        yield
    outer.go(place, inner.what)


def parts(
    items: Iterable[_Item],
    weights: Sequence[float] | None = None,
    what: str | Callable[[_Item], str] = "",
) -> Iterator[_Item]:
    """The items one after the other, each a part of what is left of the present work.

    Parameters
    ----------
    items : iterable
    weights : sequence of float, optional
        The work of each, in any unit, not negative; by default they are equal.
    what : str or callable
        Words for all, or a function of the item that gives them.

    Yields
    ------
    The items.
    """
    outer = _current.get()
    if outer is None:
        yield from items
        return
    items = list(items)
    work = [1.0] * len(items) if weights is None else [float(w) for w in weights]
    total, start = sum(work) or 1.0, outer.place
    for item, done in zip(items, accumulate(work), strict=True):
        place = start + (1.0 - start) * done / total
        with until(place, what if isinstance(what, str) else what(item)):
            yield item


def counter(total: float, what: str = "") -> Callable[[float], None]:
    """A function that counts work as done, from any thread; with ``total`` this part is over.

    Parameters
    ----------
    total : float
        What is left of the present work, in any unit.
    what : str
        Words for it; by default those of the present work.

    Returns
    -------
    callable
        Takes the work that has just been done.

    Examples
    --------
    >>> from lplr.progress import counter, tracked
    >>> with tracked(lambda share, what: print(share, what), "rows"):
    ...     count = counter(4)
    ...     for _ in range(4):
    ...         count(1)
    0.0 rows
    0.25 rows
    0.5 rows
    0.75 rows
    1.0 rows
    """
    part = _current.get()
    if part is None:
        return lambda work: None
    part.what = what or part.what
    start, done, lock = part.place, 0.0, threading.Lock()

    def count(work: float) -> None:
        nonlocal done
        with lock:
            done += work
            place = start + (1.0 - start) * done / total
        part.go(place)

    return count
