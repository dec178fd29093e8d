"""Every public function and product, called by a program that raises floating-point errors."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr

RNG = np.random.default_rng(0)
# Entries of many orders of magnitude, whose products underflow in float32.
A = (RNG.standard_normal((60, 40)) * 10.0 ** RNG.uniform(-30, 3, (60, 40))).astype(np.float32)
TINY = (RNG.standard_normal((60, 40)) * 1e-30).astype(np.float32)
X = RNG.standard_normal((200, 40)) * 10.0 ** RNG.uniform(-8, 0, 40)
H = X.T @ X

MAKERS: dict[str, Callable[[], Any]] = {
    **{
        method: lambda method=method: lplr.factorize(A, rank=5, method=method, rng=0)
        for method in ("feedback", "lplr", "lplr-svd", "direct-svd")
    },
    **{
        sketch: lambda sketch=sketch: lplr.factorize(A, rank=5, method="lplr", sketch=sketch, rng=0)
        for sketch in ("rademacher", "srht", "sparse-sign")
    },
    **{
        f"{quantizer} {bits}": lambda quantizer=quantizer, bits=bits: lplr.quantize(
            A, bits=bits, quantizer=quantizer, granularity="row"
        )
        for quantizer, bits in (
            *(("uniform", 3), ("uniform", 16), ("lloyd-max", 3), ("normal-float", 4)),
            *(("e8p", 3), ("trellis-8", 2)),
        )
    },
    "dithered": lambda: lplr.quantize(A, bits=3, rounding="dithered", rng=0),
    "tiny": lambda: lplr.quantize(TINY, bits=3),
    "searched": lambda: lplr.factorize(A, bits_per_entry=1, rng=0),
    "caldera": lambda: lplr.caldera(A, rank=4, rng=0),
    "caldera for inputs": lambda: lplr.caldera(A, hessian=X, rank=4, rng=0),
    "faithful": lambda: lplr.caldera(A, hessian=X, rank=4, mode="faithful", rng=0),
    "compress": lambda: lplr.compress(A, bits_per_entry=1, rng=0),
    "compress for inputs": lambda: lplr.compress(A, bits_per_entry=2.5, hessian=X, rng=0),
}


def uses(f: Any, folder: Path) -> list[np.ndarray]:
    """What can be done with a packed matrix."""
    x, y = np.logspace(-30, 0, 40), np.logspace(-30, 0, 60)
    lplr.save(folder / "f.h5", f, overwrite=True)
    return [
        f.to_dense(),
        np.float64(f.relative_error(A)),
        np.float64(f.relative_error(A, H)),
        *(f @ x.astype(dtype) for dtype in (np.float32, np.float64)),
        *(f.T @ y.astype(dtype) for dtype in (np.float32, np.float64)),
        f @ np.stack([x, x], axis=1).astype(np.float32),
        f.T @ np.stack([y, y], axis=1).astype(np.float32),
        f.rows(0, 5),
        lplr.load(folder / "f.h5").to_dense(),
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_packed_matrices(name: str, tmp_path: Path) -> None:
    expected = uses(MAKERS[name](), tmp_path)
    with np.errstate(all="raise"):
        found = uses(MAKERS[name](), tmp_path)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_estimator() -> None:
    wide = RNG.standard_normal((60, 40)) * 10.0 ** RNG.uniform(-200, 0, (60, 40))

    def results() -> list[np.ndarray]:
        estimator = lplr.LPLR(4, random_state=0).fit(wide)
        Z = estimator.transform(wide)
        return [estimator.components_, Z, estimator.inverse_transform(Z)]

    expected = results()
    with np.errstate(all="raise"):
        found = results()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def public_modules() -> list[str]:
    """Modules that define what the package, `lplr.datasets` and `lplr.theory` export."""
    names = set()
    for package in (lplr, lplr.datasets, lplr.theory, lplr.theory.bounds):
        for name in package.__all__:
            value = getattr(package, name)
            names.add(value.__name__ if inspect.ismodule(value) else value.__module__)
    return sorted(names)


@pytest.mark.parametrize("module", public_modules())
def test_examples(module: str) -> None:
    with np.errstate(all="raise"):
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.testmod(importlib.import_module(module), optionflags=flags).failed == 0
