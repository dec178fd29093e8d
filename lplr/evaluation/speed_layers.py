"""What compressing a layer takes: small real ones in rounds, large random ones once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from lplr.evaluation.resources import measured, run_fresh
from lplr.evaluation.speed_rounds import Row, timed
from lplr.parallel import n_threads

__all__ = ["compressed_layers", "large_layers"]

_FAITHFUL: dict[str, Any] = {"mode": "faithful", "n_iter": 1}


def compressed_layers(rounds: int, quick: bool) -> Iterator[Row]:
    """`lplr.compress` and `lplr.caldera` on the layers in data/, or on the first.

    At 2 bits per entry; and of rank 64, Q 2 bits, factors 4 bits. Errors are under H with 1 %
    damping. That of a single faithful iteration is not what ten reach; its time is a tenth of
    theirs.
    """
    import lplr
    from lplr import datasets
    from lplr.linalg.hessian import regularize

    for name in datasets.layer_names()[: 1 if quick else None]:
        layer = datasets.layer(name)
        W, H = layer.W, layer.H.astype(np.float64)
        damped, _ = regularize(H)
        methods: Sequence[tuple[str, str, Callable[..., Any], dict[str, Any], int]] = (
            ("compress", "2 bits", lplr.compress, {"bits_per_entry": 2}, rounds),
            ("CALDERA", "default", lplr.caldera, {}, rounds),
            ("CALDERA", "one faithful iteration", lplr.caldera, _FAITHFUL, 1),
        )
        for benchmark, what, method, options, turns in methods:
            run = partial(method, W, hessian=H, rng=0, **options)
            error = run().relative_error(W, damped)
            matrix = f"{name}, {W.shape[0]} x {W.shape[1]}"
            yield from timed(benchmark, matrix, {what: run}, turns, {what: error})


def large_layers(n: int, d: int) -> Iterator[Row]:
    """Each in a fresh process, once."""
    for method in ("compress", "caldera"):
        yield run_fresh(__name__, "_measure_large", n, d, method)


def _measure_large(n: int, d: int, method: str) -> Row:
    """A large layer compressed to 2 bits, or decomposed with rank 128."""
    import lplr

    rng = np.random.default_rng(0)
    W = rng.standard_normal((n, d), dtype=np.float32)
    # Inputs of decaying variance, neighbours correlated.
    X = rng.standard_normal((2 * d, d), dtype=np.float32) / np.sqrt(1 + np.arange(d))
    X += 0.3 * np.roll(X, 1, axis=1)
    H = X.T @ X / len(X)
    del X
    kinds: dict[str, tuple[str, str, Callable[..., Any], dict[str, Any]]] = {
        "compress": ("compress", "2 bits", lplr.compress, {"bits_per_entry": 2}),
        "caldera": ("CALDERA", "default, rank 128", lplr.caldera, {"rank": 128}),
    }
    benchmark, what, function, options = kinds[method]
    small = {**options, "rank": 8} if "rank" in options else options
    function(W[:64, :64], hessian=H[:64, :64], rng=0, **small)  # libraries, kernels, threads
    f, cost = measured(lambda: function(W, hessian=H, rng=0, **options))
    best = f.meta["plan"] if "plan" in f.meta else min(f.meta["history"], key=lambda s: s["error"])
    return {
        "benchmark": benchmark,
        "matrix": f"random, {n} x {d}",
        "what": what,
        "threads": n_threads(),
        "seconds": cost.seconds,
        "error": best["error"],
        "extra_mb": None if cost.extra_nbytes is None else cost.extra_nbytes / 1e6,
        "input_mb": (4 * n * d + 8 * d * d) / 1e6,
    }
