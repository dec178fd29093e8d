"""Forked processes, to be killed, starved or interrupted: some milliseconds each.

Everything is imported and compiled in this process once, so that what is done to a child hits its
work and not its start. Each child leads a session of its own, and only that is ever killed.
"""

from __future__ import annotations

import contextvars
import json
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["BROKE", "Child", "Ended", "run"]

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # to end
BROKE = 99  # exit code of a child whose work raised an error
_write = os.write  # whatever the work replaces
_PATIENCE = 120.0  # seconds until a child hangs


@dataclass(frozen=True)
class Ended:
    """How a child has ended.

    Parameters
    ----------
    code : int
        Its exit code; of one that a signal has ended, minus the number of the signal.
    printed : str
        On standard output and standard error.
    value : object
        What its work returned, or, with the code `BROKE`, the traceback of what it raised.
    left : bool
        Whether processes that it had started outlived it by some seconds.
    """

    code: int
    printed: str
    value: Any
    left: bool


class Child:
    """A process that does some work; use as a context manager, which leaves no process behind.

    Parameters
    ----------
    work : callable
        What it returns is sent by way of JSON.
    outside : int
        Exit code where a signal that asks it to end comes while nothing in it handles that.
    """

    def __init__(self, work: Callable[[], Any], outside: int = BROKE) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115
        self._value, value = os.pipe()  # which no limit on files stops
        self._sent, self._open = b"", True
        with warnings.catch_warnings():
            # Threads of this process wait for work, and hold no lock that the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Until the child handles them, and it is known here who has to end it.
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)
            self.pid = os.fork()
        if self.pid == 0:
            _live(work, self._printed.fileno(), value, outside, self._mask)
        os.close(value)
        os.set_blocking(self._value, False)
        self._code: int | None = None

    def ended(self) -> bool:
        """Whether it has."""
        if self._code is None:
            self._receive()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._receive()
        return self._code is not None

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while part := os.read(self._value, 1 << 16):
                self._sent += part
            self._open = False

    def spoke(self) -> bool:
        """Whether it has printed anything."""
        return os.fstat(self._printed.fileno()).st_size > 0

    def send(self, number: int, to_all: bool = False) -> None:
        """Send it a signal, if it still runs; to those that it started too, as a terminal does."""
        if not self.ended():
            with suppress(ProcessLookupError):  # it leads no group yet
                (os.killpg if to_all else os.kill)(self.pid, number)

    def wait(self, seconds: float = _PATIENCE) -> Ended:
        """Its end; TimeoutError if that does not come."""
        if not _soon(self.ended, seconds):
            raise TimeoutError(f"a process did not end in {seconds:g} s")
        left = not _soon(self._alone, 10.0)
        assert self._code is not None
        self._printed.seek(0)
        printed = self._printed.read().decode(errors="replace")
        return Ended(self._code, printed, json.loads(self._sent or b"null"), left)

    def _alone(self) -> bool:
        """Whether nobody is left of its group, nor of its forks, which hold the pipe."""
        self._receive()
        return not self._open and not _members(self.pid)

    def __enter__(self) -> Self:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        except BaseException:  # one has come meanwhile
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.send(signal.SIGKILL)  # where it leads no group yet
        _soon(self.ended, _PATIENCE)
        self._printed.close()
        os.close(self._value)


def run(work: Callable[[], Any]) -> Ended:
    """How a child ends that nobody disturbs."""
    with Child(work) as child:
        return child.wait()


def _soon(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something holds within so many seconds."""
    end, pause = time.monotonic() + seconds, 0.0005
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return True


def _members(group: int) -> bool:
    """Whether there is a process in a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there is, and it is not ours
        pass
    return True


def _live(
    work: Callable[[], Any], printed: int, value: int, outside: int, mask: Iterable[int]
) -> None:
    """The life of a child, which never returns."""
    code = BROKE
    try:
        os.setsid()
        for number in _ASKING:
            signal.signal(number, lambda *_: os._exit(outside))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nowhere, 0), (printed, 1), (printed, 2)):
            os.dup2(old, new)
        # Streams of its own: a thread of the parent may hold the locks of the others.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        try:
            found = json.dumps(contextvars.Context().run(work))  # nobody hears its progress
            code = 0
        except SystemExit as error:
            found, code = "null", error.code if isinstance(error.code, int) else BROKE
        except BaseException:
            found = json.dumps(traceback.format_exc())
        sys.stdout.flush()
        sent = found.encode()
        while sent:
            sent = sent[_write(value, sent) :]
    finally:
        os._exit(code)
