"""What a codebook offers to the rest of the package, and the table of all codebooks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.half import Half
from lplr.quantizers.lattice import E8P
from lplr.quantizers.lloyd_max import lloyd_max
from lplr.quantizers.normal_float import normal_float
from lplr.quantizers.trellis import STATE_BITS
from lplr.quantizers.trellis_codebook import trellis_codebook
from lplr.quantizers.uniform import uniform
from lplr.quantizers.zero import Zero

__all__ = ["QUANTIZERS", "Codebook", "get_codebook"]


class Codebook(Protocol):
    """A finite set of points in R^group, in code units: a stored value is scale × point.

    ``name`` and ``bits``, which are bits per entry, are its key in `QUANTIZERS`. A code word stands
    for ``group`` entries, 8 of the lattice and 1 of all others; unpacked code words have the NumPy
    ``dtype``. An ``entrywise`` codebook codes each entry by itself, so that vectors may lie along
    either axis. ``gaussian_scale`` minimises the mean squared error on N(0, 1), ``gaussian_mse`` is
    that error.
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

    def segment_length(self, n: int) -> int:
        """How many neighbours in a vector of n entries are coded together, on one thread."""

    def nbytes(self, length: int, count: int) -> int:
        """Bytes of ``count`` packed vectors of ``length`` entries."""

    def pack(self, codes: np.ndarray, axis: int) -> np.ndarray:
        """The bit stream, uint8, of a matrix of code words whose vectors lie along ``axis``."""

    def check_packed(self, packed: Any, length: int, count: int) -> np.ndarray:
        """The stream of ``count`` vectors, made contiguous; InputError if it is not one."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Code words of least squared error, (..., n), for float32 ``x`` of shape (..., n, group).

        An entrywise codebook takes any shape.
        """

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Points, float32 of shape (..., n, group), of code words of shape (..., n)."""

    def unpack(
        self, packed: np.ndarray, words: tuple[int, int], rows: slice, axis: int
    ) -> np.ndarray:
        """Decode some rows of a packed array of code words of shape ``words``.

        The entries of a code word lie down a column (axis 0) or along a row (axis 1), so the
        float32 result has the shape of the decoded rows, padding included.
        """

    def panel(
        self,
        target: np.ndarray,
        base: np.ndarray,
        coeff: np.ndarray,
        scale: np.ndarray,
        error: np.ndarray,
        codes: np.ndarray,
        /,
    ) -> None:
        """Quantize a panel of rows, the last one first, each after the errors of those below.

        Each row is at most one segment. `lplr.kernels.feedback.feedback_panel` documents the
        arrays; ``error`` and ``codes`` are written.
        """


_SCALAR = (1, 2, 3, 4, 5, 6, 7, 8, 16)
_QUARTERS = tuple(i / 4 for i in range(4, 25))

# The bits per entry that each quantizer offers, and the function that builds its codebook.
# At 16 bits every scalar quantizer stores the entry itself, as float16.
QUANTIZERS: dict[str, tuple[tuple[float, ...], Callable[[Any], Codebook]]] = {
    "uniform": (_SCALAR, uniform),
    "normal-float": (_SCALAR, normal_float),
    "lloyd-max": (_SCALAR, lloyd_max),
    "e8p": ((2, 3, 4), E8P),
    "trellis": (_QUARTERS, partial(trellis_codebook, 10)),
    **{f"trellis-{L}": (_QUARTERS, partial(trellis_codebook, L)) for L in STATE_BITS},
}


@cache
def get_codebook(quantizer: str, bits: float) -> Codebook:
    """The codebook of a quantizer at a number of bits per entry.

    Parameters
    ----------
    quantizer : {"uniform", "normal-float", "lloyd-max", "e8p", "trellis", "trellis-6" ...}
        The trellis codes have 2**6 to 2**14 states; ``"trellis"`` means ``"trellis-10"``.
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
    if (quantizer, bits) == ("zero", 0):  # for columns that are left out; users cannot choose it
        return Zero()
    if quantizer not in QUANTIZERS:
        raise InputError(f"quantizer: {quantizer!r} is unknown; use one of {sorted(QUANTIZERS)}")
    offered, build = QUANTIZERS[quantizer]
    if bits not in offered:
        raise InputError(f"bits: {bits!r} is not offered by {quantizer!r}; use one of {offered}")
    if bits == 16:
        return Half(quantizer)
    return build(int(bits) if bits == int(bits) else bits)
