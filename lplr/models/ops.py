"""What networks compute between their linear layers, in float32 and on one thread.

Arrays are ``(sequences, tokens, width)``; heads are ``(sequences, heads, tokens, head width)``.
Callers compute several sequences at once by `lplr.parallel.run_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = [
    "attention",
    "gelu",
    "gelu_tanh",
    "layer_norm",
    "rms_norm",
    "rotate",
    "silu",
    "softmax",
    "split_heads",
]

_LEAST, _TINY = np.finfo(np.float32).min, np.finfo(np.float32).tiny
_QUERIES = 128  # rows of the attention matrix at a time: they stay in the cache


def rms_norm(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """``gain * x / sqrt(mean(x**2) + eps)`` along the last axis (Zhang and Sennrich, 2019)."""
    power = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    return x * (1 / np.sqrt(power + np.float32(eps))) * gain


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """``gain * (x - mean) / sqrt(variance + eps) + bias`` along the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return rms_norm(centred, gain, eps) + bias


def silu(x: np.ndarray) -> np.ndarray:
    """``x / (1 + exp(-x))``."""
    out = np.exp(-x)  # infinite for large negative x, where the quotient is the right zero
    out += 1
    return np.divide(x, out, out=out)


def gelu(x: np.ndarray) -> np.ndarray:
    """``x Phi(x)``, Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""
    from scipy.special import ndtr

    return x * ndtr(x)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The approximation of `gelu` by tanh, which GPT-2 uses."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


def softmax(x: np.ndarray) -> np.ndarray:
    """``exp(x)`` over its sum along the last axis."""
    out = x - x.max(axis=-1, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(axis=-1, keepdims=True)
    return out


def split_heads(x: np.ndarray, width: int) -> np.ndarray:
    """(sequences, tokens, heads * width) as (sequences, heads, tokens, width), not copied."""
    return np.swapaxes(x.reshape(*x.shape[:2], -1, width), 1, 2)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotary position embedding (Su et al., 2021): entries i and i + half turn by one angle.

    ``x`` is (..., tokens, head width), ``cos`` and ``sin`` are (tokens, turned / 2); entries past
    ``turned`` stay.
    """
    half = cos.shape[-1]
    a, b = x[..., :half], x[..., half : 2 * half]
    out = x.copy()
    out[..., :half] = a * cos - b * sin
    out[..., half : 2 * half] = b * cos + a * sin
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
    out = np.empty((n, queries, heads, width), q.dtype)
    grouped = q.reshape(n, shared, group, queries, width) * np.float32(scale)
    columns = np.swapaxes(k, 2, 3)
    for start in range(0, queries, _QUERIES):
        stop = min(start + _QUERIES, queries)
        place = keys - queries  # position of the first query
        end = place + stop if causal else keys
        hidden = _hidden(place + start, place + stop, end, window) if causal else None
        for s in range(n):
            rows = np.ascontiguousarray(grouped[s, :, :, start:stop])
            weights = rows.reshape(shared, -1, width) @ columns[s, :, :, :end]
            each = weights.reshape(shared, group, stop - start, end)
            if hidden is not None:
                each += hidden
            if mask is not None:
                each[..., ~mask[s, :end]] = -np.inf
            # A query that sees no key, as before padding, has only zeros.
            weights -= np.maximum(weights.max(axis=-1, keepdims=True), _LEAST)
            np.exp(weights, out=weights)
            total = np.maximum(weights.sum(axis=-1, keepdims=True), _TINY)
            found = weights @ v[s, :, :end]
            found /= total
            by_head = found.reshape(heads, stop - start, width)
            out[s, start:stop] = np.swapaxes(by_head, 0, 1)
    return out.reshape(n, queries, heads * width)


def _hidden(start: int, stop: int, end: int, window: int | None) -> np.ndarray | None:
    """What is added to the weights of keys 0 to ``end`` for queries at ``start`` to ``stop``."""
    if stop - start == 1 and window is None:
        return None
    query, key = np.arange(start, stop)[:, None], np.arange(end)
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
