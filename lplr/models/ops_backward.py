"""The way back through `lplr.models.ops`: gradients by inputs from gradients by outputs.

Everything is computed anew from the inputs of the operation, in their dtype and on one thread.
Entries go through in pieces that stay in the cache.
"""

from __future__ import annotations

import itertools

import numpy as np

from lplr.models import ops

__all__ = [
    "activation_back",
    "attention_back",
    "gated_back",
    "layer_norm_back",
    "rms_norm_back",
    "rotate_back",
]

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


def activation_back(name: str, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Gradient by x of ``ACTIVATIONS[name](x)``."""
    flat, dflat = np.ravel(x), np.ravel(dy)
    dx = np.empty_like(flat)
    for part in _pieces(flat):
        _, slope = _slope(name, flat[part])
        np.multiply(slope, dflat[part], out=dx[part])
    return dx.reshape(x.shape)


def gated_back(
    name: str, gate: np.ndarray, up: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients by both inputs of ``ACTIVATIONS[name](gate) * up``."""
    flat = [np.ravel(x) for x in (gate, up, dy)]
    dgate, dup = np.empty_like(flat[0]), np.empty_like(flat[0])
    for part in _pieces(dup):
        g, u, d = (x[part] for x in flat)
        value, slope = _slope(name, g)
        np.multiply(value, d, out=dup[part])
        slope *= u
        np.multiply(slope, d, out=dgate[part])
    return dgate.reshape(gate.shape), dup.reshape(gate.shape)


def _pieces(flat: np.ndarray) -> list[slice]:
    return [slice(start, start + _PIECE) for start in range(0, flat.size, _PIECE)]


def _slope(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value of an activation and its slope, new.

    Of a gated one, ``x s`` with the gate ``s = 1 / (1 + exp(-t))`` and ``t = x r(x**2)``, see
    `ops.GATES`, the slope is ``s + x s (1 - s) t'``; beyond `ops.FAR`, where r stays what it is,
    t' is r.
    """
    if name == "relu":
        return np.maximum(x, 0), (x > 0).astype(x.dtype)
    coefficients = ops.GATES[name]()
    s = np.empty_like(x)
    with np.errstate(over="ignore"):  # as in the forward pass
        ops.inverse_gate(x, coefficients, s)
    np.divide(1, s, out=s)
    value = x * s
    rest = 1 - s
    rest *= value
    if len(coefficients) > 1:
        with np.errstate(over="ignore"):
            square = x * x
        beyond = square > ops.FAR**2
        np.minimum(square, ops.FAR**2, out=square)
        t = np.full_like(x, (2 * len(coefficients) - 1) * coefficients[-1])
        for i in reversed(range(len(coefficients) - 1)):
            t *= square
            t += (2 * i + 1) * coefficients[i]
        t[beyond] = np.polynomial.polynomial.polyval(ops.FAR**2, coefficients)
        rest *= t
    s += rest
    return value, s


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
    q, k, v
        As of `ops.attention`.
    dout : ndarray of shape (sequences, queries, heads * width)
    scale, causal, mask, window
        As of `ops.attention`.

    Returns
    -------
    dq, dk, dv : ndarray
        Of the shapes of q, k and v.
    """
    n, _, queries, width = q.shape
    shared, keys = k.shape[1:3]
    group = q.shape[1] // shared
    dq = np.empty((n, queries, shared, group, width), q.dtype)
    dk, dv = np.zeros((2, n, shared, keys, width), q.dtype)
    dout = dout.reshape(dq.shape)
    grouped = q.reshape(n, shared, group, queries, width)
    blocks = ops.query_blocks(group, shared, queries, keys, causal, window)
    rooms = np.empty((2, max(block.size for block in blocks)), q.dtype)
    for s, block in itertools.product(range(n), blocks):
        heads, asked, seen = block.heads, block.queries, block.keys
        Q = (grouped[s, heads, :, asked] * np.float32(scale)).reshape(*block.shape[:2], width)
        K, V = k[s, heads, seen], v[s, heads, seen]
        P, S = rooms[:, : block.size].reshape(2, *block.shape)
        np.matmul(Q, K.swapaxes(1, 2), out=P)
        total = block.exponentials(P, None if mask is None else mask[s])
        # What P lacks, one over its row sums, D has.
        D = dout[s, asked, heads].transpose(1, 2, 0, 3).reshape(Q.shape) / total
        dv[s, heads, seen] += P.swapaxes(1, 2) @ D
        np.matmul(D, V.swapaxes(1, 2), out=S)
        S -= np.einsum("hij,hij->hi", P, S)[..., None] / total
        S *= P
        dk[s, heads, seen] += S.swapaxes(1, 2) @ Q
        found = (S @ K).reshape(len(S), group, -1, width)
        np.multiply(found.transpose(2, 0, 1, 3), np.float32(scale), out=dq[s, asked, heads])
    return np.swapaxes(dq.reshape(n, queries, -1, width), 1, 2), dk, dv
