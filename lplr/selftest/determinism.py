"""One matrix, one result: at any number of threads, from any thread, in any kind of process."""

from __future__ import annotations

import hashlib
import locale
import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import lplr
from lplr.evaluation.resources import run_fresh
from lplr.parallel import at_most
from lplr.progress import unheard
from lplr.selftest.trials import Scale, Trial

__all__ = ["campaign"]

_THREADS = (1, 2, 4)
_METHODS = ("fork", "spawn", "forkserver")
_SHAPE = (1100, 120)  # more than 2**17 entries, so that there is work for several threads
_TALL = (9001, 12)  # several tiles, the last of which is short
_LIMITS = ("12MB", "1GB")  # little more than the least one, and more than is needed
# Result: the matrix, and the call with a limit of memory.
_MAKERS: dict[str, tuple[tuple[int, int], Callable[[Any, str], Any]]] = {
    "quantize": (_SHAPE, lambda A, limit: lplr.quantize(A, bits=2, quantizer="e8p")),
    "factorize": (_SHAPE, lambda A, limit: lplr.factorize(A, rank=12, rng=0)),
    "LPLR": (_SHAPE, lambda A, limit: lplr.factorize(A, rank=12, method="lplr", bits=8, rng=0)),
    "caldera": (_SHAPE, lambda A, limit: lplr.caldera(A, rank=8, n_iter=1, rng=0)),
    "compress": (
        _SHAPE, lambda A, limit: lplr.compress(A, bits_per_entry=1, effort="fast", rng=0),
    ),
    "quantize in passes": (_TALL, lambda A, limit: lplr.quantize(A, bits=3, memory_limit=limit)),
    "factorize in passes": (
        _TALL, lambda A, limit: lplr.factorize(A, rank=4, rng=0, memory_limit=limit),
    ),
}  # fmt: skip


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Threads x calling thread x start method x hash seed x memory limit x locale."""
    with unheard():
        expected = _results(_LIMITS[-1])
    seeds = ("0", "1", "4242") if scale.long else ("1",)
    locales = _locales() if scale.long else ["C"]
    methods = [m for m in _METHODS if m in multiprocessing.get_all_start_methods()]
    for i, (seed, name) in enumerate(product(seeds, locales)):
        thorough = scale.long and i == 0
        environment = {
            "PYTHONHASHSEED": seed,
            "LC_ALL": name,
            "OPENBLAS_NUM_THREADS": str(1 + i % 2),
        }
        for method in methods if scale.long else methods[:1]:
            where = f"{method}, {environment}"
            try:
                found = run_fresh(__name__, "interpreter", method, thorough, **environment)
            except subprocess.CalledProcessError as error:
                yield Trial("G7", "processes", f"{where}: {error.stderr[-500:]}")
                continue
            for caller, digests in found:
                wrong = [name for name, digest in digests.items() if digest != expected[name]]
                told = f"{where}, {caller}: other bytes of {wrong}" if wrong else ""
                yield Trial("G7", f"the same bytes in a process by {method}", told, len(digests))


def interpreter(method: str, thorough: bool) -> list[tuple[str, dict[str, str]]]:
    """What a process finds that this one starts by ``method``, after it has computed itself."""
    with suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")
    with at_most(2):
        here = ("before", _results(_LIMITS[0])) if method == "fork" else None
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = pool.submit(_process, thorough).result()
    return found if here is None else [here, *found]


def _process(thorough: bool) -> list[tuple[str, dict[str, str]]]:
    """The digests at each number of threads and limit, from each kind of calling thread."""
    ways = list(product(_THREADS, _LIMITS, _CALLERS))
    if not thorough:  # each value of each once
        ways = list(zip(_THREADS, (*_LIMITS, _LIMITS[0]), _CALLERS, strict=True))
    return [
        (f"{threads} threads, limit {limit}, {caller}", digests)
        for threads, limit, caller in ways
        for digests in _CALLERS[caller](partial(_limited, threads, limit))
    ]


def _limited(threads: int, limit: str) -> dict[str, str]:
    with at_most(threads):
        return _results(limit)


@cache
def _matrix(shape: tuple[int, int]) -> Any:
    """With entries that depend on the generator alone: what is tested is what reads them."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape) * np.arange(1, shape[1] + 1) ** -0.7


def _results(limit: str) -> dict[str, str]:
    """The digest of each result."""
    return {name: _digest(make(_matrix(shape), limit)) for name, (shape, make) in _MAKERS.items()}


def _digest(f: lplr.PackedMatrix) -> str:
    """Of all codes and scales, and of rows, which the seeds of transforms decode."""
    found = hashlib.sha256(f.rows(0, 8).tobytes())
    for part in f.parts().values():
        for block in getattr(part, "blocks", (part,)):
            for array in (block.codes, block.scale, block.offset):
                found.update(b"" if array is None else array.tobytes())
    return found.hexdigest()


def _in_thread(work: Callable[[], dict[str, str]]) -> list[dict[str, str]]:
    with ThreadPoolExecutor(1) as pool:
        return [pool.submit(work).result()]


def _in_two_at_once(work: Callable[[], dict[str, str]]) -> list[dict[str, str]]:
    with ThreadPoolExecutor(2) as pool:
        return [future.result() for future in (pool.submit(work), pool.submit(work))]


_CALLERS: dict[str, Callable[[Callable[[], dict[str, str]]], list[dict[str, str]]]] = {
    "main thread": lambda work: [work()],
    "another thread": _in_thread,
    "two threads at once": _in_two_at_once,
}


def _locales() -> list[str]:
    """Those of the system that print numbers in different ways, as far as it has them."""
    found = []
    before = locale.setlocale(locale.LC_ALL)
    for name in ("C", "C.UTF-8", "de_DE.UTF-8", "tr_TR.UTF-8", "hi_IN.UTF-8"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)
            found.append(name)
    locale.setlocale(locale.LC_ALL, before)
    return found
