"""Speed and memory, each beside the error that it buys, as rows of one table.

Competitors take turns in one process, kernels compiled and threads fixed, after a round that does
not count; the median of the others does. Memory, imports and the first
compilation are measured in fresh processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from lplr.evaluation.resources import measured, run_fresh, run_script
from lplr.evaluation.speed_layers import compressed_layers, large_layers
from lplr.evaluation.speed_rounds import Row, timed
from lplr.parallel import n_threads
from lplr.progress import Progress, parts, tracked, unheard
from lplr.storage.temporary import temporary_folder

__all__ = ["COLUMNS", "measure_speed"]

COLUMNS = (
    "benchmark",
    "matrix",
    "what",
    "threads",
    "seconds",
    "ratio",  # of the seconds, to those of the row of this matrix whose ratio is 1
    "per_second",  # entries, in the benchmarks of one loop
    "error",
    "extra_mb",  # memory beyond the input
    "input_mb",
)
_RANK = 90
_ROUNDS = 5


def _plan(quick: bool) -> list[tuple[str, float, Callable[[], Iterator[Row]]]]:
    """Label, rough seconds, and what to do."""
    # Rows, columns, and roughly the seconds of a round.
    cases = [(500, 784, 0.5)] if quick else [(10000, 784, 0.8), (8192, 4096, 3.5)]
    rounds, size = (2, 1024) if quick else (_ROUNDS, 4096)
    plan: list[tuple[str, float, Callable[[], Iterator[Row]]]] = []
    for n, d, cost in cases:
        work = rounds * cost + 6.0
        plan.append((f"{n} x {d}", work, partial(_factorizations, n, d, rounds)))
    plan += [
        ("decoding", 4.0, lambda: _decoding(size // 2, rounds)),
        ("kernels", 3.0, lambda: _kernels(size, rounds)),
        ("packed products", 3.0 if quick else 25.0, lambda: _products(size, 5 * rounds)),
        ("layers", 3.0 if quick else 30.0, lambda: compressed_layers(rounds, quick)),
        ("imports", 4.0, lambda: _imports(rounds)),
    ]
    if not quick:
        plan += [
            ("a layer of 4096 x 4096", 60.0, lambda: large_layers(4096, 4096)),
            ("compilation", 18.0, _cold_start),
        ]
    return plan


def measure_speed(quick: bool, *, progress: Progress = False) -> list[Row]:
    """All figures of ``lplr bench speed``.

    Parameters
    ----------
    quick : bool
        One small matrix, one layer, two rounds, no compilation.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    list of dict
        With the keys `COLUMNS`; None where something was not measured.
    """
    plan = _plan(quick)
    rows = []
    with tracked(progress, "speed"):
        for _, _, benchmark in parts(plan, [work for _, work, _ in plan], lambda part: part[0]):
            with unheard():  # nobody talks while it is measured
                rows += [dict.fromkeys(COLUMNS) | row for row in benchmark()]
    return rows


def _matrix(n: int, d: int) -> np.ndarray:
    """Fashion-MNIST where it has this shape and is installed; else low rank plus noise, float32.

    That is ``G_1 diag(1/k) G_2`` of at most 300 components, G_1 and G_2 Gaussian.
    """
    from lplr import datasets
    from lplr.exceptions import InputError

    if d == 784:
        with suppress(InputError):
            return datasets.fashion_mnist(n=n).images
    rng = np.random.default_rng(0)
    k = min(300, n, d)
    left = rng.standard_normal((n, k), dtype=np.float32) / np.arange(1, k + 1, dtype=np.float32)
    A = left @ rng.standard_normal((k, d), dtype=np.float32)
    A += np.float32(1e-2) * rng.standard_normal((n, d), dtype=np.float32)
    return A


def _factorize(A: np.ndarray, method: str) -> Any:
    import lplr

    bits = 8 if method == "lplr" else 4
    rank = min(_RANK, *A.shape)
    return lplr.factorize(A, rank=rank, bits=bits, method=method, rng=0)


def _factorizations(n: int, d: int, rounds: int) -> Iterator[Row]:
    """Factorizations of one rank, beside scikit-learn's and the two products of a sketch."""
    from sklearn.utils.extmath import randomized_svd

    from lplr.evaluation.errors import relative_error

    A = _matrix(n, d)
    S = np.random.default_rng(0).standard_normal((d, _RANK), dtype=np.float32)
    runs: dict[str, Callable[[], Any]] = {
        "lplr": lambda: _factorize(A, "lplr"),
        "feedback": lambda: _factorize(A, "feedback"),
        "randomized_svd": lambda: randomized_svd(A, _RANK, random_state=0),
        "two products": lambda: (A @ S).T @ A,
    }
    U, s, Vt = runs["randomized_svd"]()
    errors = {
        **{name: runs[name]().relative_error(A) for name in ("lplr", "feedback")},
        "randomized_svd": relative_error(A, (U * s) @ Vt),
    }
    memory = {
        name: run_fresh(__name__, "_factorization_memory", n, d, name)
        for name in runs.keys() & {"lplr", "feedback"}
    }
    for row in timed("factorization", f"{n} x {d}", runs, rounds, errors, "randomized_svd"):
        extra = memory.get(row["what"])
        yield {**row, "extra_mb": extra, "input_mb": A.nbytes / 1e6}


def _factorization_memory(n: int, d: int, method: str) -> float | None:
    """In a fresh process, megabytes beyond the matrix."""
    A = _matrix(n, d)
    small = np.random.default_rng(0).standard_normal((256, 128), dtype=np.float32)
    _factorize(small, method)  # libraries, kernels, threads
    _, cost = measured(lambda: _factorize(A, method))
    return None if cost.extra_nbytes is None else cost.extra_nbytes / 1e6


def _decoding(size: int, rounds: int) -> Iterator[Row]:
    """Unpacking and dequantizing, on one core."""
    import lplr

    A = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    codes = [("uniform", 2), ("uniform", 3), ("uniform", 4), ("uniform", 8), ("e8p", 2)]
    made = {f"{q}, {b} bits": lplr.quantize(A, bits=b, quantizer=q) for q, b in codes}
    runs = {name: q.to_dense for name, q in made.items()}
    errors = {name: q.relative_error(A) for name, q in made.items()}
    for row in timed("decoding", f"{size} x {size}", runs, rounds, errors, count=1):
        yield {**row, "per_second": A.size / row["seconds"]}


def _kernels(size: int, rounds: int) -> Iterator[Row]:
    """The lattice search and the Hadamard transform, beside a copy of the matrix, on one core."""
    from lplr.linalg.transforms import RandomizedTransform
    from lplr.quantizers import get_codebook

    rng = np.random.default_rng(0)
    A = rng.standard_normal((size, size), dtype=np.float32)
    x = A.reshape(-1, 8)
    book, V = get_codebook("e8p", 2), RandomizedTransform(size, 0)
    runs: dict[str, Callable[[], Any]] = {
        "nearest points of the 2-bit lattice": lambda: book.encode(x),
        "Hadamard of the rows": lambda: V.apply(A, axis=1),
        "Hadamard of the columns": lambda: V.apply(A, axis=0),
        "copy": A.copy,
    }
    for row in timed("kernels", f"{size} x {size}", runs, rounds, {}, "copy", count=1):
        yield {**row, "per_second": A.size / row["seconds"]}


def _products(size: int, rounds: int) -> Iterator[Row]:
    """Products with packed matrices against NumPy's with the dense float32 one."""
    import lplr

    A = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    made = {
        f"{kind}, {bits} bits": lplr.quantize(A, bits=bits, quantizer=kind, granularity="column")
        for kind in ("e8p", "trellis")
        for bits in (2, 3, 4)
    }
    name = "trellis, 2 bits"
    rotated = {f"{name}, + rank 128, rotated": _rotated(made[name], min(128, size // 8))}
    for count in dict.fromkeys((1, n_threads())):
        for columns in (1, 8, 64):
            X = np.random.default_rng(1).standard_normal((size, columns), dtype=np.float32)
            x = X[:, 0].copy() if columns == 1 else X
            expected = A @ x
            errors: dict[str, float | None] = {
                name: float(np.linalg.norm(q @ x - expected) / np.linalg.norm(expected))
                for name, q in made.items()
            }
            runs: dict[str, Callable[[], Any]] = {
                name: partial(q.__matmul__, x) for name, q in (made | rotated).items()
            }
            runs = {"dense": partial(np.matmul, A, x), **runs}
            name = f"{size} x {size} times {columns}"
            turns = rounds if columns == 1 else rounds // 4 or 1
            yield from timed("products", name, runs, turns, errors, "dense", count)


def _rotated(Q: Any, rank: int) -> Any:
    """Q + L R between two random transforms; L and R are random, in trellis codes of 4 bits."""
    import lplr
    from lplr.linalg.transforms import RandomizedTransform

    (n, d), rng = Q.shape, np.random.default_rng(2)
    L, R = (rng.standard_normal(shape, dtype=np.float32) for shape in ((n, rank), (rank, d)))
    factors = [
        lplr.quantize(factor, bits=4, quantizer="trellis", granularity=one)
        for factor, one in ((L, "column"), (R, "row"))
    ]
    transforms = RandomizedTransform(n, 1), RandomizedTransform(d, 2)
    return lplr.QPlusLowRank(Q, lplr.LowRank(*factors), *transforms)


def _imports(rounds: int) -> Iterator[Row]:
    """In fresh processes; the first use of a function imports what it needs."""
    script = (
        "from time import perf_counter as t; a = t(); import lplr; b = t(); lplr.factorize; "
        "print([b - a, t() - b])"
    )
    found = np.min([json.loads(run_script(script)) for _ in range(rounds)], axis=0)
    for what, seconds in zip(("import lplr", "lplr.factorize"), found, strict=True):
        yield {"benchmark": "fresh process", "what": what, "seconds": float(seconds)}


def _cold_start() -> Iterator[Row]:
    with temporary_folder() as folder:
        found = run_fresh(__name__, "_measure_cold_start", NUMBA_CACHE_DIR=str(folder))
    for what, seconds in found.items():
        yield {"benchmark": "no kernel compiled", "what": what, "seconds": seconds}


def _measure_cold_start() -> dict[str, float]:
    """`factorize` as it is by default, and then all methods and codebooks, with compilation."""
    import lplr

    A = np.random.default_rng(0).standard_normal((300, 200))

    def everything() -> None:
        for method in ("lplr", "lplr-svd", "direct-svd"):
            lplr.factorize(A, rank=20, bits=4, method=method, rng=0).to_dense()
        for quantizer, bits in (("uniform", 3), ("e8p", 2), ("e8p", 4)):
            lplr.factorize(A, rank=20, bits=bits, quantizer=quantizer, rng=0).to_dense()
            lplr.quantize(A, bits=bits, quantizer=quantizer).to_dense()

    first = measured(lambda: lplr.factorize(A, bits_per_entry=2, rng=0).to_dense())[1].seconds
    return {"first call": first, "all methods": first + measured(everything)[1].seconds}
