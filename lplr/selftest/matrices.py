"""Matrices and second moments that break arithmetic which is not careful, drawn by what is wrong
with them.

What is drawn is a handful of small integers, from a seeded generator here and by Hypothesis in the
tests, which then finds the smallest matrix that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

__all__ = ["HESSIANS", "MATRICES", "Draw", "Property", "SeededDraw", "hessian", "matrix"]

_T = TypeVar("_T")
_Make = Callable[[np.random.Generator, int, int], np.ndarray]


class Draw(Protocol):
    """Where the choices of a property come from."""

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""

    def choice(self, values: Sequence[_T]) -> _T:
        """One of the values."""


# What is wrong with what is drawn, or nothing; a folder is there to write into.
Property = Callable[[Draw, Path], str]


class SeededDraw:
    """Choices of a generator, which are kept so that a failure can tell them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self.drawn = rng, list[object]()

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        self.drawn.append(int(self._rng.integers(low, high, endpoint=True)))
        return self.drawn[-1]  # type: ignore[return-value]

    def choice(self, values: Sequence[_T]) -> _T:
        """One of the values."""
        self.drawn.append(values[int(self._rng.integers(len(values)))])
        return self.drawn[-1]  # type: ignore[return-value]


def _normal(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.standard_normal((n, d))


def _with_entry(A: np.ndarray, value: float) -> np.ndarray:
    A[len(A) // 2, A.shape[1] // 2] = value
    return A


def _integers(rng: np.random.Generator, n: int, d: int, dtype: type) -> np.ndarray:
    """Within some thousand of the largest ones, which neither float holds."""
    top = np.iinfo(dtype).max
    return (top - rng.integers(0, 4096, (n, d)).astype(dtype)).astype(dtype)


# What is wrong with a matrix: how it is made. All entries are finite and in range.
MATRICES: dict[str, _Make] = {
    "normal": _normal,
    "float32": lambda rng, n, d: _normal(rng, n, d).astype(np.float32),
    "rank one": lambda rng, n, d: _normal(rng, n, 1) @ _normal(rng, 1, d),
    "rank two": lambda rng, n, d: _normal(rng, n, 2) @ _normal(rng, 2, d),
    "repeated rows": lambda rng, n, d: _normal(rng, 2, d)[rng.integers(0, 2, n)],
    "constant": lambda rng, n, d: np.full((n, d), rng.standard_normal()),
    "zero": lambda rng, n, d: np.zeros((n, d)),
    "zero but for one entry": lambda rng, n, d: _with_entry(np.zeros((n, d)), 1.0),
    "one huge entry": lambda rng, n, d: _with_entry(_normal(rng, n, d), 1e25),
    "a zero column": lambda rng, n, d: _normal(rng, n, d) * (np.arange(d) > 0),
    "entries of all magnitudes": lambda rng, n, d: (
        _normal(rng, n, d) * 10.0 ** rng.uniform(-45, 3, (n, d))
    ),
    "rows of all magnitudes": lambda rng, n, d: (
        _normal(rng, n, d) * 10.0 ** rng.uniform(-45, 3, (n, 1))
    ),
    "columns of all magnitudes": lambda rng, n, d: (
        _normal(rng, n, d) * 10.0 ** rng.uniform(-45, 3, (1, d))
    ),
    "denormal but for one entry": lambda rng, n, d: _with_entry(_normal(rng, n, d) * 1e-42, 1.0),
    "denormal": lambda rng, n, d: _normal(rng, n, d) * 1e-42,
    "near 1e30": lambda rng, n, d: _normal(rng, n, d) * 3e29,
    "near 1e-30": lambda rng, n, d: _normal(rng, n, d) * 3e-30,
    "near 1e38": lambda rng, n, d: _normal(rng, n, d) * 1e38,
    "far from zero": lambda rng, n, d: 1.0 + 1e-5 * _normal(rng, n, d),
    "int64 near 2**63": lambda rng, n, d: _integers(rng, n, d, np.int64),
    "uint64 near 2**64": lambda rng, n, d: _integers(rng, n, d, np.uint64),
    "int32 near 2**31": lambda rng, n, d: _integers(rng, n, d, np.int32),
    "boolean": lambda rng, n, d: rng.random((n, d)) < 0.5,
    "float16": lambda rng, n, d: _normal(rng, n, d).astype(np.float16),
}


def matrix(draw: Draw, least: int = 1, most: int = 12) -> np.ndarray:
    """A hostile matrix of at most ``most`` rows and columns."""
    make = MATRICES[draw.choice(list(MATRICES))]
    n, d, seed = draw.integer(least, most), draw.integer(least, most), draw.integer(0, 999)
    return make(np.random.default_rng(seed), n, d)


def _moment(rng: np.random.Generator, d: int, spectrum: np.ndarray) -> np.ndarray:
    Q = np.linalg.qr(_normal(rng, d, d))[0]
    H = (Q * spectrum) @ Q.T
    return (H + H.T) / 2


# What is wrong with a second moment; the last two are none, which must be said.
HESSIANS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "of inputs": lambda rng, d: np.cov(_normal(rng, d, 3 * d + 2)).reshape(d, d),
    "inputs": lambda rng, d: _normal(rng, 3 * d + 2, d),
    "diagonal": lambda rng, d: rng.uniform(0, 1, d) + 1e-3,
    "diagonal of all magnitudes": lambda rng, d: 10.0 ** rng.uniform(-30, 3, d),
    "one direction": lambda rng, d: np.outer(*2 * [rng.uniform(1, 2, d)]),
    "near-singular": lambda rng, d: _moment(rng, d, np.geomspace(1e-14, 1, d)),
    "barely indefinite": lambda rng, d: _moment(rng, d, np.linspace(-1e-9, 1, d)),
    "near 1e30": lambda rng, d: 1e29 * _moment(rng, d, np.geomspace(1e-3, 1, d)),
    "near 1e-30": lambda rng, d: 1e-27 * _moment(rng, d, np.geomspace(1e-2, 1, d)),
    "one huge entry": lambda rng, d: np.diag([1e25] + [1.0] * (d - 1)),
    "indefinite": lambda rng, d: _moment(rng, d, np.linspace(-0.09, 1, d)),
    "negative": lambda rng, d: -np.eye(d),
}


def hessian(draw: Draw, d: int) -> np.ndarray | None:
    """A hostile second moment of d columns, its diagonal, or inputs; or none."""
    kind = draw.choice(["none", *HESSIANS])
    seed = draw.integer(0, 999)
    return None if kind == "none" else HESSIANS[kind](np.random.default_rng(seed), d)
