"""Speed and memory, each beside the error that it buys.

Competitors take turns and the best of their rounds counts, so that what else the machine does
meets all of them alike. Memory, imports and the first compilation are measured in fresh processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np

from lplr.parallel import n_threads

__all__ = [
    "best_of",
    "child",
    "cold_start",
    "compare",
    "decoding_speed",
    "import_times",
    "matrix",
    "peak_memory",
    "peak_rss",
    "threads",
]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Fix the threads of this package and of every BLAS.

    Parameters
    ----------
    count : int

    Examples
    --------
    >>> from lplr.evaluation.speed import threads
    >>> from lplr.parallel import n_threads
    >>> with threads(1):
    ...     n_threads()
    1
    """
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


def matrix(n: int, d: int) -> np.ndarray:
    """A matrix to time on: Fashion-MNIST where it has this shape and is installed.

    Parameters
    ----------
    n, d : int

    Returns
    -------
    ndarray of shape (n, d), float32
        Else ``G_1 diag(1/k) G_2`` of at most 300 components, G_1 and G_2 Gaussian, plus noise.

    Examples
    --------
    >>> from lplr.evaluation.speed import matrix
    >>> matrix(100, 784).max()
    np.float32(1.0)
    """
    from lplr import datasets
    from lplr.exceptions import InputError

    if d == 784:
        try:
            return datasets.fashion_mnist(n=n).images
        except InputError:
            pass
    rng = np.random.default_rng(0)
    k = min(300, n, d)
    left = rng.standard_normal((n, k), dtype=np.float32) / np.arange(1, k + 1, dtype=np.float32)
    A = left @ rng.standard_normal((k, d), dtype=np.float32)
    A += np.float32(1e-2) * rng.standard_normal((n, d), dtype=np.float32)
    return A


def compare(A: np.ndarray, rank: int, rounds: int) -> dict[str, dict[str, float | None]]:
    """Factorizations of one rank, scikit-learn's randomized SVD, and two bare products.

    Parameters
    ----------
    A : ndarray of shape (n, d), float32
    rank : int
    rounds : int
        How often each takes its turn, after one that does not count.

    Returns
    -------
    dict
        By name: ``seconds`` of the best round, ``error`` (relative; None for the products).

    Notes
    -----
    The products are ``A S`` and ``L^T A``, which `method="lplr"` cannot do without.

    Examples
    --------
    >>> from lplr.evaluation.speed import compare, matrix
    >>> sorted(compare(matrix(200, 100), rank=5, rounds=1))
    ['feedback', 'lplr', 'randomized_svd', 'two products']
    """
    from sklearn.utils.extmath import randomized_svd

    import lplr

    S = np.random.default_rng(0).standard_normal((A.shape[1], rank), dtype=np.float32)

    def products() -> None:
        L = A @ S
        L.T @ A

    def svd_error() -> float:
        U, s, Vt = randomized_svd(A, rank, random_state=0)
        blocks = (slice(i, i + 512) for i in range(0, len(A), 512))
        squares = [float(np.square(A[b] - (U[b] * s) @ Vt).sum(dtype=np.float64)) for b in blocks]
        return float(np.sqrt(sum(squares)) / np.linalg.norm(A.astype(np.float64)))

    runs: dict[str, Callable[[], Any]] = {
        "lplr": lambda: lplr.factorize(A, rank=rank, bits=8, method="lplr", rng=0),
        "feedback": lambda: lplr.factorize(A, rank=rank, bits=4, method="feedback", rng=0),
        "randomized_svd": lambda: randomized_svd(A, rank, random_state=0),
        "two products": products,
    }
    errors: dict[str, float | None] = {
        "lplr": runs["lplr"]().relative_error(A),
        "feedback": runs["feedback"]().relative_error(A),
        "randomized_svd": svd_error(),
        "two products": None,
    }
    products()
    best = best_of(runs, rounds)
    return {name: {"seconds": best[name], "error": errors[name]} for name in runs}


def best_of(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of the best of some rounds, in each of which everyone runs once.

    Parameters
    ----------
    runs : mapping of str to callable
    rounds : int
    """
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = perf_counter()
            run()
            best[name] = min(best[name], perf_counter() - start)
    return best


def decoding_speed(rounds: int) -> dict[str, dict[str, float]]:
    """Entries that unpacking and dequantizing give in a second, on one core.

    Parameters
    ----------
    rounds : int

    Returns
    -------
    dict
        By codebook: ``entries_per_second``, and ``error`` (relative, of a Gaussian matrix).

    Examples
    --------
    >>> from lplr.evaluation.speed import decoding_speed
    >>> decoding_speed(rounds=1)["uniform, 4 bits"]["error"] < 0.2
    True
    """
    import lplr

    A = np.random.default_rng(0).standard_normal((2048, 2048), dtype=np.float32)
    made = {
        f"{quantizer}, {bits} bits": lplr.quantize(A, bits=bits, quantizer=quantizer)
        for quantizer, bits in (("uniform", 2), ("uniform", 3), ("uniform", 4), ("uniform", 8))
    }
    made["e8p, 2 bits"] = lplr.quantize(A, bits=2, quantizer="e8p")
    with threads(1):
        for q in made.values():
            q.to_dense()
        best = best_of({name: q.to_dense for name, q in made.items()}, rounds)
    return {
        name: {"entries_per_second": A.size / best[name], "error": q.relative_error(A)}
        for name, q in made.items()
    }


def peak_memory(method: str, n: int, d: int, rank: int) -> dict[str, float]:
    """Memory that a factorization needs at its peak, beyond the matrix that it is given.

    Parameters
    ----------
    method : str
    n, d, rank : int

    Returns
    -------
    dict
        ``extra`` bytes; ``input`` bytes of the matrix; ``factors``, bytes of both in float32.
    """
    # Blocks are returned to the system at once, so that what was freed is not counted as there.
    found = child(__name__, "_measure_memory", method, n, d, rank, MALLOC_MMAP_THRESHOLD_="65536")
    return {"extra": found, "input": 4.0 * n * d, "factors": 4.0 * rank * (n + d)}


def _measure_memory(method: str, n: int, d: int, rank: int) -> float:
    import lplr

    A = matrix(n, d)
    bits = 8 if method == "lplr" else 4
    small = np.random.default_rng(0).standard_normal((256, 128), dtype=np.float32)
    lplr.factorize(small, rank=16, bits=bits, method=method, rng=0)  # libraries, kernels, threads
    before = peak_rss(reset=True)
    lplr.factorize(A, rank=rank, bits=bits, method=method, rng=0)
    return peak_rss() - before


def peak_rss(reset: bool = False) -> float:
    """Most bytes that this process has had in memory; where Linux can, since the last reset.

    Parameters
    ----------
    reset : bool
    """
    if reset and os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(fields["VmHWM"].split()[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else 1024.0 * peak


def import_times(rounds: int) -> dict[str, float]:
    """Seconds of imports in fresh processes, the best of some.

    Parameters
    ----------
    rounds : int

    Returns
    -------
    dict
        ``import lplr``, and ``lplr.factorize``, whose first use imports what it needs.
    """
    script = (
        "from time import perf_counter as t; a = t(); import lplr; b = t(); lplr.factorize; "
        "print([b - a, t() - b])"
    )
    found = np.min([json.loads(_python(script)) for _ in range(rounds)], axis=0)
    return {"import lplr": float(found[0]), "lplr.factorize": float(found[1])}


def cold_start() -> dict[str, float]:
    """Seconds in a fresh process without any compiled kernel.

    Returns
    -------
    dict
        ``first call`` of `factorize` as it is by default, and ``all methods`` and codebooks after
        that, compilation included.
    """
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, float] = child(__name__, "_measure_cold_start", NUMBA_CACHE_DIR=folder)
    return found


def _measure_cold_start() -> dict[str, float]:
    import lplr

    A = np.random.default_rng(0).standard_normal((300, 200))
    start = perf_counter()
    lplr.factorize(A, bits_per_entry=2, rng=0).to_dense()
    first = perf_counter()
    for method in ("lplr", "lplr-svd", "direct-svd"):
        lplr.factorize(A, rank=20, bits=4, method=method, rng=0).to_dense()
    for quantizer, bits in (("uniform", 3), ("e8p", 2), ("e8p", 4)):
        lplr.factorize(A, rank=20, bits=bits, quantizer=quantizer, rng=0).to_dense()
        lplr.quantize(A, bits=bits, quantizer=quantizer).to_dense()
    return {"first call": first - start, "all methods": perf_counter() - start}


def child(module: str, function: str, *args: Any, **environment: str) -> Any:
    """What a function of a module returns in a fresh process.

    Parameters
    ----------
    module, function : str
    *args : object
        Whose repr is Python code.
    **environment : str
        Variables to set.
    """
    call = f"m.{function}({', '.join(map(repr, args))})"
    script = f"import json, {module} as m; print(json.dumps({call}))"
    return json.loads(_python(script, **environment))


def _python(script: str, **environment: str) -> str:
    env = os.environ | {"LPLR_NUM_THREADS": str(n_threads())} | environment
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout
