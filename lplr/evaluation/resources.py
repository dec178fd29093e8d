"""Time and memory of a computation: the one clock, the one memory meter, and fresh processes."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from lplr.parallel import n_threads

__all__ = ["Cost", "in_turn", "measured", "run_fresh", "run_script", "threads"]

T = TypeVar("T")


class Cost(NamedTuple):
    """What a computation took.

    Parameters
    ----------
    seconds : float
    extra_nbytes : float or None
        By which the memory in use grew at most; None where the system cannot tell (not Linux).
    """

    seconds: float
    extra_nbytes: float | None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Fix the threads of this package and of every BLAS."""
    from threadpoolctl import threadpool_limits

    before = os.environ.get("LPLR_NUM_THREADS")
    os.environ["LPLR_NUM_THREADS"] = str(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        if before is None:
            del os.environ["LPLR_NUM_THREADS"]
        else:
            os.environ["LPLR_NUM_THREADS"] = before


def measured(make: Callable[[], T]) -> tuple[T, Cost]:
    """A result, and what it took."""
    # What was freed goes back to the system where the C library can, so that its reuse counts.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    before = _peak(reset=True)
    start = perf_counter()
    made = make()
    seconds = perf_counter() - start
    after = _peak()
    extra = None if before is None or after is None else max(after - before, 0.0)
    return made, Cost(seconds, extra)


def _peak(reset: bool = False) -> float | None:
    """Most bytes in memory since the last reset."""
    if not os.path.exists("/proc/self/clear_refs"):
        return None
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return 1024.0 * int(fields["VmHWM"].split()[0])


def in_turn(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of some rounds, in each of which everyone runs once.

    What else the machine does meets all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = perf_counter()
            run()
            seconds[name].append(perf_counter() - start)
    return seconds


def run_fresh(module: str, function: str, *args: Any, **environment: str) -> Any:
    """What a function of a module returns in a fresh process, by way of JSON and repr."""
    call = f"m.{function}({', '.join(map(repr, args))})"
    script = f"import json, {module} as m; print(json.dumps({call}))"
    # Blocks are returned to the system at once, so that what was freed is not counted as there.
    return json.loads(run_script(script, **{"MALLOC_MMAP_THRESHOLD_": "65536", **environment}))


def run_script(script: str, **environment: str) -> str:
    """What a Python script prints in a fresh process."""
    env = os.environ | {"LPLR_NUM_THREADS": str(n_threads())} | environment
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout
