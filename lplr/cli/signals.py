"""Signals that ask a command to end: it ends as after Ctrl-C, with its files as they belong."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["Asked", "heeded"]

_NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_PAUSE = 0.01  # seconds until a command is asked again


class Asked(KeyboardInterrupt):
    """The command was asked to end, by the signal ``number``.

    It is raised wherever Python happens to be. There are places where the interpreter lets no
    exception pass, such as the callbacks of weak references: it dies there, and ``lost(number)``
    is called.
    """

    def __init__(self, number: int, lost: Callable[[int], None]) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)
        self._lost = lost

    def __del__(self) -> None:
        self._lost(self.number)


@contextmanager
def heeded() -> Iterator[Callable[[Exception], None]]:
    """Raise `Asked` where such a signal comes; one that is ignored, as by nohup, stays so.

    Yields
    ------
    callable
        Given an error, it raises the `Asked` whose place that took: some libraries in C turn every
        exception into one of theirs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda error: None  # only the main thread gets signals
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    heard = [number for number in _NUMBERS if before[number] not in (signal.SIG_IGN, None)]
    with _repeated() as (again, ask_again):

        def ask(number: int, _: Any) -> NoReturn:
            for other in heard:  # it is cleared up only once; Ctrl-C cuts that short
                if other != signal.SIGINT:
                    signal.signal(other, signal.SIG_IGN)
            raise Asked(number, again)

        def heed(error: Exception) -> None:
            found: BaseException | None = error
            while found is not None:
                if isinstance(found, Asked):
                    raise found
                found = found.__cause__ or found.__context__
            ask_again()

        try:
            for number in heard:
                signal.signal(number, ask)
            yield heed
        finally:
            for number in heard:
                signal.signal(number, before[number])


@contextmanager
def _repeated() -> Iterator[tuple[Callable[[int], None], Callable[..., None]]]:
    """How to ask again: soon, and not where that is called, and then at once, if not yet done.

    The first function does nothing afterwards.
    """
    lost: int | None = None
    works = hasattr(signal, "setitimer")
    before: list[Any] = []  # of the alarm, which is the caller's until it is needed

    def again(number: int) -> None:
        nonlocal lost
        if works and threading.current_thread() is threading.main_thread():
            lost = number
            before.append(signal.signal(signal.SIGALRM, ask))
            signal.setitimer(signal.ITIMER_REAL, _PAUSE)

    def ask(*_: Any) -> None:
        nonlocal lost
        number, lost = lost, None
        if number is not None:
            raise Asked(number, again)

    def report(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(found.exc_value, Asked):  # which is not lost, then
            others(found)

    others, sys.unraisablehook = sys.unraisablehook, report
    try:
        yield again, ask
    finally:
        works = False
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before[0])
        sys.unraisablehook = others
