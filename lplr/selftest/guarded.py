"""Attempts that may crash, hang or swell, in a child process that is watched.

The child makes one attempt after the other and says how each went. While it makes one, it may take
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from lplr.exceptions import LplrError

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


def attempts(maker: str, arguments: dict[str, Any], count: int) -> Iterator[tuple[str, str]]:
    """What was tried and how it failed, of attempts 0 to ``count``, each in a child.

    ``maker`` is the ``module:function`` that gives the `Attempt`, once in each child.
    """
    done = 0
    while done < count:
        for found in _of_a_child(maker, arguments, done, count):
            yield found
            done += 1


def _of_a_child(
    maker: str, arguments: dict[str, Any], start: int, stop: int
) -> Iterator[tuple[str, str]]:
    """Attempts from ``start`` up to the end, or to the one that the child does not survive."""
    job = {
        "path": sys.path, "maker": maker, "arguments": arguments, "start": start, "stop": stop,
    }  # fmt: skip
    one = {"LPLR_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", _CODE, json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | one,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        for line in _lines(child.stdout.fileno()):
            if line is None:
                yield "said nothing", f"attempt {start}: nothing for {_PATIENCE:.0f} s"
                return
            start += 1
            yield tuple(json.loads(line))
        if start < stop:
            child.stdout.close()
            said = child.stderr.read()[-500:].decode(errors="replace")
            code = child.wait()
            yield "ended", f"attempt {start}: the process ended with {code}: {said}"
    finally:
        child.kill()
        child.communicate()


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """The lines of a pipe until it is closed; None once it is silent for too long."""
    rest, patience = b"", _START
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(patience):
                yield None
                return
            found = os.read(descriptor, 1 << 16)
            if not found:
                return
            *lines, rest = (rest + found).split(b"\n")
            yield from lines
            patience = _PATIENCE


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

    "refused" with a typed error, "read", or "broken": any other error, or too much memory.
    """
    try:
        with limited(nbytes + ROOM):
            return "read", read()
    except LplrError as error:
        return "refused", error
    except Exception as error:  # whatever it is, it is none of ours
        return "broken", error


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
