"""The way back through `lplr.models.ops`: gradients by inputs from gradients by outputs.

Everything is computed anew from the inputs of the operation, in their dtype and on one thread.
Entries go through in pieces that stay in the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from lplr.models import ops

__all__ = ["SLOPES", "attention_back", "layer_norm_back", "rms_norm_back", "rotate_back"]

_PIECE = 1 << 15  # entries at a time


def rms_norm_back(
    x: np.ndarray, gain: np.ndarray, eps: float, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients by x and by the gain, the latter summed over all rows.

    With ``r = 1 / sqrt(mean(x**2) + eps)`` and ``z = gain dy`` that by x is
    ``r (z - r**2 x mean(z x))``.
    """
    width = x.shape[-1]
    flat, dflat = x.reshape(-1, width), dy.reshape(-1, width)
    dx, dgain = np.empty_like(flat), np.zeros(width, x.dtype)
    step = max(1, _PIECE // width)
    for start in range(0, len(flat), step):
        rows, d = flat[start : start + step], dflat[start : start + step]
        out = dx[start : start + step]
        power = np.einsum("ij,ij->i", rows, rows)[:, None] / np.float32(width)
        r = 1 / np.sqrt(power + np.float32(eps))
        unit = rows * r
        np.multiply(d, unit, out=out)
        dgain += out.sum(axis=0)
        np.multiply(d, gain, out=out)
        unit *= np.einsum("ij,ij->i", out, unit)[:, None] / np.float32(width)
        out -= unit
        out *= r
    return dx.reshape(x.shape), dgain


def layer_norm_back(
    x: np.ndarray, gain: np.ndarray, eps: float, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients by x, by the gain and by the bias, the latter two summed over all rows."""
    dx, dgain = rms_norm_back(x - x.mean(axis=-1, keepdims=True), gain, eps, dy)
    dx -= dx.mean(axis=-1, keepdims=True)
    return dx, dgain, dy.reshape(-1, dy.shape[-1]).sum(axis=0)


def _gated_slope(x: np.ndarray, coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """``x s``, s being the gate, and its slope ``s + x s (1 - s) t'``.

    The gate is ``1 / (1 + exp(-t))`` with ``t = x r(x**2)``, see `ops.GATES`; t' is the derivative
    of that polynomial, and beyond `ops.FAR`, where r stays what it is, r.
    """
    flat = np.ravel(x)
    value, slope = np.empty_like(flat), np.empty_like(flat)
    derivative = [(2 * i + 1) * c for i, c in enumerate(coefficients)]
    far = np.polynomial.polynomial.polyval(ops.FAR**2, coefficients)
    with np.errstate(over="ignore"):  # as in the forward pass
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            out, s = value[start : start + _PIECE], slope[start : start + _PIECE]
            ops.inverse_gate(piece, coefficients, s)
            np.divide(1, s, out=s)
            np.multiply(piece, s, out=out)
            rest = out - out * s
            if len(coefficients) > 1:
                square = piece * piece
                beyond = square > ops.FAR**2
                np.minimum(square, ops.FAR**2, out=square)
                t = np.full_like(piece, derivative[-1])
                for c in derivative[-2::-1]:
                    t *= square
                    t += c
                t[beyond] = far
                rest *= t
            s += rest
    return value.reshape(x.shape), slope.reshape(x.shape)


def _relu_slope(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(x, 0), (x > 0).astype(x.dtype)


# The value of each of `ops.ACTIVATIONS` and its slope.
SLOPES: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    name: functools.partial(lambda of, x: _gated_slope(x, of()), of)
    for name, of in ops.GATES.items()
} | {"relu": _relu_slope}


def rotate_back(dy: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Gradient by x of ``rotate(x, cos, sin)``: the angles are undone."""
    return ops.rotate(dy, cos, -sin)


def attention_back(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    dout: np.ndarray,
    *,
    scale: float,
    causal: bool,
    mask: np.ndarray | None = None,
    window: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients by q, k and v of `ops.attention`, whose weights are computed anew.

    With weights P and the gradient D of the outputs, ``dv = P^T D``, and the gradient of the
    weights before the softmax is ``S = P (D v^T - rowsum(P (D v^T)))``, so that
    ``dq = scale S k`` and ``dk = scale S^T q``.

    Parameters
    ----------
    q, k, v, scale, causal, mask, window
        As of `ops.attention`.
    dout : ndarray of shape (sequences, queries, heads * width)

    Returns
    -------
    dq, dk, dv : ndarray
        Of the shapes of q, k and v.
    """
    n, heads, queries, width = q.shape
    shared, keys = k.shape[1:3]
    group = heads // shared
    dq = np.empty((n, queries, shared, group, width), q.dtype)
    dk, dv = (np.zeros((n, keys, shared, width), q.dtype) for _ in range(2))
    dout = dout.reshape(dq.shape)
    grouped = q.reshape(n, shared, group, queries, width)
    for start, stop, begin, end, hidden in ops.query_blocks(queries, keys, causal, window):
        seen = slice(begin, end)
        for s, j in np.ndindex(n, shared):
            rows = (grouped[s, j, :, start:stop] * np.float32(scale)).reshape(-1, width)
            weights = rows @ k[s, j, seen].T
            each = weights.reshape(group, stop - start, end - begin)
            ops.hide(each, hidden, None if mask is None else mask[s, seen])
            inverse = ops.exponentials(weights)
            np.divide(1, inverse, out=inverse)
            d = np.swapaxes(dout[s, start:stop, j], 0, 1).reshape(-1, width) * inverse
            dv[s, seen, j] += weights.T @ d
            change = d @ v[s, j, seen].T
            change -= np.einsum("ij,ij->i", weights, change)[:, None] * inverse
            change *= weights
            by_q = change @ k[s, j, seen]
            by_q *= np.float32(scale)
            dq[s, start:stop, j] = np.swapaxes(by_q.reshape(group, -1, width), 0, 1)
            dk[s, seen, j] += change.T @ rows
    dq = dq.reshape(n, queries, heads, width)
    return np.swapaxes(dq, 1, 2), np.swapaxes(dk, 1, 2), np.swapaxes(dv, 1, 2)
