"""What a code means: the protocol of a codebook, and the one table of those that exist."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np

from lplr.exceptions import InputError

__all__ = ["QUANTIZERS", "Codebook", "get_codebook"]


class Codebook(Protocol):
    """A finite set of points in R^group, in code units: a stored value is scale x point.

    Attributes
    ----------
    name, bits : str, int or float
        The key of the codebook in `QUANTIZERS`; ``bits`` is per entry.
    group : int
        Entries that one code word stands for (1: scalar and trellis, 8: lattice).
    entrywise : bool
        Whether each entry is coded by itself, so that vectors may lie along either axis.
    dtype : numpy dtype of unpacked code words
    gaussian_scale : float
        Scale that minimises the mean squared error on N(0, 1).
    gaussian_mse : float
        That error.
    """

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> float: ...
    @property
    def group(self) -> int: ...
    @property
    def entrywise(self) -> bool: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def gaussian_scale(self) -> float: ...
    @property
    def gaussian_mse(self) -> float: ...

    def span(self, n: int) -> int:
        """Entries of a vector of n that are coded together, on one thread."""

    def nbytes(self, length: int, count: int) -> int:
        """Bytes of ``count`` packed vectors of ``length`` entries."""

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """The bit stream, uint8, of a matrix of code words whose vectors lie along ``axis``."""

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """Refuse, by an InputError, what is not the stream of ``count`` vectors; contiguous."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Code words, shape (..., n), for float32 vectors ``x`` of shape (..., n, group).

        Those of least squared error; where the codebook codes entrywise, any shape will do.
        """

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Points, float32 of shape (..., n, group), of code words of shape (..., n)."""

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Decode some rows of a packed array of code words of shape ``words``.

        The entries of a word lie down a column (axis 0) or along a row (axis 1), so the float32
        result has the shape of the decoded rows, padding included.
        """

    def panel(
        self,
        target: np.ndarray,
        base: np.ndarray,
        coeff: np.ndarray,
        scale: np.ndarray,
        error: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Feedback-quantize a panel of rows, of one span each.

        See `lplr.kernels.feedback.feedback_panel`.
        """


def _uniform(bits: int) -> Codebook:
    from lplr.quantizers.uniform import uniform

    return uniform(bits)


def _lloyd_max(bits: int) -> Codebook:
    from lplr.quantizers.lloyd_max import lloyd_max

    return lloyd_max(bits)


def _normal_float(bits: int) -> Codebook:
    from lplr.quantizers.normal_float import normal_float

    return normal_float(bits)


def _e8p(bits: int) -> Codebook:
    from lplr.quantizers.lattice import E8P

    return E8P(bits)


def _trellis(state_bits: int) -> Callable[[Any], Codebook]:
    def build(bits: float) -> Codebook:
        from lplr.quantizers.spans import spans

        return spans(state_bits, bits)

    return build


_QUARTERS = tuple(i / 4 for i in range(4, 25))

# The one table of sizes: the widths that each quantizer offers, and what builds its codebook.
# 16 bits is the same for every scalar quantizer: the entry itself, as float16.
QUANTIZERS: dict[str, tuple[tuple[float, ...], Callable[[Any], Codebook]]] = {
    "uniform": ((1, 2, 3, 4, 5, 6, 7, 8, 16), _uniform),
    "normal-float": ((1, 2, 3, 4, 5, 6, 7, 8, 16), _normal_float),
    "lloyd-max": ((1, 2, 3, 4, 5, 6, 7, 8, 16), _lloyd_max),
    "e8p": ((2, 3, 4), _e8p),
    "trellis": (_QUARTERS, _trellis(10)),
    **{f"trellis-{L}": (_QUARTERS, _trellis(L)) for L in range(6, 15)},
}


@cache
def get_codebook(quantizer: str, bits: float) -> Codebook:
    """The codebook of a quantizer at a number of bits an entry.

    Parameters
    ----------
    quantizer : {"uniform", "normal-float", "lloyd-max", "e8p", "trellis", "trellis-6" ...}
        A trellis code of 2**6 to 2**14 states; ``"trellis"`` is ``"trellis-10"``.
    bits : int or float
        One of the widths that `QUANTIZERS` lists for it.

    Returns
    -------
    Codebook

    Raises
    ------
    InputError
        If the quantizer does not exist or does not offer this width.

    Examples
    --------
    >>> from lplr.quantizers import get_codebook
    >>> get_codebook("uniform", 2).levels
    array([-1.5, -0.5,  0.5,  1.5], dtype=float32)
    """
    if (quantizer, bits) == ("zero", 0):  # of columns that are left out; callers do not get it
        from lplr.quantizers.zero import Zero

        return Zero()
    if quantizer not in QUANTIZERS:
        raise InputError(f"quantizer: {quantizer!r} is unknown; use one of {sorted(QUANTIZERS)}")
    offered, build = QUANTIZERS[quantizer]
    if bits not in offered:
        raise InputError(f"bits: {bits!r} is not offered by {quantizer!r}; use one of {offered}")
    if bits == int(bits):
        bits = int(bits)
    if bits == 16:
        from lplr.quantizers.half import Half

        return Half(quantizer)
    return build(bits)
