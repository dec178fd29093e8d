"""What a code means: the protocol of a codebook, and the one table of those that exist."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np

from lplr.exceptions import InputError

__all__ = ["QUANTIZERS", "Codebook", "get_codebook"]


class Codebook(Protocol):
    """A finite set of points in R^group, in code units: a stored value is scale x point.

    Attributes
    ----------
    name, bits : str, int
        The key of the codebook in `QUANTIZERS`; ``bits`` is per entry.
    group : int
        Entries that one code word stands for (1: scalar, 8: lattice).
    dtype : numpy dtype of unpacked code words
    gaussian_scale : float
        Scale that minimises the mean squared error on N(0, 1).
    gaussian_mse : float
        That error.
    """

    @property
    def name(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def gaussian_scale(self) -> float: ...
    @property
    def gaussian_mse(self) -> float: ...
    @property
    def width(self) -> int:
        """Bits of one code word."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Code words of the nearest points to float32 ``x`` of shape (..., group)."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Points, float32 of shape (..., group), of code words of shape (...)."""

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
        """Feedback-quantize a panel; see `lplr.kernels.feedback.feedback_panel`."""


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


# The one table of sizes: the widths that each quantizer offers, and what builds its codebook.
# 16 bits is the same for every scalar quantizer: the entry itself, as float16.
QUANTIZERS: dict[str, tuple[tuple[int, ...], Callable[[int], Codebook]]] = {
    "uniform": ((1, 2, 3, 4, 5, 6, 7, 8, 16), _uniform),
    "normal-float": ((1, 2, 3, 4, 5, 6, 7, 8, 16), _normal_float),
    "lloyd-max": ((1, 2, 3, 4, 5, 6, 7, 8, 16), _lloyd_max),
    "e8p": ((2, 3, 4), _e8p),
}


@cache
def get_codebook(quantizer: str, bits: int) -> Codebook:
    """The codebook of a quantizer at a number of bits an entry.

    Parameters
    ----------
    quantizer : {"uniform", "normal-float", "lloyd-max", "e8p"}
    bits : int
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
    if quantizer not in QUANTIZERS:
        raise InputError(f"quantizer: {quantizer!r} is unknown; use one of {sorted(QUANTIZERS)}")
    offered, build = QUANTIZERS[quantizer]
    if bits not in offered:
        raise InputError(f"bits: {bits!r} is not offered by {quantizer!r}; use one of {offered}")
    if bits == 16:
        from lplr.quantizers.half import Half

        return Half(quantizer)
    return build(bits)
