"""Small results of every kernel, to compare a process that compiles with one that does not.

``python plain_kernels.py out.npz`` saves them, and the names of the kernels that did not run.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator

import numpy as np

import lplr
import lplr.kernels
from lplr.kernels import bitpack
from lplr.kernels.hadamard import hadamard_columns, hadamard_strided
from lplr.kernels.hashing import weighted_sums
from lplr.kernels.nearest import keep_least
from lplr.kernels.scalar import round_columns
from lplr.linalg.transforms import RandomizedTransform

# The shape of a matrix, and of the part of it that the slow searches go through.
_WHOLE, _PART = (32, 16), (4, 16)
_KINDS = [
    ("uniform", 3, _WHOLE),
    ("normal-float", 4, _WHOLE),
    ("e8p", 2, _WHOLE),
    ("e8p", 3, _WHOLE),
    ("e8p", 4, _WHOLE),
    ("trellis-6", 1, _PART),
    ("trellis-6", 2, (64, 2)),  # whose products take 32 entries at a time
    ("trellis-6", 1.75, (64, 2)),
    ("trellis-6", 2.75, _PART),
    ("trellis-8", 3, _PART),
    ("trellis-8", 4, _PART),
    ("trellis-8", 5.5, _PART),
    ("trellis-10", 2.75, (4, 8)),
]


def results() -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    A = rng.standard_normal(_WHOLE).astype(np.float32)
    A.flags.writeable = False
    for name, bits, (n, d) in _KINDS:
        q = lplr.quantize(np.resize(A, (n, d)), bits=bits, quantizer=name, granularity="column")
        yield f"{name} {bits} codes", np.asarray(q.codes)
        yield f"{name} {bits} matrix", q.to_dense()
        yield f"{name} {bits} product", q @ rng.standard_normal(d).astype(np.float32)
        X = rng.standard_normal((d, 3)).astype(np.float32)
        yield f"{name} {bits} product with several vectors", q @ X
        yield (
            f"{name} {bits} product of the transpose",
            q.T @ rng.standard_normal(n).astype(np.float32),
        )
    H = np.cov(rng.standard_normal((96, 8)), rowvar=False)
    yield "Hessian", lplr.caldera(A[:, :8], hessian=H, rank=3, rng=0).to_dense()
    for sketch in ("srht", "sparse-sign"):
        f = lplr.factorize(A, rank=3, method="lplr", sketch=sketch, bits=8, rng=0)
        yield sketch, f.to_dense()
    words, sums = rng.integers(1 << 63, size=20, dtype=np.uint64), np.empty(4, np.uint64)
    weighted_sums(words, words[:5] | np.uint64(1 << 63), sums)
    assert np.array_equal(sums, words.reshape(4, 5) @ (words[:5] | np.uint64(1 << 63)))
    yield "hash", sums
    codes, values = np.empty((16, 32), np.uint8), np.empty((16, 32), np.float32)
    round_columns(A, *map(np.float32, (0.5, 2.0, 0.5)), 7, codes, values)
    yield "rounded columns", values
    columns, ones = np.empty_like(A), np.ones(32, np.float32)
    hadamard_columns(A, ones, ones, columns, 0, 16)
    yield "columns", columns
    strided = rng.standard_normal((2, 48)).astype(np.float32)
    hadamard_strided(strided, 3, 0, 2)
    yield "strided", strided
    V = RandomizedTransform(48, 0)
    yield "product with a transform", V.undo(V.apply(strided[0])[::-1])
    stream, codes = rng.integers(0, 256, 30, np.uint8), np.empty(16, np.uint8)
    bitpack.unpack(stream, 5, 1, codes)
    yield "unpacked", codes
    values, indices = np.full((32, 5), np.inf), np.zeros((32, 5), np.int64)
    keep_least(A.astype(float), np.ones(16), np.zeros(16), np.arange(16), values, indices)
    yield "nearest", indices
    yield "dithered", np.asarray(lplr.quantize(A, bits=3, rounding="dithered", rng=0).codes)


def kernels() -> dict[object, str]:
    """Name of each kernel that runs as plain Python, by its code."""
    found = {}
    for module in pkgutil.iter_modules(lplr.kernels.__path__, "lplr.kernels."):
        for name, f in vars(importlib.import_module(module.name)).items():
            if hasattr(f, "__wrapped__") and f.__module__ == module.name:
                found[f.__wrapped__.__code__] = f"{module.name}.{name}"
    return found


def main(path: str) -> None:
    ran = set()
    sys.setprofile(lambda frame, event, arg: ran.add(frame.f_code) if event == "call" else None)
    found = dict(results())
    sys.setprofile(None)
    idle = [name for code, name in kernels().items() if code not in ran]
    np.savez(path, idle=np.array(idle, str), **found)


if __name__ == "__main__":
    main(sys.argv[1])
