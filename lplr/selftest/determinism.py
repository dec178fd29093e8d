"""One matrix, one result: at any number of threads, from any thread, in any kind of process."""

from __future__ import annotations

import hashlib
import locale
import multiprocessing
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from itertools import count, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import lplr
from lplr.evaluation.resources import run_fresh
from lplr.parallel import at_most, n_threads
from lplr.progress import unheard
from lplr.selftest.trials import Scale, Trial

__all__ = ["campaign"]

_THREADS = (1, 2, 4)
_METHODS = ("fork", "spawn", "forkserver")
_SHAPE = (1100, 120)  # more than 2**17 entries, so that there is work for several threads
_TALL = (9001, 12)  # several tiles, the last of which is short
_LIMITS = ("12MB", "1GB")  # little more than the least one, and more than is needed

# Result: the matrix, and the call with a limit of memory, of those that take one.
_Makers: TypeAlias = dict[str, tuple[tuple[int, int], Callable[[Any, str], Any]]]
_QUICK: _Makers = {
    "factorize": (_SHAPE, lambda A, limit: lplr.factorize(A, rank=12, rng=0)),
    "LPLR": (_SHAPE, lambda A, limit: lplr.factorize(A, rank=12, method="lplr", bits=8, rng=0)),
    "quantize in passes": (_TALL, lambda A, limit: lplr.quantize(A, bits=3, memory_limit=limit)),
    "factorize in passes": (
        _TALL, lambda A, limit: lplr.factorize(A, rank=4, rng=0, memory_limit=limit),
    ),
    "LPLR in passes": (
        _TALL,
        lambda A, limit: lplr.factorize(
            A, rank=4, method="lplr", bits=8, rng=0, memory_limit=limit
        ),
    ),
}  # fmt: skip
_SLOW: _Makers = {
    "quantize": (_SHAPE, lambda A, limit: lplr.quantize(A, bits=2, quantizer="e8p")),
    "caldera": (_SHAPE, lambda A, limit: lplr.caldera(A, rank=8, n_iter=1, rng=0)),
    "compress": (
        _SHAPE, lambda A, limit: lplr.compress(A, bits_per_entry=1, effort="fast", rng=0),
    ),
    "compress in passes": (
        _TALL,
        lambda A, limit: lplr.compress(
            A, bits_per_entry=1, effort="fast", rng=0, memory_limit=limit
        ),
    ),
}  # fmt: skip


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Threads x calling thread x start method x hash seed x memory limit x locale."""
    with unheard():
        expected = _results(_LIMITS[-1], _QUICK | _SLOW)
    seeds = ("0", "1", "4242") if scale.long else ("1",)
    locales = _locales() if scale.long else ["C"]
    methods = [m for m in _METHODS if m in multiprocessing.get_all_start_methods()]
    methods = methods if scale.long else methods[:1]

    def found(i: int, seed: str, name: str) -> list[Trial]:
        environment = {
            "PYTHONHASHSEED": seed,
            "LC_ALL": name,
            "OPENBLAS_NUM_THREADS": str(1 + i % 2),
        }
        try:
            results = run_fresh(__name__, "interpreter", methods, scale.long, **environment)
        except subprocess.CalledProcessError as error:
            return [Trial("G7", "processes", f"{environment}: {error.stderr[-500:]}")]
        trials = []
        for method, caller, digests in results:
            wrong = [name for name, digest in digests.items() if digest != expected[name]]
            told = f"{method}, {environment}, {caller}: other bytes of {wrong}" if wrong else ""
            what = f"the same bytes in a process by {method}"
            trials.append(Trial("G7", what, told, len(digests)))
        return trials

    with ThreadPoolExecutor(n_threads()) as pool:  # as many interpreters, that is
        for trials in pool.map(found, count(), *zip(*product(seeds, locales), strict=True)):
            yield from trials


def interpreter(methods: Sequence[str], every: bool) -> list[tuple[str, str, dict[str, str]]]:
    """What processes find that this one starts by each method, after it has computed itself."""
    with suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")
    with at_most(2):
        found = [(methods[0], "before", _results(_LIMITS[0], _QUICK))]
    for method in methods:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found += [(method, *each) for each in pool.submit(_process, every).result()]
    return found


def _process(every: bool) -> list[tuple[str, dict[str, str]]]:
    """The digests by each number of threads and limit, from each kind of calling thread.

    What is slow is computed at each value of each once; and so is all, unless ``every`` way is
    asked for.
    """
    once = list(zip(_THREADS, (*_LIMITS, _LIMITS[0]), _CALLERS, strict=True))
    ways = [(_QUICK, way) for way in (product(_THREADS, _LIMITS, _CALLERS) if every else once)]
    ways += [(_SLOW, way) for way in once]
    return [
        (f"{threads} threads, limit {limit}, {caller}", digests)
        for makers, (threads, limit, caller) in ways
        for digests in _CALLERS[caller](partial(_limited, threads, limit, makers))
    ]


def _limited(threads: int, limit: str, makers: _Makers) -> dict[str, str]:
    with at_most(threads):
        return _results(limit, makers)


@cache
def _matrix(shape: tuple[int, int]) -> Any:
    """With entries that depend on the generator alone: what is tested is what reads them."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape) * np.arange(1, shape[1] + 1) ** -0.7


def _results(limit: str, makers: _Makers) -> dict[str, str]:
    """The digest of the file of each result."""
    with tempfile.TemporaryDirectory(prefix="lplr-selftest-") as folder:
        path, found = Path(folder, "x.h5"), {}
        for name, (shape, make) in makers.items():
            lplr.save(path, make(_matrix(shape), limit), overwrite=True)
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


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
