"""Attempts that may crash, hang or swell, in child processes that are watched.

A child makes one attempt after the other and says how each went. While it makes one, it may take
64 MB of memory beside the size of the file, and no more: what asks for more fails there, before it
has it. A child that dies of a signal, or says nothing for a while, is the failure of the attempt
that it was at; another one goes on behind it.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from lplr.exceptions import LplrError
from lplr.parallel import n_threads
from lplr.selftest.trials import Scale

__all__ = ["ROOM", "Attempt", "attempts", "limited", "outcome_of"]

ROOM = 64 << 20  # bytes beside the size of the file
_PATIENCE = 60.0  # seconds of silence; the slowest attempt takes a few
_START = 300.0  # seconds: on some machines the kernels are compiled first
_CODE = """\
import json, sys
job = json.loads(sys.argv[1])
sys.path[:] = job["path"]
from lplr.selftest.guarded import serve
serve(job)
"""

# What was tried and how it failed, empty if it did not.
Attempt: TypeAlias = Callable[[int], tuple[str, str]]


def attempts(
    maker: str, folder: Path, count: int, scale: Scale, **arguments: Any
) -> Iterator[tuple[str, str]]:
    """What was tried and how it failed, of attempts 0 to ``count``, each in a child.

    ``maker`` is the ``module:function`` that gives the `Attempt`, once in each child, of a folder
    of its own and the other arguments. In the long form there are as many children as threads
    would be used; in the quick one a second child would take as long to start as the first one
    takes in all.
    """
    n = scale.count(n_threads(), 1)
    edges = [count * k // n for k in range(n + 1)]
    children = []
    try:
        for start, stop in pairwise(edges):
            if start < stop:
                own = folder / str(start)
                own.mkdir(parents=True)
                children.append(_Child(maker, {"folder": str(own), **arguments}, start, stop))
        waiting = list(children)
        while waiting:
            _wait_for(waiting)
            for child in waiting:
                yield from child.found()
            waiting = [child for child in waiting if child.at < child.stop]
    finally:
        for child in children:
            child.end()


def _wait_for(children: Collection[_Child]) -> None:
    """Return when one has said something, has ended, or is late."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.pipe, selectors.EVENT_READ)
        selector.select(max(0.0, min(child.deadline for child in children) - time.monotonic()))


class _Child:
    """Attempts ``at`` to ``stop`` in a process, and in another one behind each that ends it."""

    def __init__(self, maker: str, arguments: dict[str, Any], start: int, stop: int) -> None:
        self._job = {"path": sys.path, "maker": maker, "arguments": arguments}
        self.at, self.stop = start, stop
        self._begin()

    def _begin(self) -> None:
        one = {"LPLR_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        one["RUST_BACKTRACE"] = "0"  # which takes 50 MB of memory, whatever was read
        job = self._job | {"start": self.at, "stop": self.stop}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(job)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | one,
        )
        assert self._process.stdout is not None
        self.pipe = self._process.stdout.fileno()
        os.set_blocking(self.pipe, False)
        self._rest, self.deadline = b"", time.monotonic() + _START

    def found(self) -> Iterator[tuple[str, str]]:
        """What came of the attempts since the last call."""
        try:
            said = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            if time.monotonic() > self.deadline:
                yield "said nothing", f"attempt {self.at}: nothing for {_PATIENCE:.0f} s"
                self._go_on()
            return
        if not said:
            printed = self.end()[-500:].decode(errors="replace")
            code = self._process.returncode
            yield "ended", f"attempt {self.at}: the process ended with {code}: {printed}"
            self._go_on()
            return
        *lines, self._rest = (self._rest + said).split(b"\n")
        self.at += len(lines)
        self.deadline = time.monotonic() + _PATIENCE
        yield from (tuple(json.loads(line)) for line in lines)

    def _go_on(self) -> None:
        self.end()
        self.at += 1
        if self.at < self.stop:
            self._begin()

    def end(self) -> bytes:
        """What it printed; it is no more."""
        if self._process.stderr is None or self._process.stderr.closed:
            return b""
        self._process.kill()
        return self._process.communicate()[1]


# --- in the child ----------------------------------------------------------------------------


def serve(job: dict[str, Any]) -> None:
    """Make attempts and say how each went, a line each."""
    module, name = job["maker"].split(":")
    attempt: Attempt = getattr(import_module(module), name)(**job["arguments"])
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    said = os.dup(1)
    os.dup2(2, 1)  # whatever prints, prints elsewhere
    for i in range(job["start"], job["stop"]):
        os.write(said, json.dumps(attempt(i)).encode() + b"\n")


def outcome_of(read: Callable[[], Any], nbytes: int) -> tuple[str, Any]:
    """What came of reading a file of so many bytes, and the error or the content.

    "refused" with a typed error, "read", or "broken": any other error, or too much memory, which
    must be known before it is taken, and not once it is not there.
    """
    try:
        with limited(nbytes + ROOM):
            return "read", read()
    except LplrError as error:
        causes = [error.__cause__, error.__context__]
        return next((("broken", e) for e in causes if _is_ours(e)), ("refused", error))
    except Exception as error:  # whatever it is, it is none of ours
        return "broken", error


def _is_ours(error: BaseException | None) -> bool:
    """Whether memory was not there that we asked for; Arrow asks for what a page declares."""
    return isinstance(error, MemoryError) and not type(error).__module__.startswith("pyarrow")


@contextmanager
def limited(nbytes: int) -> Iterator[None]:
    """Inside, this process takes at most so many bytes more; where the system can be asked."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):  # not Linux
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
