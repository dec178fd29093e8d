"""What networks compute between their linear layers, in float32 and on one thread.

Arrays are ``(sequences, tokens, width)``; heads are ``(sequences, heads, tokens, head width)``.
Callers compute several sequences at once by `lplr.parallel.run_blocks`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "ACTIVATIONS",
    "FAR",
    "GATES",
    "attention",
    "gelu",
    "gelu_tanh",
    "inverse_gate",
    "layer_norm",
    "merge_heads",
    "query_blocks",
    "rms_norm",
    "rotate",
    "silu",
    "split_heads",
]

_LEAST = np.finfo(np.float32).min
_QUERIES, _WEIGHTS = 64, 1 << 17  # of attention at a time: they stay in the cache


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """``gain * x / sqrt(mean(x**2) + eps)`` along the last axis (Zhang and Sennrich, 2019)."""
    power = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    out = x * (1 / np.sqrt(power + np.float32(eps)))
    out *= gain
    return out


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """``gain * (x - mean) / sqrt(variance + eps) + bias`` along the last axis (Ba et al., 2016)."""
    out = rms_norm(x - x.mean(axis=-1, keepdims=True), gain, eps)
    out += bias
    return out


_SLOPE = (8 / np.pi) ** 0.5
_PIECE = 1 << 15  # entries at a time: they stay in the cache
FAR = 5.5  # where the gates below are 0 or 1 to the precision of float32


def silu(x: np.ndarray) -> np.ndarray:
    """``x / (1 + exp(-x))``."""
    return _gated(x, GATES["silu"]())


def gelu(x: np.ndarray) -> np.ndarray:
    """``x Phi(x)``, Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    Within 2e-7 of it, relative to the larger of 1 and |x|.
    """
    return _gated(x, GATES["gelu"]())


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2``, the `gelu` of GPT-2."""
    return _gated(x, GATES["gelu_new"]())


def _gated(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """``x / (1 + exp(-x r(x**2)))``, r the polynomial of these coefficients up to ``FAR``."""
    flat = np.ravel(x)
    out = np.empty_like(flat)
    with np.errstate(over="ignore"):  # infinite where x is far below zero, and x / inf is right
        for start in range(0, flat.size, _PIECE):
            piece, r = flat[start : start + _PIECE], out[start : start + _PIECE]
            inverse_gate(piece, coefficients, r)
            np.divide(piece, r, out=r)
    return out.reshape(x.shape)


def inverse_gate(x: np.ndarray, coefficients: tuple[float, ...], out: np.ndarray) -> None:
    """``1 + exp(-x r(x**2))``."""
    out[...] = -coefficients[-1]
    if len(coefficients) > 1:
        square = np.minimum(x * x, FAR**2)
    for c in coefficients[-2::-1]:
        out *= square
        out -= c
    out *= x
    np.exp(out, out=out)
    out += 1


@functools.cache
def _normal() -> tuple[float, ...]:
    """Coefficients with which the gate is Phi, fitted for the least error of `gelu`.

    With r the gate is ``1 / (1 + exp(-x r))``, so that ``x r = log(Phi(x) / Phi(-x))``.
    """
    from scipy.special import log_ndtr, ndtr

    x = np.linspace(1e-3, FAR, 4000)
    r = (log_ndtr(x) - log_ndtr(-x)) / x
    slope = x**2 * ndtr(x) * ndtr(-x)  # of the result by r
    fit = np.polynomial.Chebyshev.fit(x**2, r, 6, domain=[0, FAR**2], w=slope + 1e-9)
    return tuple(fit.convert(kind=np.polynomial.Polynomial).coef.tolist())


def _tanh() -> tuple[float, ...]:
    return _SLOPE, 0.044715 * _SLOPE


# The coefficients of each activation that is x times a gate.
GATES: dict[str, Callable[[], tuple[float, ...]]] = {
    "silu": lambda: (1.0,),
    "gelu": _normal,
    "gelu_new": _tanh,
    "gelu_pytorch_tanh": _tanh,
}


def split_heads(x: np.ndarray, width: int) -> np.ndarray:
    """(sequences, tokens, heads * width) as (sequences, heads, tokens, width), not copied."""
    return np.swapaxes(x.reshape(*x.shape[:2], -1, width), 1, 2)


def merge_heads(x: np.ndarray) -> np.ndarray:
    """(sequences, heads, tokens, width) as (sequences, tokens, heads * width)."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotary position embedding (Su et al., 2021): entries i and i + half turn by one angle.

    ``x`` is (..., tokens, 2 half), ``cos`` and ``sin`` are (tokens, half).
    """
    half = cos.shape[-1]
    a, b = x[..., :half], x[..., half:]
    out = np.empty(x.shape, x.dtype)
    first, second = out[..., :half], out[..., half:]
    np.multiply(a, cos, out=first)
    first -= b * sin
    np.multiply(b, cos, out=second)
    second += a * sin
    return out


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    scale: float,
    causal: bool,
    mask: np.ndarray | None = None,
    window: int | None = None,
) -> np.ndarray:
    """``softmax(scale q k^T) v`` for each head; several query heads may share one of k and v.

    Parameters
    ----------
    q : ndarray of shape (sequences, heads, queries, width)
    k, v : ndarray of shape (sequences, shared heads, keys, width)
        The queries belong to the last of these positions.
    scale : float
    causal : bool
        Whether a query sees only the keys up to its own position.
    mask : ndarray of shape (sequences, keys), bool, optional
        Which keys may be seen; by default all.
    window : int, optional
        How many keys a query sees, its own included, where it is causal.

    Returns
    -------
    ndarray of shape (sequences, queries, heads * width)
    """
    n, _, queries, width = q.shape
    shared, keys = k.shape[1:3]
    group = q.shape[1] // shared
    out = np.empty((n, queries, shared, group, width), q.dtype)
    grouped = q.reshape(n, shared, group, queries, width)
    blocks = query_blocks(group, shared, queries, keys, causal, window)
    room = np.empty(max(block.size for block in blocks), q.dtype)
    for s, block in itertools.product(range(n), blocks):
        heads, asked, seen = block.heads, block.queries, block.keys
        Q = (grouped[s, heads, :, asked] * np.float32(scale)).reshape(*block.shape[:2], width)
        weights = room[: block.size].reshape(block.shape)
        np.matmul(Q, k[s, heads, seen].swapaxes(1, 2), out=weights)
        total = block.exponentials(weights, None if mask is None else mask[s])
        found = weights @ v[s, heads, seen]
        found /= total
        out[s, asked, heads] = found.reshape(len(found), group, -1, width).transpose(2, 0, 1, 3)
    return out.reshape(n, queries, -1)


class QueryBlock(NamedTuple):
    """Heads of k and v, queries, and the keys that these queries see.

    ``shape`` of their weights is (shared heads, group of heads * queries, keys); ``hidden`` is
    added to those of the last keys.
    """

    heads: slice
    queries: slice
    keys: slice
    shape: tuple[int, int, int]
    hidden: np.ndarray | None

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    def exponentials(self, weights: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Replace rows by their exponentials up to a factor, the greatest 1; the sum of each row.

        Those of keys that must not be seen are zero. Of a row that sees no key, as before padding,
        only zeros are left; its sum is called 1.
        """
        if self.hidden is not None:
            queries, keys = self.hidden.shape
            each = weights.reshape(len(weights), -1, queries, self.shape[2])
            each[..., self.shape[2] - keys :] += self.hidden
        if mask is not None:
            weights += np.where(mask[self.keys], np.float32(0), np.float32(-np.inf))
        weights -= np.maximum(weights.max(axis=-1, keepdims=True), _LEAST)
        np.exp(weights, out=weights)
        return np.maximum(weights.sum(axis=-1, keepdims=True), 1)


def query_blocks(
    group: int, shared: int, queries: int, keys: int, causal: bool, window: int | None
) -> list[QueryBlock]:
    """All heads and queries, in blocks whose weights stay in the cache."""
    blocks = []
    for start in range(0, queries, _QUERIES):
        stop = min(start + _QUERIES, queries)
        place = keys - queries + start  # position of the first of these queries
        end = place + stop - start if causal else keys
        begin = 0 if window is None else max(0, place - window + 1)
        hidden = _hidden(place, end, begin, window) if causal and stop - start > 1 else None
        rows = group * (stop - start)
        step = max(1, _WEIGHTS // (rows * (end - begin)))
        for j in range(0, shared, step):
            shape = min(step, shared - j), rows, end - begin
            at = slice(j, j + step), slice(start, stop), slice(begin, end)
            blocks.append(QueryBlock(*at, shape, hidden))
    return blocks


def _hidden(place: int, end: int, begin: int, window: int | None) -> np.ndarray:
    """What is added to the weights of the last keys for queries at ``place`` to ``end``.

    All queries see the keys before the first of them, unless there is a window.
    """
    query, key = np.arange(place, end)[:, None], np.arange(begin if window else place, end)
    seen = key <= query
    if window is not None:
        seen &= key > query - window
    return np.where(seen, np.float32(0), np.float32(-np.inf))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silu": silu,
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
}
