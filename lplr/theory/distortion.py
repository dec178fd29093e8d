"""The error of each quantizer on a normal source, beside published values and the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.parallel import reproducible
from lplr.progress import Progress, parts, tracked
from lplr.quantizers.base import QUANTIZERS, Codebook, get_codebook
from lplr.theory.limits import gaussian_limit
from lplr.validation.arguments import check_integer, check_rng

__all__ = ["Distortion", "distortion_table", "quantizer_distortion"]

_LENGTH = 1024  # entries of one sequence, the unit of a simulation; a multiple of every group
_MAX_1960 = "Max 1960, Table {}"
# (quantizer, bits) -> mean squared error on N(0, 1), source. Max's tables go to 36 levels; the last
# two digits are wrong for 16 and 32 optimal levels (0.009501 and 0.002505 by exact integration).
_PUBLISHED: dict[tuple[str, float], tuple[float, str]] = {
    **{
        ("lloyd-max", bits): (mse, _MAX_1960.format("I"))
        for bits, mse in enumerate((0.3634, 0.1175, 0.03454, 0.009497, 0.002499), start=1)
    },
    **{
        ("uniform", bits): (mse, _MAX_1960.format("II"))
        for bits, mse in enumerate((0.3634, 0.1188, 0.03744, 0.01154, 0.003495), start=1)
    },
    # QuIP#'s code has other vectors of squared norm 12, and another scale.
    ("e8p", 2): (0.089, "QTIP (Tseng et al. 2024), Table 1, for QuIP#'s E8P"),
}


@dataclass(frozen=True)
class Distortion:
    """Mean squared error of a quantizer on N(0, 1), at the scale that it is used with.

    Parameters
    ----------
    quantizer : str
    bits : float
        Bits per entry.
    mse : float
        Mean squared error.
    standard_error : float
        Standard error of a simulated ``mse``; 0 for quadrature.
    method : {"quadrature", "simulation"}
    limit : float
        ``2^(-2 bits)``, see `lplr.theory.gaussian_limit`.
    published : float or None
        The published mean squared error.
    source : str or None
        The paper that published it.

    Examples
    --------
    >>> from lplr.theory import quantizer_distortion
    >>> quantizer_distortion("lloyd-max", 2).source
    'Max 1960, Table I'
    """

    quantizer: str
    bits: float
    mse: float
    standard_error: float
    method: str
    limit: float
    published: float | None
    source: str | None


def quantizer_distortion(
    quantizer: str,
    bits: float,
    *,
    n_samples: int = 1 << 17,
    rng: Any = 0,
    progress: Progress = False,
) -> Distortion:
    """Mean squared error of a quantizer of the registry on N(0, 1), with its standard error.

    Parameters
    ----------
    quantizer : str
        A name in `lplr.quantizers.QUANTIZERS`.
    bits : int or float
        One of its widths.
    n_samples : int
        Entries of a simulation, at least 2048; rounded up to sequences of 1024.
    rng : int, numpy.random.Generator or None
        Draws the entries of a simulation.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`.

    Returns
    -------
    Distortion

    Raises
    ------
    InputError
        If the quantizer does not exist or does not offer this width, or n_samples is too small.

    Notes
    -----
    For a quantizer that rounds each entry to the nearest of its levels, the error is integrated
    exactly: with cells [a, b] of mass p and first moment f, it is ``1 - 2 sum q f + sum q^2 p``.
    Other quantizers (lattices, trellises) encode and decode random sequences. The sequences are
    independent, so the spread of their mean errors gives the standard error.

    Examples
    --------
    >>> from lplr.theory import quantizer_distortion
    >>> round(quantizer_distortion("lloyd-max", 2).mse, 4)
    0.1175
    """
    book = get_codebook(quantizer, bits)
    n_samples = check_integer(n_samples, "n_samples", 2 * _LENGTH)
    generator = check_rng(rng)
    levels = _levels(book)
    with tracked(progress, f"{quantizer}, {bits:g} bits"), reproducible():
        if levels is None:
            mse, error = _simulated(book, -(-n_samples // _LENGTH), generator)
        else:
            from lplr.quantizers.scalar import gaussian_mse

            mse, error = gaussian_mse(levels * book.gaussian_scale), 0.0
    published, source = _PUBLISHED.get((quantizer, bits), (None, None))
    return Distortion(
        quantizer=quantizer,
        bits=bits,
        mse=mse,
        standard_error=error,
        method="simulation" if levels is None else "quadrature",
        limit=gaussian_limit(bits),
        published=published,
        source=source,
    )


def distortion_table(
    quantizers: Any = None,
    *,
    n_samples: int = 1 << 17,
    rng: Any = 0,
    progress: Progress = False,
) -> list[Distortion]:
    """`quantizer_distortion` of some quantizers at all of their widths.

    All rows take about half a minute, most of it trellis codes.

    Parameters
    ----------
    quantizers : sequence of str, optional
        Names in `lplr.quantizers.QUANTIZERS`; by default all of them.
    n_samples : int
        As in `quantizer_distortion`, for each row.
    rng : int, numpy.random.Generator or None
    progress : bool or callable
        What to hear while it works, see `lplr.progress`.

    Returns
    -------
    list of Distortion
        One for each quantizer and width, in the order of the registry.

    Raises
    ------
    InputError
        As `quantizer_distortion` does.

    Examples
    --------
    >>> from lplr.theory import distortion_table
    >>> for row in distortion_table(["uniform"])[:3]:
    ...     print(row.bits, f"{row.mse:.4f} {row.published} {row.limit:.4f}")
    1 0.3634 0.3634 0.2500
    2 0.1188 0.1188 0.0625
    3 0.0374 0.03744 0.0156
    """
    names = tuple(QUANTIZERS) if quantizers is None else tuple(quantizers)
    unknown = [name for name in names if name not in QUANTIZERS]
    if unknown:
        raise InputError(f"quantizers: {unknown[0]!r} is unknown; use some of {list(QUANTIZERS)}")
    generator = check_rng(rng)
    rows = [(name, bits) for name in names for bits in QUANTIZERS[name][0]]
    with tracked(progress, "distortion"):
        return [
            quantizer_distortion(name, bits, n_samples=n_samples, rng=generator)
            for name, bits in parts(rows, what=lambda row: f"{row[0]}, {row[1]:g} bits")
        ]


def _levels(book: Codebook) -> np.ndarray | None:
    """The levels of a codebook that rounds each entry to the nearest level; None for others."""
    if not book.entrywise or book.group > 1:
        return None
    codes = np.arange(2 ** int(book.bits)).astype(book.dtype)
    with np.errstate(invalid="ignore"):  # float16 has infinities and NaN
        values = book.decode(codes)
    return np.unique(values[np.isfinite(values)]).astype(np.float64)


def _simulated(book: Codebook, sequences: int, rng: np.random.Generator) -> tuple[float, float]:
    """Mean squared error and its standard error, from independent sequences."""
    scale = np.float32(book.gaussian_scale)
    errors = []
    # A few at a time: a trellis keeps its whole history.
    for start in parts(range(0, sequences, 64)):
        count = min(64, sequences - start)
        x = rng.standard_normal((count, _LENGTH // book.group, book.group), np.float32)
        q = book.decode(book.encode(x / scale)) * scale
        errors.append(np.square(x.astype(np.float64) - q).mean(axis=(1, 2)))
    mean = np.concatenate(errors)
    return float(mean.mean()), float(mean.std(ddof=1) / np.sqrt(len(mean)))
