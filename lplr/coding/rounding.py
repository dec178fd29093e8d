"""Rounding a matrix to a codebook, entry by entry or group by group: naive quantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.copies import copied
from lplr.matrices.quantized import Quantized, part
from lplr.parallel import run_blocks
from lplr.progress import counter, parts, until
from lplr.quantizers.base import Codebook
from lplr.quantizers.packing import read_only
from lplr.quantizers.uniform import Uniform

__all__ = [
    "GRANULARITIES",
    "SCALINGS",
    "check_rounding",
    "fitted_affine",
    "half_scale",
    "minmax_affine",
    "round_matrix",
    "rounded_codes",
    "usable_inverse",
]

GRANULARITIES = ("tensor", "row", "column")
SCALINGS = ("minmax", "mse")
_BLOCK = 1 << 16  # entries rounded by one thread at a time
_ROUNDS = 5  # of the alternation between codes and scale
_MANY = 1 << 20  # entries beyond which one scale is searched for on some rows
_SAMPLES = (1 << 18, 1 << 20)  # entries of them, first
_FEWEST = 64  # rows of them
_TYPICAL = 0.02  # by which their variance may differ from that of all

Affine = tuple[np.ndarray, np.ndarray]  # a scale and an offset


def round_matrix(
    A: np.ndarray,
    book: Codebook,
    granularity: str = "tensor",
    scaling: str | None = None,
    rounding: str = "nearest",
    rng: np.random.Generator | None = None,
    *,
    axis: int = 1,
) -> Quantized:
    """Round a float32 matrix; the options are those of `lplr.quantize`.

    The entries of a lattice code word lie along ``axis``, or along 0 if each column has a scale.
    """
    scaling = check_rounding(book, scaling, rounding)
    # From here on each row has a scale, and a lattice group lies along a row.
    turned = granularity == "column" or (axis == 0 and not book.entrywise)
    X = A.T if turned else A
    if turned and granularity != "tensor":
        X = copied(X)  # else a block at a time, where it is used
    offset: np.ndarray | None
    if book.bits == 16:
        scale, offset = half_scale(X), None
        codes = book.encode((X / scale)[..., None])
    else:
        with until(0.0 if scaling == "minmax" else 0.95):
            scale, offset = fitted_affine(X, book, granularity == "tensor", scaling)
        dither = rng if rounding == "dithered" else None
        codes = rounded_codes(X, book, scale, offset, dither)
    if turned:
        codes, scale = copied(codes.T), scale.reshape(1, -1)
        offset = None if offset is None else offset.reshape(1, -1)
    return Quantized(
        shape=A.shape,
        quantizer=book.name,
        bits=book.bits,
        codes=read_only(book.pack(codes, 0 if turned else 1)),
        scale=scale,
        offset=offset,
        axis=0 if turned else 1,
    )


def check_rounding(book: Codebook, scaling: str | None, rounding: str) -> str:
    """The scaling, by default that of the codebook; InputError says what does not go together."""
    scaling = scaling or ("minmax" if book.name in ("uniform", "normal-float") else "mse")
    if scaling == "minmax" and not book.entrywise:
        raise InputError(f"scaling: {book.name!r} has no outermost level; use 'mse'")
    if rounding == "dithered" and (book.name, scaling) != ("uniform", "minmax"):
        raise InputError("rounding: 'dithered' needs quantizer 'uniform' and scaling 'minmax'")
    if rounding == "dithered" and book.bits == 16:
        raise InputError("rounding: 'dithered' needs at most 8 bits, found 16")
    return scaling


def half_scale(X: np.ndarray) -> np.ndarray:
    """The scale of a float16 matrix: 1, or a power of two that brings it into range."""
    largest = float(np.abs(X).max())
    exponent = 0 if largest == 0 or 2.0**-4 <= largest < 2.0**15 else np.frexp(largest)[1] - 1
    return np.full((1, 1), 2.0**exponent, np.float32)


def fitted_affine(
    X: np.ndarray, book: Codebook, tensor: bool, scaling: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale and offset of each row of X, or of all of it: shape (n, 1) or (1, 1)."""
    if scaling == "minmax":
        return minmax_affine(*_extremes(X, tensor), book)
    if not tensor or X.size <= _MANY:
        return _alternated(X, book, tensor, _starts(X, book, tensor), _ROUNDS)[0]
    X = _typical_rows(X)
    starts = _starts(X, book, True)
    with until(0.5):  # what is best after one step goes on alone
        ends = [_alternated(X, book, True, [start], 1) for start in parts(starts)]
    best, _ = max(ends, key=lambda end: float(end[1][0, 0]))
    return _alternated(X, book, True, [best], _ROUNDS)[0]


def _typical_rows(X: np.ndarray) -> np.ndarray:
    """Some rows of X that are spread like all of it: the scale for them is that for all.

    A scale that is 1 % off costs less than 0.1 % of the error, since it is least at the best one.
    Where some rows are much longer than most, or single entries than the others, it is X itself.
    """
    n, d = X.shape
    of_all = _mean_and_variance(X, True)[1].item()
    for size in _SAMPLES:
        count = min(n, max(_FEWEST, -(-size // d)))
        few = X[np.unique(np.linspace(0, n - 1, count).astype(int))]
        if abs(_mean_and_variance(few, True)[1].item() - of_all) <= _TYPICAL * of_all:
            return few
    return X


def minmax_affine(
    low: np.ndarray, high: np.ndarray, book: Codebook
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale and offset whose outermost levels are the extrema, float32 like these."""
    if book.name == "uniform":
        return (high - low) / np.float32(2**book.bits - 1), low + (high - low) / 2
    # The largest magnitude meets the outermost level, as in QLoRA; nothing is shifted.
    return np.maximum(high, -low) / _outermost(book), None


def _starts(X: np.ndarray, book: Codebook, tensor: bool) -> list[Affine]:
    """Scales and offsets from which the search for the best goes on, of each row or of all.

    Three around the scale for normal data, and for scalars the ranges of the extrema, guard against
    poor local optima.
    """
    mean, variance = _mean_and_variance(X, tensor)
    centre = mean.astype(np.float32)
    starts: list[Affine] = [
        ((np.sqrt(variance) * book.gaussian_scale * factor).astype(np.float32), centre)
        for factor in (0.6, 1.0, 1.6)
    ]
    if book.entrywise:
        low, high = _extremes(X, tensor)
        starts.append(((high - low) / (2 * _outermost(book)), low + (high - low) / 2))
        starts.append((np.maximum(high - centre, centre - low) / _outermost(book), centre))
    return starts


def _alternated(
    X: np.ndarray, book: Codebook, tensor: bool, starts: list[Affine], rounds: int
) -> tuple[Affine, np.ndarray]:
    """The best scale and offset that alternation finds from given starts; the energy explained.

    For given codes the best pair is a linear regression, for a given pair the best codes are the
    nearest; alternating lowers the error at each step.
    """
    count = X.size if tensor else X.shape[1]
    mean, _ = _mean_and_variance(X, tensor)
    best = np.zeros(mean.shape, np.float32), mean.astype(np.float32)
    most = np.full(mean.shape, -np.inf)
    for scale, offset in parts(starts):
        for _ in parts(range(rounds)):
            points, squares, products = _sums_of_points(X, book, scale, offset, tensor) / count
            covariance = products - mean * points
            variance = squares - points**2
            usable = variance > 0
            slope = np.divide(covariance, variance, out=np.zeros_like(variance), where=usable)
            # With these codes and their best pair, the error is the variance of X less this.
            gain = slope * covariance
            scale = slope.astype(np.float32)
            offset = (mean - slope * points).astype(np.float32)
            better = gain > most
            best = np.where(better, scale, best[0]), np.where(better, offset, best[1])
            most = np.maximum(gain, most)
    return best, most


def _by_rows(
    X: np.ndarray, values: Callable[[np.ndarray, int, int], Sequence[np.ndarray]], count: int
) -> np.ndarray:
    """``count`` numbers of each row, float64 (count, n, 1), from blocks of rows, in threads."""
    n, d = X.shape
    out = np.empty((count, n, 1))

    def block(i: int, j: int) -> None:
        out[:, i:j, 0] = values(X[i:j], i, j)

    run_blocks(block, n, max(1, _BLOCK // d))
    return out


def _extremes(X: np.ndarray, tensor: bool) -> Affine:
    """The least and the largest entry, float32, of each row or of all."""
    low, high = _by_rows(X, lambda x, i, j: (x.min(axis=1), x.max(axis=1)), 2)
    if tensor:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    return low.astype(np.float32), high.astype(np.float32)


def _mean_and_variance(X: np.ndarray, tensor: bool) -> tuple[np.ndarray, np.ndarray]:
    """Float64, where the square of no float32 overflows or vanishes, of each row or of all."""

    def moments(x: np.ndarray, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        x = x.astype(np.float64)
        mean = x.mean(axis=1)
        return mean, np.maximum(np.einsum("ij,ij->i", x, x) / x.shape[1] - mean**2, 0.0)

    mean, variance = _by_rows(X, moments, 2)
    if tensor:
        middle = mean.mean(keepdims=True)
        mean, variance = middle, (variance + (mean - middle) ** 2).mean(keepdims=True)
    return mean, variance


def _sums_of_points(
    X: np.ndarray, book: Codebook, scale: np.ndarray, offset: np.ndarray, tensor: bool
) -> np.ndarray:
    """Of the points that rows of X are rounded to, in code units, three sums: float64 (3, n, 1).

    They are those of the points, of their squares, and of their products with X; or of all rows.
    """
    inverse = usable_inverse(scale)

    def sums(x: np.ndarray, i: int, j: int) -> tuple[np.ndarray, ...]:
        codes = _nearest(x, book.encode, book.group, part(inverse, i, j), part(offset, i, j))
        q = book.decode(codes).reshape(len(x), -1)[:, : x.shape[1]].astype(np.float64)
        squares, products = (np.einsum("ij,ij->i", y, q) for y in (q, x.astype(np.float64)))
        return q.sum(axis=1), squares, products

    found = _by_rows(X, sums, 3)
    return found.sum(axis=1, keepdims=True) if tensor else found


def _outermost(book: Codebook) -> np.float32:
    """The largest level of a scalar codebook."""
    return book.decode(np.full(1, 2**book.bits - 1, book.dtype))[0, 0]


def usable_inverse(scale: np.ndarray) -> np.ndarray:
    """The inverse of scales; 0 for those that are not usable, of which it would overflow."""
    usable = scale >= np.finfo(np.float32).tiny
    return np.divide(1, scale, out=np.zeros_like(scale), where=usable)


def rounded_codes(
    X: np.ndarray,
    book: Codebook,
    scale: np.ndarray,
    offset: np.ndarray | None,
    dither: np.random.Generator | None = None,
) -> np.ndarray:
    """Code words of the rows of X, shape (n, ceil(d / group)); rows without a usable scale as 0."""
    n, d = X.shape
    group = book.group
    codes = np.empty((n, -(-d // group)), book.dtype)
    inverse = usable_inverse(scale)

    count = counter(n)

    def block(i: int, j: int) -> None:
        shift = None if offset is None else part(offset, i, j)
        codes[i:j] = _nearest(X[i:j], encode, group, part(inverse, i, j), shift)
        count(j - i)

    if dither is None:
        encode = book.encode
        run_blocks(block, n, max(1, _BLOCK // d))
    else:
        # One stream of random numbers, drawn in the order of the rows.
        assert isinstance(book, Uniform)
        encode = partial(book.encode, rng=dither)
        for i in range(0, n, max(1, _BLOCK // d)):
            block(i, min(i + max(1, _BLOCK // d), n))
    return codes


def _nearest(
    x: np.ndarray,
    encode: Callable[[np.ndarray], np.ndarray],
    group: int,
    inverse: np.ndarray,
    offset: np.ndarray | None,
) -> np.ndarray:
    """Code words of some rows, whose last group is filled up with zeros."""
    y = x if offset is None else x - offset
    y = y * inverse
    if y.shape[1] % group:
        y = np.pad(y, ((0, 0), (0, -y.shape[1] % group)))
    return encode(y.reshape(len(y), -1, group))
