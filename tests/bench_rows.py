"""Results tables as `lplr bench` writes them, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.evaluation.pictures import Picture

BUDGETS = (0.5, 1.0, 2.0, 4.0)
# Family, and error over that of the limit.
METHODS = {
    "feedback": ("lplr", 1.1),
    "lplr": ("paper", 2.1),
    "lplr-svd": ("paper", 1.8),
    "direct-svd": ("paper", 1.9),
    "naive": ("naive", 2.8),
    "TruncatedSVD float16": ("sklearn", 2.0),
    "GaussianRandomProjection float16": ("sklearn", 6.0),
    "KMeans sub-vectors": ("sklearn", 1.7),
    "PQ": ("faiss", 1.6),
}
SETS = {"digits": ("1797 x 64", 0.98), "layer": ("384 x 1536", None)}


def limit(budget: float) -> float:
    """A limit for any data set."""
    return 0.2 / (budget + 0.2)


def row(**known: Any) -> dict[str, Any]:
    """One row; by default a value of the default on digits at one bit."""
    base = {
        "dataset": "digits",
        "shape": "1797 x 64",
        "method": "feedback",
        "family": "lplr",
        "budget": 1.0,
        "bits_per_entry": 0.99 * known.get("budget", 1.0),
        "stored_bytes": 14000,
        "seed": 0,
        "metric": "relative error",
        "protocol": None,
        "value": 0.1,
        "seconds": 0.25,
        "peak_mb": 3.5,
        "status": "ok",
        "note": None,
    }
    return base | known


def table(seeds: Sequence[int] = (0, 1, 2)) -> list[dict[str, Any]]:
    """Two data sets, nine methods, four budgets; at no budget does a baseline win."""
    rng = np.random.default_rng(0)
    rows = []
    for dataset, (shape, top) in SETS.items():
        about = {"dataset": dataset, "shape": shape}
        if top:
            for protocol in ("stored database", "projected queries"):
                plain = {"method": "uncompressed", "family": "reference", "budget": 32.0}
                rows.append(row(**about, **plain, metric="accuracy", protocol=protocol, value=top))
        for method, (family, factor) in METHODS.items():
            for budget in BUDGETS:
                asked = {**about, "method": method, "family": family, "budget": budget}
                if method == "naive" and budget < 1:
                    reason = "fewer bits than one per entry"
                    skipped = {"status": "skipped", "note": reason, "metric": None, "value": None}
                    rows.append(row(**asked, **skipped))
                    continue
                for seed in seeds:
                    error = min(factor * limit(budget) * (1 + 0.01 * rng.uniform(-1, 1)), 1.0)
                    found = {**asked, "seed": seed, "seconds": float(rng.uniform(0.1, 2))}
                    rows.append(row(**found, value=error))
                    if top:
                        for protocol in ("stored database", "projected queries"):
                            score = {"metric": "accuracy", "protocol": protocol}
                            rows.append(row(**found, **score, value=top * (1 - 0.1 * error)))
    return rows


def attrs() -> dict[str, Any]:
    """What goes with `table`; the keys of JSON are texts."""
    return {
        "default": "feedback",
        "limits": {name: {f"{b:g}": limit(b) for b in BUDGETS} for name in SETS},
        "machine": {"processor": "a processor <of some kind>", "cores": 2},
        "versions": {"lplr": "0.1.0", "numpy": "2.4.0"},
    }


def pictures() -> dict[str, list[Picture]]:
    """Images of one data set."""
    ramp = np.add.outer(np.linspace(0, 0.5, 64), np.linspace(0, 0.5, 64))
    return {"layer": [Picture(ramp, "original"), Picture(ramp**2, "feedback, 1 bit")]}
