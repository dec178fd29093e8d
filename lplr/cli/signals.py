"""Signals that ask a command to end: it ends as after Ctrl-C, with its files as they belong."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["Asked", "heeded"]

_NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Asked(KeyboardInterrupt):
    """The command was asked to end, by the signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


@contextmanager
def heeded() -> Iterator[None]:
    """Raise `Asked` where such a signal comes; one that is ignored, as by nohup, stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    heard = [number for number in _NUMBERS if before[number] not in (signal.SIG_IGN, None)]

    def ask(number: int, _: Any) -> NoReturn:
        for other in heard:  # it is cleared up only once; Ctrl-C cuts that short
            if other != signal.SIGINT:
                signal.signal(other, signal.SIG_IGN)
        raise Asked(number)

    try:
        for number in heard:
            signal.signal(number, ask)
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
