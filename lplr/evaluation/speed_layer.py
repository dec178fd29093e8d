"""Speed of what a compressed layer is made with and runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.evaluation.speed import best_of, child, peak_rss, threads

__all__ = ["decompositions", "kernels", "large_layer", "products"]


def decompositions(rounds: int) -> dict[str, dict[str, Any]]:
    """`lplr.caldera` on the layers in data/, rank 64, Q 2 bits, factors 4 bits.

    Parameters
    ----------
    rounds : int
        Of the default mode; an outer iteration in faithful mode is timed once.

    Returns
    -------
    dict
        By layer: ``shape``, ``seconds`` and ``error`` (under H with 1 % damping) of the default
        mode, ``faithful_iteration`` in seconds and its ``faithful_error``.

    Notes
    -----
    The error of a single faithful iteration is not what ten reach; its time is a tenth of theirs.
    """
    import lplr
    from lplr import datasets
    from lplr.linalg.hessian import regularize

    found = {}
    for name in datasets.layer_names():
        layer = datasets.layer(name)
        W, H = layer.W, layer.H.astype(np.float64)
        damped, _ = regularize(H)
        kept: dict[str, Any] = {}

        def default() -> None:
            kept["default"] = lplr.caldera(W, hessian=H, rng=0)  # noqa: B023

        def faithful() -> None:
            kept["faithful"] = lplr.caldera(W, hessian=H, mode="faithful", n_iter=1, rng=0)  # noqa: B023

        default()
        seconds = best_of({"default": default}, rounds)["default"]
        iteration = best_of({"faithful": faithful}, 1)["faithful"]
        found[name] = {
            "shape": list(W.shape),
            "seconds": seconds,
            "error": kept["default"].relative_error(W, damped),
            "faithful_iteration": iteration,
            "faithful_error": kept["faithful"].relative_error(W, damped),
        }
    return found


def large_layer(n: int, d: int, rank: int) -> dict[str, float]:
    """Seconds and peak memory of one large decomposition, in a fresh process.

    Parameters
    ----------
    n, d, rank : int

    Returns
    -------
    dict
        ``seconds``; ``extra`` bytes at the peak beyond W and H; ``weights`` bytes of W in float32
        and ``hessian`` bytes of H in float64; ``error`` under the damped H.
    """
    found: dict[str, float] = child(
        __name__, "_measure_large", n, d, rank, MALLOC_MMAP_THRESHOLD_="65536"
    )
    return found


def _measure_large(n: int, d: int, rank: int) -> dict[str, float]:
    from time import perf_counter

    import lplr

    rng = np.random.default_rng(0)
    W = rng.standard_normal((n, d), dtype=np.float32)
    # Inputs of decaying variance, neighbours correlated.
    X = rng.standard_normal((2 * d, d), dtype=np.float32) / np.sqrt(1 + np.arange(d))
    X += 0.3 * np.roll(X, 1, axis=1)
    H = X.T @ X / len(X)
    del X
    lplr.caldera(W[:64, :64], hessian=H[:64, :64], rank=8, rng=0)  # libraries, kernels, threads
    before = peak_rss(reset=True)
    start = perf_counter()
    f = lplr.caldera(W, hessian=H, rank=rank, rng=0)
    return {
        "seconds": perf_counter() - start,
        "extra": peak_rss() - before,
        "weights": 4.0 * n * d,
        "hessian": 8.0 * d * d,
        "error": min(step["error"] for step in f.meta["history"]),
    }


def kernels(size: int, rounds: int) -> dict[str, float]:
    """The lattice search and the Hadamard transform, on one core.

    Parameters
    ----------
    size : int
        Of the square matrix that is transformed.
    rounds : int

    Returns
    -------
    dict
        ``nearest``: weights a second that the 2-bit code finds nearest points for; ``copy``,
        ``rows`` and ``columns``: seconds of copying the matrix and of transforming it.
    """
    from lplr.linalg.transforms import RandomizedTransform
    from lplr.quantizers import get_codebook

    rng = np.random.default_rng(0)
    x = rng.standard_normal((1 << 17, 8), dtype=np.float32)
    A = rng.standard_normal((size, size), dtype=np.float32)
    book, V = get_codebook("e8p", 2), RandomizedTransform(size, 0)
    runs: dict[str, Callable[[], Any]] = {
        "nearest": lambda: book.encode(x),
        "copy": A.copy,
        "rows": lambda: V.apply(A, axis=1),
        "columns": lambda: V.apply(A, axis=0),
    }
    with threads(1):
        best_of(runs, 1)
        seconds = best_of(runs, rounds)
    return {**seconds, "nearest": x.size / seconds["nearest"]}


def products(size: int, rounds: int, counts: tuple[int, ...]) -> list[dict[str, float]]:
    """Products with a packed 2-bit matrix against NumPy's with the dense float32 one.

    Parameters
    ----------
    size : int
    rounds : int
    counts : tuple of int
        Numbers of threads.

    Returns
    -------
    list of dict
        A row for each number of ``threads`` and of right-hand sides (``columns``): seconds
        ``packed`` and ``dense``, and the relative ``error`` that the code makes in the result.
    """
    import lplr

    rng = np.random.default_rng(0)
    A = rng.standard_normal((size, size), dtype=np.float32)
    q = lplr.quantize(A, bits=2, quantizer="e8p", granularity="column")
    rows = []
    for count in counts:
        for columns in (1, 64):
            X = rng.standard_normal((size, columns), dtype=np.float32)
            x = X[:, 0].copy() if columns == 1 else X
            runs: dict[str, Callable[[], Any]] = {
                "packed": lambda x=x: q @ x,  # type: ignore[misc]
                "dense": lambda x=x: A @ x,  # type: ignore[misc]
            }
            with threads(count):
                best_of(runs, 2)
                seconds = best_of(runs, rounds)
            error = np.linalg.norm(q @ x - A @ x) / np.linalg.norm(A @ x)
            rows.append({"threads": count, "columns": columns, **seconds, "error": float(error)})
    return rows
