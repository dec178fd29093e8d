"""Progress on standard error: one line that is redrawn on a terminal, plain lines in a log.

The command line draws with it, and ``progress=True`` where tqdm is not installed.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from lplr.exceptions import spelled_out
from lplr.progress.estimate import Estimate

__all__ = ["ProgressLine", "drawn", "in_one_line", "in_seconds"]

_BAR = 24
_LOG_EVERY = 2.0  # seconds between two steps that a log mentions


class ProgressLine:
    """Shows what is being done and how long the rest will take; use as a context manager.

    It is told either steps of a known amount of work (`step`), or shares (`tell`, which is what
    ``progress=`` takes). What its stream does not take is dropped.

    Parameters
    ----------
    work : float or mapping of str to float
        All of the work, or the work of each kind, as `lplr.progress.estimate.Estimate` takes it; 0
        for steps of unknown length, which get no estimate; 1 for shares.
    stream : text file, optional
        By default standard error.
    """

    def __init__(
        self, work: float | Mapping[str, float] = 0.0, stream: TextIO | None = None
    ) -> None:
        self.estimate = Estimate(work)
        self.label = ""
        self.stream = stream or sys.stderr
        self.live = _redraws(self.stream)
        self._told = 0.0
        self._logged = -math.inf
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def total(self) -> float:
        """All of the work; setting it starts the estimate anew."""
        return self.estimate.total

    @total.setter
    def total(self, work: float) -> None:
        self.estimate = Estimate(work)

    def __enter__(self) -> ProgressLine:
        if self.live:
            self._ticker.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self.live:
            self._ticker.join()
            with self._lock:
                self._write("\r\x1b[K")

    @contextmanager
    def step(self, label: str, work: float = 0.0, kind: str = "") -> Iterator[None]:
        """Do a piece of the work: its name, its size, and its kind if the work has kinds."""
        self.show(label)
        yield
        if self.total:
            self.estimate.add(work, kind)

    def tell(self, share: float, what: str) -> None:
        """Say that a share of work 1 is done, and what is being done now."""
        self.estimate.add(share - self._told)
        self._told = share
        self.show(what)

    def show(self, label: str) -> None:
        """Say what is being done now."""
        self.label = spelled_out(label)
        if self.live:
            self._draw()
        elif time.perf_counter() - self._logged >= _LOG_EVERY or not self.total:
            self._logged = time.perf_counter()
            self.say(self._text())

    def say(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._write(("\r\x1b[K" if self.live else "") + f"lplr: {spelled_out(text)}\n")

    def _tick(self) -> None:
        while not self._stop.wait(0.5):
            self._draw()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns
        with self._lock:
            self._write("\r\x1b[K" + self._text()[: width - 1])

    def _text(self) -> str:
        """Share, name and times of the current step; a bar too on a terminal."""
        elapsed = self.estimate.elapsed
        if not self.total:
            return self.label + (f"  ({in_seconds(elapsed)})" if elapsed >= 1 else "")
        share, remaining = self._told or self.estimate.share, self.estimate.remaining
        full = round(_BAR * share)
        bar = f"[{'#' * full}{'.' * (_BAR - full)}] " if self.live else ""
        left = "" if remaining is None else f", about {in_seconds(remaining)} left"
        return f"{bar}{100 * share:3.0f} % {self.label}  ({in_seconds(elapsed)}{left})"

    def _write(self, text: str) -> None:
        if self.stream is not None:
            with suppress(OSError, ValueError):  # it is full, gone or closed
                self.stream.write(text)
                self.stream.flush()


def _redraws(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that may get control characters."""
    if stream is None or stream.closed or not stream.isatty():
        return False
    return os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


@contextmanager
def drawn(what: str) -> Iterator[Callable[[float, str], object]]:
    """What ``progress=True`` calls with shares: a bar of tqdm, or a line where it is missing."""
    if sys.stderr is None or sys.stderr.closed:
        yield lambda share, what: None
        return
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        with ProgressLine(1.0) as line:
            yield line.tell
        return
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=what, bar_format=form) as bar:

        def tell(share: float, what: str) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(share - bar.n)

        yield tell


def in_one_line(text: str) -> str:
    """A text without line breaks and control characters."""
    return spelled_out(" ".join(text.split()))


def in_seconds(seconds: float) -> str:
    """A duration as people read it: ``0.42 s``, ``12 s``, ``3:05``, ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds >= 3600:
        return f"{int(seconds) // 3600} h {int(seconds) // 60 % 60:02d} min"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
