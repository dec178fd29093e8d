"""What networks compute between their linear layers, in float32 and on one thread.

Arrays are ``(sequences, tokens, width)``; heads are ``(sequences, heads, tokens, head width)``.
Callers compute several sequences at once by `lplr.parallel.run_blocks`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

__all__ = [
    "ACTIVATIONS",
    "FAR",
    "GATES",
    "QUERIES",
    "attention",
    "exponentials",
    "gelu",
    "gelu_tanh",
    "hide",
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
QUERIES = 64  # rows of the attention matrix at a time: they stay in the cache


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
    n, heads, queries, width = q.shape
    shared, keys = k.shape[1:3]
    group = heads // shared
    out = np.empty((n, queries, shared, group, width), q.dtype)
    grouped = q.reshape(n, shared, group, queries, width)
    room = np.empty(group * min(QUERIES, queries) * keys, q.dtype)
    for start, stop, begin, end, hidden in query_blocks(queries, keys, causal, window):
        shape = group * (stop - start), end - begin
        weights = room[: shape[0] * shape[1]].reshape(shape)
        for s, j in np.ndindex(n, shared):
            rows = (grouped[s, j, :, start:stop] * np.float32(scale)).reshape(-1, width)
            np.matmul(rows, k[s, j, begin:end].T, out=weights)
            each = weights.reshape(group, stop - start, end - begin)
            hide(each, hidden, None if mask is None else mask[s, begin:end])
            total = exponentials(weights)
            found = (weights @ v[s, j, begin:end]).reshape(group, -1, width)
            found /= total.reshape(group, -1, 1)
            out[s, start:stop, j] = np.swapaxes(found, 0, 1)
    return out.reshape(n, queries, heads * width)


def query_blocks(
    queries: int, keys: int, causal: bool, window: int | None
) -> Iterator[tuple[int, int, int, int, np.ndarray | None]]:
    """Queries ``start`` to ``stop``, the keys ``begin`` to ``end`` that they see, and `_hidden`."""
    for start in range(0, queries, QUERIES):
        stop = min(start + QUERIES, queries)
        place = keys - queries + start  # position of the first of these queries
        end = place + stop - start if causal else keys
        begin = 0 if window is None else max(0, place - window + 1)
        hidden = _hidden(place, end, begin, window) if causal and stop - start > 1 else None
        yield start, stop, begin, end, hidden


def hide(weights: np.ndarray, hidden: np.ndarray | None, mask: np.ndarray | None) -> None:
    """Minus infinity for keys that a query must not see: the last axis of ``weights``."""
    if hidden is not None:
        weights[..., weights.shape[-1] - hidden.shape[1] :] += hidden
    if mask is not None:
        weights += np.where(mask, np.float32(0), np.float32(-np.inf))


def exponentials(weights: np.ndarray) -> np.ndarray:
    """Replace rows by their exponentials up to a factor, the greatest 1; the sum of each row.

    Of a row that sees no key, as before padding, only zeros are left; its sum is called 1.
    """
    weights -= np.maximum(weights.max(axis=-1, keepdims=True), _LEAST)
    np.exp(weights, out=weights)
    return np.maximum(weights.sum(axis=-1, keepdims=True), 1)


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
