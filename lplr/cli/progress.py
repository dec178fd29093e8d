"""Progress on standard error: one line that is redrawn on a terminal, plain lines in a log.

Also the notice that kernels are being compiled, without which the first run would look stuck.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from lplr.cli.tables import in_seconds
from lplr.progress import Estimate

__all__ = ["Progress", "watch_compilation"]

_BAR = 24
_LOG_EVERY = 2.0  # seconds between two steps that a log mentions


class Progress:
    """Shows what is being done and how long the rest will take; use as a context manager.

    Parameters
    ----------
    work : float or mapping of str to float
        All of the work, or the work of each kind, as `lplr.progress.Estimate` takes it; 0 for
        steps of unknown length, which get no estimate.
    stream : text file, optional
        By default standard error.
    """

    def __init__(
        self, work: float | Mapping[str, float] = 0.0, stream: TextIO | None = None
    ) -> None:
        self.estimate = Estimate(work)
        self.label = ""
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty() and _redraws()
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

    def __enter__(self) -> Progress:
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

    def show(self, label: str) -> None:
        """Say what is being done now."""
        self.label = label
        if self.live:
            self._draw()
        elif time.perf_counter() - self._logged >= _LOG_EVERY or not self.total:
            self._logged = time.perf_counter()
            self.say(self._text())

    def say(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._write(("\r\x1b[K" if self.live else "") + f"lplr: {text}\n")

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
        share, remaining = self.estimate.share, self.estimate.remaining
        full = round(_BAR * share)
        bar = f"[{'#' * full}{'.' * (_BAR - full)}] " if self.live else ""
        left = "" if remaining is None else f", about {in_seconds(remaining)} left"
        return f"{bar}{100 * share:3.0f} % {self.label}  ({in_seconds(elapsed)}{left})"

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def _redraws() -> bool:
    """Whether the terminal may get control characters."""
    return os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


@contextmanager
def watch_compilation(progress: Progress) -> Iterator[None]:
    """Say once that Numba compiles, as soon as it really does and not for kernels in its cache.

    Numba announces each compilation before it starts, and nothing where the cache has the
    kernel. So no guess about the state of the cache is needed, whatever made it stale.
    """
    from numba.core import event

    class Listener(event.Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                self.said = True
                progress.say("compiling kernels, once, about 20 s; later runs load them")

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
