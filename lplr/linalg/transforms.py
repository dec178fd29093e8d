"""Randomized orthogonal transforms that spread a matrix evenly over its entries, for any size.

``V = T diag(s)``, with random signs s and a fixed orthogonal T of entries of size O(1/sqrt(n)):

* ``n = 2^p`` or ``n = b 2^p`` with a Paley block of order b <= 64 (12, 20, 28, 36, 44, 60):
  the Hadamard matrix ``T = (H_{2^p} kron P_b) / sqrt(n)``, every entry ±1/sqrt(n);
* any other n: the Hartley matrix ``T[i, j] = (cos + sin)(2 pi i j / n) / sqrt(n)``, which is
  Re - Im of the Fourier transform, symmetric, its own inverse, with entries <= sqrt(2/n).

Both cost O(n log n) per vector. With a block size b, V is block diagonal: ``n // b`` such matrices,
the last one larger by the rest. Then b entries mix, not all n, and can be undone by themselves.

Incoherence processing is that of QuIP# (arXiv 2402.04396) and
CALDERA (arXiv 2405.18886, section 2); unlike theirs, there is one factor for every size, and no
small random rotation, which is worse on Hessians with outlier channels.

Notes
-----
What a decoder has to know, besides the above:

*Signs.* Bit ``i % 64`` (least significant first) of word ``i // 64`` of the Philox-4x64-10
stream with key (seed, 0) and counters (1, 0, 0, 0), (2, 0, 0, 0) ..., as
``numpy.random.Philox(key=seed).random_raw`` returns it; a set bit is the sign -1. The streams of
NumPy's bit generators never change (NEP 19).

*Sylvester.* ``H[i, j] = (-1)^popcount(i & j)``.

*Sizes and blocks.* `lplr.linalg.paley` gives b and P_b. The blocks of a block-diagonal V share the
stream of n signs; all but the last have the size b, and there is one block where n < 2 b.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.paley import block_order, paley
from lplr.parallel import run_blocks
from lplr.validation import check_integer, check_rng

__all__ = ["RandomizedTransform"]

_TILE = 1 << 19  # entries a thread handles at a time: they stay in the second-level cache
_FEW_COLUMNS = 16
_SEEDS = 1 << 63  # below 2^63, so that every container's signed integer holds a seed


@dataclass(frozen=True)
class RandomizedTransform:
    """A random orthogonal matrix V of size n that is applied in O(n log n) and stored as a seed.

    Parameters
    ----------
    n : int
        Size, at least 1.
    seed : int
        In ``[0, 2**63)``; the signs follow from it.
    block : int, optional
        Size of the blocks of a block-diagonal V; by default V is one block.

    Raises
    ------
    InputError
        If n, seed or block is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.linalg.transforms import RandomizedTransform
    >>> V = RandomizedTransform(12, seed=3)
    >>> x = np.eye(12)[0]
    >>> np.allclose(abs(V.apply(x)), 1 / np.sqrt(12))
    True
    >>> np.allclose(V.undo(V.apply(x)), x)
    True
    """

    n: int
    seed: int
    block: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_integer(self.n, "n", 1))
        object.__setattr__(self, "seed", check_integer(self.seed, "seed", 0, _SEEDS - 1))
        if self.block is not None:
            object.__setattr__(self, "block", check_integer(self.block, "block", 1))

    @classmethod
    def sample(
        cls, n: int, rng: int | np.random.Generator | None = None, block: int | None = None
    ) -> RandomizedTransform:
        """Draw a transform of size n.

        Parameters
        ----------
        n : int
        rng : int, Generator or None
        block : int, optional
            As of the class.

        Returns
        -------
        RandomizedTransform

        Examples
        --------
        >>> RandomizedTransform.sample(384, rng=0).n
        384
        """
        return cls(n, int(check_rng(rng).integers(_SEEDS)), block)

    @property
    def kind(self) -> str:
        """``"hadamard"`` (entries ±1/sqrt(n) in each block of size n) or ``"hartley"``."""
        return "hadamard" if all(map(block_order, np.diff(self._edges).tolist())) else "hartley"

    @cached_property
    def signs(self) -> np.ndarray:
        """The diagonal s: read-only int8 array of shape (n,), each +1 or -1."""
        words = np.random.Philox(key=self.seed).random_raw(-(-self.n // 64))
        octets = words.astype("<u8").view(np.uint8)
        bits = np.unpackbits(octets, count=self.n, bitorder="little")
        signs = 1 - 2 * bits.astype(np.int8)
        signs.flags.writeable = False
        return signs

    @property
    def nbytes(self) -> int:
        """What a decoder needs: the size, the seed and the block size if any, 8 bytes each."""
        return 16 if self.block is None else 24

    def apply(self, X: np.ndarray, axis: int = 0) -> np.ndarray:
        """``V @ X`` for ``axis=0``, ``X @ V.T`` for ``axis=1``.

        Parameters
        ----------
        X : ndarray of shape (n,), (n, d) for axis 0 or (r, n) for axis 1
            float32 and float64 are kept; any other real dtype becomes float64.
        axis : {0, 1, -1}
            The axis that is transformed.

        Returns
        -------
        ndarray of the shape of X, C-contiguous

        Raises
        ------
        InputError
            If X is not a real vector or matrix of size n along the axis.

        Notes
        -----
        Exact to about ``eps log2(n) norm(x)`` for each vector x; same bits at any thread count.

        Examples
        --------
        >>> V = RandomizedTransform(5, seed=0)
        >>> V.apply(np.ones((2, 5)), axis=1).shape
        (2, 5)
        """
        return self._transform(X, axis, inverse=False)

    def undo(self, Y: np.ndarray, axis: int = 0) -> np.ndarray:
        """``V.T @ Y`` for ``axis=0``, ``Y @ V`` for ``axis=1``: the inverse of `apply`.

        Parameters
        ----------
        Y : ndarray of shape (n,), (n, d) for axis 0 or (r, n) for axis 1
        axis : {0, 1, -1}

        Returns
        -------
        ndarray of the shape of Y, C-contiguous

        Raises
        ------
        InputError
            As `apply`.

        Examples
        --------
        >>> V = RandomizedTransform(5, seed=0)
        >>> np.allclose(V.undo(V.apply(np.arange(5.0))), np.arange(5))
        True
        """
        return self._transform(Y, axis, inverse=True)

    def two_sided(self, H: np.ndarray) -> np.ndarray:
        """``V @ H @ V.T`` for a symmetric H.

        Parameters
        ----------
        H : ndarray of shape (n, n), symmetric; only its values are used, not its symmetry

        Returns
        -------
        ndarray of shape (n, n), float64, exactly symmetric

        Raises
        ------
        InputError
            If H is not a real (n, n) matrix.

        Examples
        --------
        >>> V = RandomizedTransform(6, seed=0)
        >>> np.allclose(V.two_sided(np.eye(6)), np.eye(6))
        True
        """
        H = np.asarray(H)
        if H.shape != (self.n, self.n):
            raise InputError(f"H: must have shape {(self.n, self.n)}, found {H.shape}")
        if H.dtype == np.float32:
            H = H.astype(np.float64)
        T = self.apply(self.apply(H, axis=1), axis=0)
        T += T.T  # NumPy buffers the overlapping operand
        T *= 0.5
        return T

    def undo_rows(self, Y: np.ndarray, start: int) -> np.ndarray:
        """Rows of ``V.T @ Y``, of whole blocks alone: from the first of Y, which is ``start``.

        Parameters
        ----------
        Y : ndarray of shape (m, d)
            Rows ``start`` to ``start + m``, which are whole blocks; see `span`.
        start : int

        Returns
        -------
        ndarray of shape (m, d), C-contiguous

        Raises
        ------
        InputError
            If Y is not a real matrix of whole blocks.

        Examples
        --------
        >>> V = RandomizedTransform(9, seed=0, block=4)
        >>> Y = np.ones((9, 2))
        >>> np.array_equal(V.undo_rows(Y[4:], start=4), V.undo(Y)[4:])
        True
        """
        return self._transform(Y, 0, inverse=True, start=start)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The first row and the last but one of the blocks that hold some rows.

        Parameters
        ----------
        start, stop : int
            ``0 <= start < stop <= n``.

        Examples
        --------
        >>> RandomizedTransform(100, seed=0, block=8).span(9, 17)
        (8, 24)
        """
        edges = self._edges
        first = np.searchsorted(edges, start, side="right") - 1
        return int(edges[first]), int(edges[np.searchsorted(edges, stop)])

    @cached_property
    def _edges(self) -> np.ndarray:
        """Where blocks begin, and n."""
        size = min(self.n, self.block or self.n)
        return np.append(np.arange(self.n // size) * size, self.n)

    def _transform(
        self, X: np.ndarray, axis: int, inverse: bool, start: int | None = None
    ) -> np.ndarray:
        """Of the entries from ``start`` on, which are whole blocks; by default of all."""
        X = np.asarray(X)
        if X.dtype.kind not in "fiub":
            raise InputError(f"X: dtype {X.dtype} is not real; convert it to float32")
        if X.ndim not in (1, 2) or axis not in (0, 1, -1):
            raise InputError(
                f"X: must be a vector or a matrix, and axis 0 or 1; found {X.shape} and {axis}"
            )
        axis = 0 if X.ndim == 2 and axis == 0 else X.ndim - 1
        whole = start is None
        start = start or 0
        stop = self.n if whole else start + X.shape[axis]
        edges = self._edges[(self._edges >= start) & (self._edges <= stop)]
        if X.shape[axis] != stop - start or [start, stop] != edges[[0, -1]].tolist():
            size = f"size {self.n}" if whole else f"whole blocks from {start} on"
            raise InputError(f"X: must have {size} along axis {axis}, found {X.shape}")
        dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
        if len(edges) == 2:
            return _one_block(X, self.signs[start:stop], axis, inverse, dtype)
        out = np.empty(X.shape, dtype)

        def blocks(i: int, j: int) -> None:
            for low, high in pairwise(edges[i : j + 1].tolist()):
                part = (slice(None),) * axis + (slice(low - start, high - start),)
                out[part] = _one_block(X[part], self.signs[low:high], axis, inverse, dtype)

        run_blocks(blocks, len(edges) - 1, 1)
        return out


def _one_block(
    X: np.ndarray, signs: np.ndarray, axis: int, inverse: bool, dtype: np.dtype
) -> np.ndarray:
    """``T diag(signs)``, or its transpose, applied along the axis of a vector or matrix."""
    n = len(signs)
    by_row = axis == X.ndim - 1
    pre = np.full(n, 1 / np.sqrt(n), dtype)
    post = np.ones(n, dtype)
    if inverse:
        post *= signs
    else:
        pre *= signs
    # Too few columns to fill a vector register: transposing is cheaper.
    turned = not by_row and X.shape[1] < _FEW_COLUMNS
    # The kernels are compiled for writable arrays; they do not write to this one.
    A = np.require(X.T if turned else np.atleast_2d(X), dtype, ["C", "W"])
    run = _along_rows if by_row or turned else _along_columns
    order = block_order(n)
    out = run(A, pre, post, order, paley(order, dtype, inverse) if order > 1 else None)
    return np.ascontiguousarray(out.T) if turned else out.reshape(X.shape)


def _along_rows(
    X: np.ndarray, pre: np.ndarray, post: np.ndarray, order: int, block: np.ndarray | None
) -> np.ndarray:
    """``post * (T @ (pre * x))`` for each row x; T is unscaled, and ``block`` its Paley block."""
    from lplr.kernels.hadamard import hadamard_rows, hadamard_strided

    r, n = X.shape
    out = np.empty_like(X)

    def rows(i: int, j: int) -> None:
        if order == 1:
            hadamard_rows(X, pre, post, out, i, j)
            return
        part = X[i:j] * pre
        if block is None:
            _hartley(part, out[i:j], axis=1)
        else:
            np.matmul(part.reshape(-1, order), block.T, out=out[i:j].reshape(-1, order))
            hadamard_strided(out, order, i, j)
        out[i:j] *= post

    run_blocks(rows, r, max(1, _TILE // n))
    return out


def _along_columns(
    X: np.ndarray, pre: np.ndarray, post: np.ndarray, order: int, block: np.ndarray | None
) -> np.ndarray:
    """``post * (T @ (pre * x))`` for each column x; T is unscaled, ``block`` its Paley block."""
    from lplr.kernels.hadamard import hadamard_columns, hadamard_strided

    n, d = X.shape
    out = np.empty_like(X)

    def columns(i: int, j: int) -> None:
        if order == 1:
            hadamard_columns(X, pre, post, out, i, j)
            return
        part = X[:, i:j] * pre[:, None]
        result = np.empty_like(part)
        if block is None:
            _hartley(part, result, axis=0)
        else:
            groups = (n // order, order, j - i)
            np.matmul(block, part.reshape(groups), out=result.reshape(groups))
            hadamard_strided(result.reshape(1, -1), order * (j - i), 0, 1)
        np.multiply(result, post[:, None], out=out[:, i:j])

    run_blocks(columns, d, max(_FEW_COLUMNS, min(128, (_TILE // n) // 16 * 16)))
    return out


def _hartley(x: np.ndarray, out: np.ndarray, axis: int) -> None:
    """Unnormalised Hartley transform, Re - Im of the Fourier transform, along an axis."""
    from scipy.fft import rfft

    F = rfft(x, axis=axis)
    if axis == 1:
        F, out = F.T, out.T
    half = F.shape[0]
    np.subtract(F.real, F.imag, out=out[:half])
    # The spectrum of real data is conjugate-symmetric: F[n - k] = conj(F[k]).
    mirrored = F[out.shape[0] - half : 0 : -1]
    np.add(mirrored.real, mirrored.imag, out=out[half:])
