"""Naive quantization: a matrix rounded as it is."""

from __future__ import annotations

from typing import Any

from lplr.algorithms.in_parts import in_parts
from lplr.cluster import using
from lplr.coding.constant import constant_matrix, is_constant
from lplr.coding.rounding import GRANULARITIES, SCALINGS, round_matrix
from lplr.matrices.quantized import Quantized
from lplr.matrices.row_parts import RowParts
from lplr.planning.sizes import rounding_nbytes
from lplr.progress import Progress
from lplr.provenance import recorded
from lplr.quantizers.base import QUANTIZERS, get_codebook
from lplr.sources import loaded
from lplr.streaming.limits import streamed_source
from lplr.streaming.results import results_of
from lplr.streaming.rounding import quantize_in_passes
from lplr.validation.arguments import check_bits, check_choice, check_rng
from lplr.validation.matrices import check_matrix

__all__ = ["quantize", "quantize_sizes"]

_TALL = 512  # rows from which on a column is as good a sequence as any


@in_parts
@recorded(draws=lambda arguments: str(arguments["rounding"]) == "dithered")
def quantize(
    A: Any,
    *,
    bits: float,
    quantizer: str = "uniform",
    granularity: str = "tensor",
    scaling: str | None = None,
    rounding: str = "nearest",
    rng: Any = None,
    memory_limit: int | str | None = None,
    out: Any = None,
    client: Any = None,
    progress: Progress = False,
) -> Quantized | RowParts:
    """Quantize a matrix as it is, to packed codes ("naive quantization" in the papers).

    Parameters
    ----------
    A : array_like of shape (n, d)
        Or the name of a file, a memmap, or an array of h5py, zarr or dask, see
        `lplr.sources.open_source`.
    bits : int or float
        Bits per entry: 1 to 8 or 16 (float16), for ``"e8p"`` 2, 3 or 4, for trellis codes 1 to 6
        in quarters.
    quantizer : {"uniform", "lloyd-max", "normal-float", "e8p", "trellis", "trellis-6", ...}
        The trellis codes of 2**6 to 2**14 states; ``"trellis"`` has 2**10.
    granularity : {"tensor", "row", "column"}
        What shares a scale. Neither this nor ``scaling`` matters at 16 bits.
    scaling : {"minmax", "mse"}, optional
        ``"minmax"``: the outermost levels are the extrema, as in the paper (for levels that are
        not uniform, the largest magnitude). ``"mse"``: the scale and offset of least squared
        error that a few alternations find. Default: ``"minmax"`` for ``"uniform"`` and
        ``"normal-float"``, ``"mse"`` for the others.
    rounding : {"nearest", "dithered"}
        ``"dithered"`` rounds up with the probability that makes the result unbiased; uniform
        levels with ``"minmax"`` only, so that nothing saturates, and not at 16 bits.
    rng : int, numpy.random.Generator or None
        Used by ``"dithered"`` alone.
    memory_limit : int or str, optional
        Bytes, or a text such as ``"2GB"``, that this may take beyond what is taken already: A is
        then read in blocks of rows, twice, as `lplr.factorize` explains. Scales of ``"mse"`` that
        rows share are fitted to some thousand rows at even distances.
    out : str or path-like, optional
        A new folder for a result in parts, which may be larger than the memory: A is read as with
        ``memory_limit``, and each part is written when it is coded. What is finished lies in
        OUT.job meanwhile: the same call, after an interrupt or a kill, goes on with the part that
        was in progress, and gives the same bytes.
    client : dask.distributed.Client, optional
        Of a cluster whose workers do the work on the rows, see `lplr.factorize`.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    Quantized, or RowParts of such with ``out``

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.

    Notes
    -----
    The naive baseline and the quantizer of Algorithm 1 of LPLR (Saha, Srivastava, Pilanci,
    NeurIPS 2023, Section 2). A constant matrix is stored exactly. Codes of several entries run
    along the rows, or, where there is one scale and at least 512 rows, down the columns, which
    makes products with vectors ten times as fast.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> q = lplr.quantize(np.array([[0.0, 1.0], [2.0, 3.0]]), bits=2)
    >>> q.to_dense()
    array([[0., 1.],
           [2., 3.]], dtype=float32)
    """
    results = results_of(out)
    streamed = streamed_source(A, memory_limit, client, always=results is out)
    if streamed is None:
        A = check_matrix(loaded(A))
    check_choice(quantizer, "quantizer", tuple(QUANTIZERS))
    check_choice(granularity, "granularity", GRANULARITIES)
    check_choice(rounding, "rounding", ("nearest", "dithered"))
    if scaling is not None:
        check_choice(scaling, "scaling", SCALINGS)
    book = get_codebook(quantizer, check_bits(bits, "bits"))
    rows = len(A) if streamed is None else streamed[0].shape[0]
    down = granularity == "tensor" and not book.entrywise and rows >= _TALL
    if streamed is not None:
        generator = check_rng(rng)
        with using(client):
            return quantize_in_passes(
                *streamed, book, granularity, scaling, rounding, generator, results, down=down
            )
    q = round_matrix(A, book, granularity, scaling, rounding, check_rng(rng), axis=int(not down))
    return constant_matrix(q.shape, book, A[0, 0], q.axis) if is_constant(A) else q


def quantize_sizes(
    shape: tuple[int, int],
    *,
    bits: float,
    quantizer: str = "uniform",
    granularity: str = "tensor",
) -> list[dict[str, Any]]:
    """What `quantize` would store with these options, at most.

    Parameters
    ----------
    shape : (n, d)
    bits, quantizer, granularity
        As in `quantize`.

    Returns
    -------
    list of one dict
        JSON-able: ``bits``, ``nbytes`` and ``bits_per_entry``.

    Examples
    --------
    >>> from lplr.algorithms.quantize import quantize_sizes
    >>> quantize_sizes((8, 8), bits=4)
    [{'bits': [4], 'nbytes': 40, 'bits_per_entry': 5.0}]
    """
    nbytes = rounding_nbytes(shape, get_codebook(quantizer, bits), granularity)
    return [
        {"bits": [bits], "nbytes": nbytes, "bits_per_entry": 8 * nbytes / (shape[0] * shape[1])}
    ]
