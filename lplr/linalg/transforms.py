"""Randomized orthogonal transforms that spread a matrix evenly over its entries, for any size.

``V = T diag(s)``, with random signs s and a fixed orthogonal T of entries of size O(1/sqrt(n)):

* ``n = 2^p`` or ``n = b 2^p`` with a Paley block of order b <= 64 (12, 20, 28, 36, 44, 60):
  the Hadamard matrix ``T = (H_{2^p} kron P_b) / sqrt(n)``, every entry ±1/sqrt(n);
* any other n: the Hartley matrix ``T[i, j] = (cos + sin)(2 pi i j / n) / sqrt(n)``, which is
  Re - Im of the Fourier transform, symmetric, its own inverse, with entries <= sqrt(2/n).

Both cost O(n log n) per vector. With a block size b, V consists of ``n // b`` such matrices, the
last one larger by the rest: only about b entries mix, and can be had back without the others. They
are neighbours, or (interleaved) come from everywhere, so that all blocks are alike even where x
drifts.

Incoherence processing is that of QuIP# (arXiv 2402.04396) and CALDERA (arXiv 2405.18886, section
2); unlike theirs, there is one factor for every size, blocks keep parts of a large matrix
readable, and no small random rotation is added, which is worse on Hessians with outlier channels.

Notes
-----
What a decoder has to know, besides the above:

*Signs.* Bit ``i % 64`` (least significant first) of word ``i // 64`` of the Philox-4x64-10
stream with key (seed, 0) and counters (1, 0, 0, 0), (2, 0, 0, 0) ..., as
``numpy.random.Philox(key=seed).random_raw`` returns it; a set bit is the sign -1. The streams of
NumPy's bit generators never change (NEP 19).

*Sylvester.* ``H[i, j] = (-1)^popcount(i & j)``.

*Sizes.* `lplr.linalg.paley` gives the order and P of a Paley block.

*Blocks.* `lplr.linalg.transform_blocks` says which entries a block takes and makes. The signs of
the columns of a block are those bits of the one stream that have the numbers of the entries that
it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.orthogonal import mix, mix_vector
from lplr.linalg.paley import block_order
from lplr.linalg.symmetric import symmetrized
from lplr.linalg.transform_blocks import TransformBlocks
from lplr.parallel import run_blocks
from lplr.validation.arguments import check_flag, check_integer, check_rng

__all__ = ["RandomizedTransform"]

_SEEDS = 1 << 63  # below 2^63, so that every container's signed integer holds a seed


@dataclass(frozen=True)
class RandomizedTransform(TransformBlocks):
    """A random orthogonal matrix V of size n that is applied in O(n log n) and stored as a seed.

    Parameters
    ----------
    n : int
        Size, at least 1.
    seed : int
        In ``[0, 2**63)``; the signs follow from it.
    block : int, optional
        Size of the blocks; by default V is one block.
    interleaved : bool
        Whether a block mixes entries far apart, not neighbours.

    Raises
    ------
    InputError
        If n, seed or block is out of range, or ``interleaved`` is no bool.

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
    interleaved: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_integer(self.n, "n", 1))
        object.__setattr__(self, "seed", check_integer(self.seed, "seed", 0, _SEEDS - 1))
        if self.block is not None:
            object.__setattr__(self, "block", check_integer(self.block, "block", 1))
        check_flag(self.interleaved, "interleaved")

    @classmethod
    def sample(cls, n: int, rng: int | np.random.Generator | None = None) -> RandomizedTransform:
        """Draw a transform of size n that is one block.

        Parameters
        ----------
        n : int
        rng : int, Generator or None

        Returns
        -------
        RandomizedTransform

        Examples
        --------
        >>> RandomizedTransform.sample(384, rng=0).n
        384
        """
        return cls(n, int(check_rng(rng).integers(_SEEDS)))

    def __reduce__(self) -> tuple[type, tuple[int, int, int | None, bool]]:
        return type(self), (self.n, self.seed, self.block, self.interleaved)  # without the signs

    @property
    def kind(self) -> str:
        """``"hadamard"`` (entries ±1/sqrt(n) in a block of size n) or ``"hartley"``."""
        last = self.inside(self.blocks - 1)
        sizes = self._size, last.stop - last.start
        return "hadamard" if all(map(block_order, sizes)) else "hartley"

    @cached_property
    def signs(self) -> np.ndarray:
        """The signs s: read-only int8 array of shape (n,), each +1 or -1."""
        words = np.random.Philox(key=self.seed).random_raw(-(-self.n // 64))
        octets = words.astype("<u8").view(np.uint8)
        bits = np.unpackbits(octets, count=self.n, bitorder="little")
        signs = 1 - 2 * bits.astype(np.int8)
        signs.flags.writeable = False
        return signs

    @cached_property
    def _mixers(self) -> dict[tuple[np.dtype, bool], Callable[[np.ndarray, np.ndarray], None]]:
        """What takes a vector to another, by dtype and direction."""
        kinds = np.dtype(np.float32), np.dtype(np.float64)
        factors = {kind: np.full(self.n, 1 / np.sqrt(self.n), kind) * self.signs for kind in kinds}
        return {
            (kind, inverse): mix_vector(factors[kind], inverse)
            for kind in kinds
            for inverse in (False, True)
        }

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

    def vector_map(self, *, inverse: bool = False) -> Callable[[np.ndarray, np.ndarray], None]:
        """A function ``(x, out)`` for many float32 vectors: ``out`` becomes ``V @ x``.

        Parameters
        ----------
        inverse : bool
            ``V.T @ x`` instead.

        Returns
        -------
        callable
            It takes contiguous float32 arrays of shape (n,), which it does not check.

        Examples
        --------
        >>> V, out = RandomizedTransform(12, seed=0), np.empty(12, np.float32)
        >>> V.vector_map()(np.ones(12, np.float32), out)
        >>> np.array_equal(out, V.apply(np.ones(12, np.float32)))
        True
        """
        if self.blocks == 1 and block_order(self.n):
            return self._mixers[np.dtype(np.float32), inverse]

        def general(x: np.ndarray, out: np.ndarray) -> None:
            out[:] = self._transform(x, 0, inverse)

        return general

    def two_sided(self, H: np.ndarray, *, overwrite: bool = False) -> np.ndarray:
        """``V @ H @ V.T`` for a symmetric H.

        Parameters
        ----------
        H : ndarray of shape (n, n), symmetric; only its values are used, not its symmetry
        overwrite : bool
            Whether the result may lie where H does; it does if that is float64 and C-contiguous.

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
        T = self._transform(H, 1, inverse=False, overwrite=overwrite)
        T = self._transform(T, 0, inverse=False, overwrite=True)
        return symmetrized(T, overwrite=True)[0]

    def apply_block(self, b: int, X: np.ndarray) -> np.ndarray:
        """The entries ``inside(b)`` of ``V @ x``, x given as the entries ``outside(b)`` alone.

        Parameters
        ----------
        b : int
            From 0 to ``blocks - 1``.
        X : ndarray of shape (m, d), float32 or float64
            m is the size of the block.

        Returns
        -------
        ndarray of the shape of X, C-contiguous

        Examples
        --------
        >>> V = RandomizedTransform(9, seed=0, block=4)
        >>> X = np.ones((9, 2))
        >>> np.array_equal(V.apply_block(1, X[V.outside(1)]), V.apply(X)[V.inside(1)])
        True
        """
        return mix(X, self.signs[self.inside(b)], 0, False, X.dtype)

    def undo_block(self, b: int, Y: np.ndarray, axis: int = 0) -> np.ndarray:
        """The entries ``outside(b)`` of ``V.T @ y``, y given as the entries ``inside(b)`` alone.

        Parameters
        ----------
        b : int
            From 0 to ``blocks - 1``.
        Y : ndarray of shape (m, d) for axis 0 or (r, m) for axis 1, float32 or float64
            m is the size of the block.
        axis : {0, 1}

        Returns
        -------
        ndarray of the shape of Y, C-contiguous

        Examples
        --------
        >>> V = RandomizedTransform(9, seed=0, block=4, interleaved=True)
        >>> Y = np.ones((9, 2))
        >>> V.inside(0), V.outside(0)
        (slice(0, 4, None), array([2, 4, 6, 8]))
        >>> np.array_equal(V.undo_block(0, Y[:4]), V.undo(Y)[V.outside(0)])
        True
        """
        return mix(Y, self.signs[self.inside(b)], axis, True, Y.dtype)

    def _transform(
        self, X: np.ndarray, axis: int, inverse: bool, overwrite: bool = False
    ) -> np.ndarray:
        X = np.asarray(X)
        if X.dtype.kind not in "fiub":
            raise InputError(f"X: dtype {X.dtype} is not real; convert it to float32")
        if X.ndim not in (1, 2) or axis not in (0, 1, -1):
            raise InputError(
                f"X: must be a vector or a matrix, and axis 0 or 1; found {X.shape} and {axis}"
            )
        axis = 0 if X.ndim == 2 and axis == 0 else X.ndim - 1
        if X.shape[axis] != self.n:
            raise InputError(f"X: must have size {self.n} along axis {axis}, found {X.shape}")
        dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
        if X.ndim == 1 and self.blocks == 1 and block_order(self.n):
            out = np.empty(self.n, dtype)
            self._mixers[dtype, inverse](np.ascontiguousarray(X, dtype), out)
            return out
        if self.blocks == 1:
            return mix(X, self.signs, axis, inverse, dtype, overwrite)
        out = np.empty(X.shape, dtype)
        before = (slice(None),) * axis

        def block(b: int, _: int) -> None:
            inside, outside = (*before, self.inside(b)), (*before, self.outside(b))
            source, target = (inside, outside) if inverse else (outside, inside)
            out[target] = mix(X[source], self.signs[inside[-1]], axis, inverse, dtype)

        run_blocks(block, self.blocks, 1)
        return out
