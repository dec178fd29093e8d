"""Progress on stderr: one line that is redrawn on a terminal, plain lines in a log.

Also the notice that kernels are being compiled, without which the first run would look stuck.
"""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from lplr.cli.tables import in_seconds

__all__ = ["Progress", "watch_compilation"]

_BAR = 24
_LOG_EVERY = 2.0  # seconds between two steps that a log mentions


class Progress:
    """Counts work that is done; use as a context manager.

    Parameters
    ----------
    total : float
        All of the work, in any unit; 0 for one step of unknown length, which gets no estimate.
    stream : text file, optional
        By default stderr.

    Notes
    -----
    The estimate takes the rest to go at the speed of what is done.
    """

    def __init__(self, total: float = 0.0, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0.0
        self.label = ""
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.start = time.perf_counter()
        self._logged = -math.inf
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self.start = time.perf_counter()
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
    def step(self, label: str, work: float = 0.0) -> Iterator[None]:
        """A piece of the work, by its name and its size."""
        self.label = label
        if self.live:
            self._draw()
        elif time.perf_counter() - self._logged >= _LOG_EVERY or not self.total:
            self._logged = time.perf_counter()
            self.say(f"{self._share()}{label}{self._times()}")
        yield
        self.done += work

    def say(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._write(("\r\x1b[K" if self.live else "") + f"lplr: {text}\n")

    def _tick(self) -> None:
        while not self._stop.wait(0.5):
            self._draw()

    def _draw(self) -> None:
        full = round(_BAR * self.done / self.total) if self.total else 0
        bar = f"[{'#' * full}{'.' * (_BAR - full)}] " if self.total else ""
        text = f"{bar}{self._share()}{self.label}{self._times()}"
        width = shutil.get_terminal_size().columns
        with self._lock:
            self._write("\r\x1b[K" + text[: width - 1])

    def _share(self) -> str:
        return f"{100 * self.done / self.total:3.0f} % " if self.total else ""

    def _times(self) -> str:
        elapsed = time.perf_counter() - self.start
        if self.done and self.total:
            left = elapsed * (self.total - self.done) / self.done
            return f"  ({in_seconds(elapsed)}, about {in_seconds(left)} left)"
        return f"  ({in_seconds(elapsed)})" if elapsed >= 1 else ""

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


@contextmanager
def watch_compilation(progress: Progress) -> Iterator[None]:
    """Say so, once, as soon as Numba really compiles rather than loads from its cache.

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
