"""Arguments of the wrong kind, or of the wrong size: a typed error, or a result of numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import lplr
from lplr.selftest.matrices import Draw, Property

__all__ = ["ARGUMENTS"]

# No number among them is so large that a call takes as long as it was asked to.
_VALUES: tuple[Any, ...] = (
    0, -1, 1, 3, 10**30, 2**63, -(2**63), 2.0, 2.5, 1e300, 1e-300, np.nan, np.inf, -np.inf,
    True, False, None, "", "2", "x", "\0", b"2", 2j, Decimal(2), Decimal("NaN"), Fraction(5, 2),
    np.int8(3), np.float16(2), np.float64("nan"), np.uint64(2**64 - 1), np.bool_(True),
    np.array(2), np.array([2]), np.array([2, 3]), [], [2], (2, 3), (2, 3, 4), [None], {}, set(),
    float, object(), range(3), np.ma.masked, np.datetime64("2020-01-01"), ("uniform", "x"),
)  # fmt: skip
_MATRICES: tuple[Any, ...] = (
    None, 3, "nowhere.npy", b"x", np.float64(3), np.ones(4), np.zeros((2, 2, 2)), np.zeros((0, 3)),
    [[1, 2], [3]], [[1, [2]]], [["a"]], [[1, None]], [[10**400]], np.ones((8, 8), complex),
    np.full((8, 8), np.nan), np.full((8, 8), 1e300),
    np.zeros((8, 8), "M8[s]"), np.ma.array(np.ones((8, 8)), mask=np.eye(8) > 0),
    np.zeros((8, 8)), -np.eye(8), np.triu(np.ones((8, 8))), np.ones((8, 8)), np.eye(7),
    1e-30 * np.eye(8), 1e30 * np.eye(8), np.eye(8, dtype=np.float16), np.eye(8) > 0,
    np.full((8, 8), 2**64 - 1, np.uint64),
)  # fmt: skip
_OF_MATRICES = ("A", "W", "X", "hessian", "output_hessian", "rows", "queries")


@cache
def _calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """A function, and arguments that it takes."""
    A = np.random.default_rng(0).standard_normal((8, 8))
    y = np.arange(8) % 2
    f = lplr.factorize(A, rank=2, rng=0)
    q = lplr.quantize(A, bits=3)
    parts = {name: getattr(q, name) for name in ("shape", "quantizer", "bits", "codes", "scale")}
    budget = {"bits_per_entry": 30.0, "effort": "fast", "rng": 0}
    weights = {"hessian": None, "output_hessian": None}
    names = {"quantizer": None, "sketch": "gaussian", "rounding": "nearest", "normalize": False}
    return {
        "quantize": (
            lplr.quantize,
            {"A": A, "bits": 3, "quantizer": "uniform", "granularity": "tensor", "scaling": None,
             "rounding": "nearest", "rng": None, "memory_limit": None},
        ),
        "factorize": (
            lplr.factorize, {"A": A, "rank": 2, "bits": 4, "n_oversamples": None, "rng": 0},
        ),
        "LPLR": (lplr.factorize, {"A": A, "rank": 2, "method": "lplr", **names, "rng": 0}),
        "factorize with a budget": (lplr.factorize, {"A": A, **budget, "memory_limit": None}),
        "compress": (lplr.compress, {"A": A, **budget, **weights, "memory_limit": None}),
        "predictions": (lplr.predictions, {"A": A, **budget, **weights}),
        "caldera": (
            lplr.caldera,
            {"W": A, "rank": 2, "q_bits": 2, "factor_bits": 4, "damping": 0.01, **weights,
             "incoherence": True, "quantizer": None, "rng": 0, "callback": None},
        ),
        "caldera as in the paper": (
            lplr.caldera,
            {"W": A, "rank": 2, "mode": "faithful", "n_iter": 1, "hessian": None, "rng": 0},
        ),
        "encode": (lplr.encode, {"f": f, "rows": A[:3], "hessian": None}),
        "search": (lplr.search, {"f": f, "queries": A[:2], "k": 2, "metric": "cosine"}),
        "regularize": (lplr.regularize, {"hessian": A.T @ A, "damping": 0.1, "columns": None}),
        "relative_error": (f.relative_error, {"A": A, **weights}),
        "scaled": (f.scaled, {"factor": 2.0}),
        "rows": (f.rows, {"start": 0, "stop": 3}),
        "to_dense": (f.to_dense, {"rows": None}),
        "LowRank": (lplr.LowRank, {"left": f.left, "right": f.right, "shift": 0.0}),
        "Quantized": (lplr.Quantized, {**parts, "offset": q.offset, "axis": q.axis}),
        "Stacked": (lplr.Stacked, {"blocks": (f.left, f.left), "axis": 0}),
        "RowParts": (lplr.RowParts, {"blocks": (q, q)}),
        "transform": (lplr.RandomizedTransform, {"n": 8, "seed": 3, "block": None}),
        "estimator": (
            lambda X, **options: lplr.LPLR(**options).fit(X).components_,
            {"X": A, "n_components": 2, "bits": 4, "random_state": 0, "memory_limit": None},
        ),
        "classifier": (
            lambda X, **options: lplr.KNeighborsClassifier(**options).fit(X, y).predict(X),
            {"X": A, "n_neighbors": 3, "weights": "uniform", "bits_per_entry": None},
        ),
    }  # fmt: skip


def wrong_kind(draw: Draw, folder: Path) -> str:
    """One argument of one function is something else."""
    call, arguments = _calls()[draw.choice(list(_calls()))]
    name = draw.choice(list(arguments))
    value = draw.choice(_MATRICES if name in _OF_MATRICES else _VALUES)
    found = call(**{**arguments, name: value})
    dense = found.to_dense() if isinstance(found, lplr.PackedMatrix) else found
    if isinstance(dense, np.ndarray) and dense.dtype.kind == "f" and not np.isfinite(dense).all():
        return f"{name} of {value!r} leads to what is not finite"
    return ""


ARGUMENTS: dict[str, Property] = {"an argument of another kind": wrong_kind}
