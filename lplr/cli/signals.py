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
def heeded() -> Iterator[None]:
    """Raise `Asked` where such a signal comes; one that is ignored, as by nohup, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    heard = [number for number in _NUMBERS if before[number] not in (signal.SIG_IGN, None)]
    with _repeated() as again:

        def ask(number: int, _: Any) -> NoReturn:
            for other in heard:  # it is cleared up only once; Ctrl-C cuts that short
                if other != signal.SIGINT:
                    signal.signal(other, signal.SIG_IGN)
            raise Asked(number, again)

        try:
            for number in heard:
                signal.signal(number, ask)
            yield
        finally:
            for number in heard:
                signal.signal(number, before[number])


@contextmanager
def _repeated() -> Iterator[Callable[[int], None]]:
    """A function that asks again, soon, and not where it is called; it does nothing afterwards."""
    asked = signal.SIGINT
    works = hasattr(signal, "setitimer")
    before: list[Any] = []  # of the alarm, which is the caller's until it is needed

    def again(number: int) -> None:
        nonlocal asked
        if works and threading.current_thread() is threading.main_thread():
            asked = signal.Signals(number)
            before.append(signal.signal(signal.SIGALRM, ask))
            signal.setitimer(signal.ITIMER_REAL, _PAUSE)

    def ask(*_: Any) -> NoReturn:
        raise Asked(asked, again)

    def report(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(found.exc_value, Asked):  # which is not lost, then
            others(found)

    others, sys.unraisablehook = sys.unraisablehook, report
    try:
        yield again
    finally:
        works = False
        if before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before[0])
        sys.unraisablehook = others
