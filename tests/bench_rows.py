"""Results tables as `lplr bench` writes them, made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.evaluation.gallery import Sample
from lplr.evaluation.significance import mean_error, write_flags

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
QUERIES = 1000
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


def votes(right: int, first: int = 0, queries: int = QUERIES, **known: Any) -> dict[str, Any]:
    """A row of an accuracy: so many queries are right, from the one numbered ``first`` on."""
    flags = np.zeros(queries, bool)
    flags[first : first + right] = True
    about = {"standard_error": mean_error(flags), "queries": queries, "correct": write_flags(flags)}
    share = {"metric": "accuracy", "protocol": "stored database", "value": right / queries}
    return row(**{**share, **about, **known})


def table(seeds: Sequence[int] = (0, 1, 2)) -> list[dict[str, Any]]:
    """Two data sets, nine methods, four budgets; at no budget does a baseline win."""
    rng = np.random.default_rng(0)
    rows = []
    for dataset, (shape, top) in SETS.items():
        about = {"dataset": dataset, "shape": shape}
        if top:
            for protocol in ("stored database", "projected queries"):
                plain = {"method": "uncompressed", "family": "reference", "budget": 32.0}
                rows.append(votes(round(QUERIES * top), **about, **plain, protocol=protocol))
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
                            right = round(QUERIES * top * (1 - 0.1 * error))
                            rows.append(votes(right, **found, protocol=protocol))
    return rows


def attrs() -> dict[str, Any]:
    """What goes with `table`; the keys of JSON are texts."""
    return {
        "default": "feedback",
        "limits": {name: {f"{b:g}": limit(b) for b in BUDGETS} for name in SETS},
        "machine": {"processor": "a processor <of some kind>", "cores": 2},
        "versions": {"lplr": "0.1.0", "numpy": "2.4.0"},
    }


def samples() -> dict[str, list[Sample]]:
    """Images of one data set."""
    ramp = np.add.outer(np.arange(64, dtype=np.uint8), np.arange(64, dtype=np.uint8))
    return {
        "layer": [
            Sample(ramp, "uncompressed", 32.0, 0.0),
            Sample(ramp // 2, "feedback", 1.0, 0.183),
            Sample(ramp // 9, "naive", 1.0, 0.467),
        ]
    }
