"""The part of ``lplr demo`` that weighs errors: a transformer layer under its Hessian."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PICTURE", "compress_layer", "print_layer"]

PICTURE = "layer-under-hessian.png"
_BITS = 3  # an entry: what naive rounding and feedback alone can have as well


def compress_layer(
    folder: Path, seed: int, quick: bool, tell: Callable[[str], Any]
) -> list[dict[str, Any]]:
    """Five ways to spend three bits an entry on one layer, as files, and a picture.

    Parameters
    ----------
    folder : Path
    seed : int
    quick : bool
    tell : callable
        Called with the name of each method before it runs.

    Returns
    -------
    list of dict
        For each method its errors, stored bits, rank, seconds and file.
    """
    import time

    import numpy as np

    import lplr
    from lplr import datasets
    from lplr.evaluation.plots import draw_history
    from lplr.linalg.hessian import regularize

    layer = datasets.layer("minilm_l2_query")
    W, H = layer.W, layer.H.astype(np.float64)
    damped, _ = regularize(H)
    rank = _rank(W.shape)
    ways: dict[str, Callable[[], Any]] = {
        "naive rounding": lambda: lplr.quantize(W, bits=_BITS, quantizer="lloyd-max"),
        "feedback alone": lambda: lplr.caldera(W, hessian=H, rank=0, q_bits=_BITS, rng=seed),
        "CALDERA, faithful": lambda: lplr.caldera(
            W, hessian=H, rank=rank, mode="faithful", n_iter=3 if quick else 10, rng=seed
        ),
        "CALDERA, default": lambda: lplr.caldera(W, hessian=H, rank=rank, rng=seed),
        "compress": lambda: lplr.compress(W, hessian=H, bits_per_entry=_BITS, rng=seed),
    }
    rows, histories, levels = [], {}, {}
    for name, make in ways.items():
        tell(name)
        start = time.perf_counter()
        f = make()
        seconds = time.perf_counter() - start
        path = f"files/hessian-{name.replace(',', '').replace(' ', '-').lower()}.h5"
        lplr.save(folder / path, f, overwrite=True)
        again = lplr.load(folder / path)
        error = again.relative_error(W, damped)
        rows.append(
            {
                "method": name,
                "error": error,
                "error_raw_hessian": again.relative_error(W, H),
                "error_frobenius": again.relative_error(W),
                "bits_per_entry": again.bits_per_entry,
                "rank": getattr(again, "rank", 0),
                "seconds": seconds,
                "file": path,
            }
        )
        steps = [step["error"] for step in f.meta.get("history", [])]
        if len(steps) > 1:
            histories[name] = steps
        else:
            levels[name] = error
    n, d = W.shape
    title = f"Transformer layer {layer.name}, {n} x {d}, {_BITS} stored bits an entry"
    draw_history(folder / PICTURE, title, histories, levels)
    return rows


def _rank(shape: tuple[int, int]) -> int:
    """The largest rank of 4-bit factors that fits beside a 2-bit backbone."""
    n, d = shape
    # 20 bytes of scale and seeds, 4 of the scale of L, 4 a component.
    return int(((_BITS - 2) * n * d - 8 * 24) // (4 * (n + d) + 32))


def print_layer(rows: list[dict[str, Any]]) -> None:
    """The table of `compress_layer`."""
    from lplr.cli.tables import in_seconds, table

    cells = [
        [
            row["method"],
            f"{row['error']:.4f}",
            f"{row['error_raw_hessian']:.4f}",
            f"{row['error_frobenius']:.4f}",
            f"{row['bits_per_entry']:.4f}",
            str(row["rank"]),
            in_seconds(row["seconds"]),
        ]
        for row in rows
    ]
    print("\ntransformer layer minilm_l2_query under the second moment H of its inputs\n")
    head = ("method", "error, H + 1 %", "error, H", "Frobenius", "stored bits", "rank", "time")
    print(table(head, cells, left=1))
    best = min(rows, key=lambda row: row["error"])
    others = min(row["error"] for row in rows if row is not best)
    print(
        f"\nLeast at {_BITS} bits: {best['method']}, {best['error'] / others:.2f} of the next. "
        "`lplr info` shows how it spent them."
    )
