"""CALDERA: W ~ Q + L R under calibration data, all three quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.coding.caldera import CalderaProblem, Trace
from lplr.coding.constant import constant_factors, constant_matrix, is_constant
from lplr.coding.factor import CodebookPair
from lplr.coding.faithful import faithful
from lplr.coding.one_pass import one_pass
from lplr.coding.row_feedback import RowFeedback, packed_blocks
from lplr.exceptions import InputError
from lplr.linalg.hessian import DAMPING, regularize, regularized_output
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.planning.codebooks import caldera_codebooks
from lplr.planning.ranks import RankPlan
from lplr.planning.row_blocks import mix_rows
from lplr.planning.sizes import BLOCK_SCALES, transforms_nbytes
from lplr.progress import Progress
from lplr.provenance import recorded
from lplr.quantizers.base import Codebook
from lplr.sources import loaded
from lplr.validation.arguments import check_choice, check_flag, check_integer, check_rank, check_rng
from lplr.validation.matrices import bring_into_range, check_matrix

__all__ = ["MODES", "caldera", "caldera_sizes"]

MODES = {"default": one_pass, "faithful": faithful}
_ROUNDS = {"default": 3, "faithful": 15}


@recorded()
def caldera(
    W: Any,
    *,
    hessian: Any = None,
    output_hessian: Any = None,
    rank: int = 64,
    q_bits: float = 2,
    factor_bits: float | tuple[float, float] = 4,
    mode: str = "default",
    n_iter: int | None = None,
    damping: float = DAMPING,
    incoherence: bool = True,
    quantizer: str | None = None,
    rng: Any = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    progress: Progress = False,
) -> QPlusLowRank:
    """Decompose W ~ Q + L R, so that the outputs on typical inputs change least.

    Minimises ``tr((Q + L R - W) H (Q + L R - W)^T)``, H the second moment of the inputs, or with
    a second moment G at the outputs ``tr(G (Q + L R - W) H (Q + L R - W)^T)``.

    Parameters
    ----------
    W : array_like of shape (n, d)
        Outputs x inputs, as in ``y = W x``; any real dtype and shape, never modified.
        Also the name of a file, a memmap, or an array of h5py, zarr or dask, see
        `lplr.sources.open_source`.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        H, its diagonal, or calibration inputs X, one a row; by default the identity.
    output_hessian : array_like of shape (n, n), (n,) or (m, n), optional
        G, the second moment of the gradients of a loss by the outputs, its diagonal, or gradients,
        one a row; by default the identity.
    rank : int
        Rank of L R: 0 (feedback quantization alone) to min(n, d).
    q_bits : int or float
        Bits per entry of Q: 2, 3 or 4 as E8P lattice codes, 1 to 8 and 16 as scalar ones, 1 to 6
        in quarters as trellis codes.
    factor_bits : int, float or a pair of them
        Bits per entry of L and of R: 1 to 8, or 16; in quarters as trellis codes.
    mode : {"default", "faithful"}
        ``"default"``: factors, then Q, then a refit, all by feedback; see
        `lplr.coding.one_pass`. ``"faithful"``: the alternation of the paper with nearest
        rounding of the factors; see `lplr.coding.faithful`.
    n_iter : int, optional
        Rounds of refitting at most, 3 by default; in faithful mode outer iterations, 15 by default
        and at least one.
    damping : float
        Share of the mean diagonal of H that is added to it, and of that of G. Where that does not
        make it positive definite, more is, with a warning, and recorded.
    incoherence : bool
        Rotate W and H by randomized Hadamard (or Hartley) transforms first.
    quantizer : {"e8p", "lloyd-max", "uniform", "normal-float", "trellis", ...}, optional
        The code of Q; by default E8P at 2, 3 and 4 bits, else Lloyd-Max. ``"trellis"``, or
        ``"trellis-6"`` to ``"trellis-14"``, codes L as well, and R up to three bits: 10 to 12 %
        less error at 2 and 4 bits, in two to five times the time.
    rng : int, numpy.random.Generator or None
    callback : callable, optional
        Called after each half step with a dict of ``step``, ``iteration`` and ``error``.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    QPlusLowRank
        ``meta["history"]`` lists the error ``sqrt(tr(G E H E^T) / tr(G W H W^T))`` after each
        half step, under the damped weights. The object is the best of them; then the scales of R
        are fitted once more, which can only lower its error. ``meta["damping"]`` is the damping of
        H, ``meta["output_damping"]`` that of G, and ``meta["call"]`` repeats the call.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    HessianError
        If ``hessian`` or ``output_hessian`` is not a second moment.

    Notes
    -----
    Saha, Sagan, Srivastava, Goldsmith, Pilanci, NeurIPS 2024, Algorithms 1 and 2. Unlike there,
    any shape is accepted, the transforms exist for every size, and everything is stored packed. A
    constant matrix is stored exactly. The paper has no G; a multiple of the identity changes
    nothing. With another one, rows are coded in blocks, each after the errors of those before it
    were fed back (`lplr.theory.bounds.two_sided_expected_loss`), on one thread. L and R are the
    least squares under both weights: the best L for a given R, ``A H R^T (R H R^T)^-1`` for
    A = W - Q, is the same under every G, and the best R for a given L, ``(L^T G L)^-1 L^T G A``,
    under every H; errors of their codes weigh under both, on L under G and R H R^T, on R under
    L^T G L and H. In mode "default" the first factors, which a Q follows, are those of W itself:
    what Q loses grows with the mean square of what it rounds, whatever the weights. Errors of Q
    that a refit of L or of R can correct, where these have fine codes, weigh little.

    Examples
    --------
    >>> import lplr
    >>> layer = lplr.datasets.layer("minilm_l2_query")
    >>> g = lplr.caldera(layer.W, hessian=layer.H, rank=16, rng=0)
    >>> round(g.bits_per_entry, 2)
    2.34
    >>> g.relative_error(layer.W, layer.H) < 0.12
    True
    """
    W = check_matrix(loaded(W, "W"), "W")
    n, d = W.shape
    rank = check_rank(rank, W.shape, low=0)
    check_choice(mode, "mode", tuple(MODES))
    q_book, books = caldera_codebooks(q_bits, quantizer, factor_bits, mode)
    rounds = _ROUNDS[mode] if n_iter is None else check_integer(n_iter, "n_iter", 0)
    check_flag(incoherence, "incoherence")
    if callback is not None and not callable(callback):
        raise InputError(f"callback: must be callable, found {callback!r}")
    generator = check_rng(rng)
    left = right = None
    weights = np.ones(d) if hessian is None else hessian
    H, used = regularize(weights, damping=damping, columns=d)
    meta: dict[str, Any] = {"damping": used}
    G = None
    if output_hessian is not None:
        G, meta["output_damping"] = regularized_output(output_hessian, n, damping=damping)
    if is_constant(W):
        history: list[dict[str, object]] = [{"step": "Q", "iteration": 0, "error": 0.0}]
        if callback is not None:
            callback(dict(history[0]))
        backbone, factors = _constant(W, rank, q_book, books)
    else:
        unit, W = bring_into_range(W)
        if incoherence:
            left, right = (RandomizedTransform.sample(size, generator) for size in (n, d))
            left, W = mix_rows(right.apply(W, axis=1), left)
            H = right.two_sided(H, overwrite=True)
            G = None if G is None else left.two_sided(G)
        rows = None if G is None else RowFeedback(G)
        problem = CalderaProblem(W, H, rank, q_book, books, rows)
        trace = Trace(problem, callback)
        MODES[mode](problem, trace, rounds, generator)
        assert trace.best is not None
        history = trace.history
        backbone, factors = problem.pack(trace.best, unit)
    meta["history"] = history
    return QPlusLowRank(backbone, factors, left, right, meta=meta)


def _constant(
    W: np.ndarray, rank: int, q_book: Codebook, books: CodebookPair
) -> tuple[Quantized, LowRank | None]:
    """A matrix of one value, exactly: as the offset of Q."""
    backbone = constant_matrix(W.shape, q_book, W[0, 0], axis=0)
    return backbone, constant_factors(W.shape, 0.0, rank, books) if rank else None


def caldera_sizes(
    shape: tuple[int, int],
    *,
    output_hessian: Any = None,
    rank: int = 64,
    q_bits: float = 2,
    factor_bits: float | tuple[float, float] = 4,
    mode: str = "default",
    incoherence: bool = True,
    quantizer: str | None = None,
) -> list[dict[str, Any]]:
    """What `caldera` would store with these options.

    Parameters
    ----------
    shape : (n, d)
    output_hessian : optional
        Anything but None: with one that is no multiple of the identity. L as a trellis code may
        then take up to four bytes less for each 48 rows.
    rank, q_bits, factor_bits, mode, incoherence, quantizer
        As in `caldera`.

    Returns
    -------
    list of one dict
        JSON-able: ``rank``, ``quantizers``, ``bits``, ``nbytes`` and ``bits_per_entry``.

    Raises
    ------
    InputError
        As `caldera`.

    Examples
    --------
    >>> from lplr.algorithms.caldera import caldera_sizes
    >>> round(caldera_sizes((384, 384), rank=16)[0]["bits_per_entry"], 2)
    2.34
    """
    rank = check_rank(rank, shape, low=0)
    check_choice(mode, "mode", tuple(MODES))
    q_book, books = caldera_codebooks(q_bits, quantizer, factor_bits, mode)
    n, d = shape
    nbytes = 4 + (q_book.nbytes(d, n) if mode == "faithful" else q_book.nbytes(n, d))
    nbytes += transforms_nbytes(n) if check_flag(incoherence, "incoherence") else 0
    nbytes += RankPlan(rank, books, BLOCK_SCALES).nbytes(shape) if rank else 0
    if output_hessian is not None and mode == "default":
        for book, vectors in ((q_book, d), *([(books[0], rank)] if rank else [])):
            blocks = [4 + book.nbytes(b.stop - b.start, vectors) for b in packed_blocks(book, n)]
            nbytes += sum(blocks) - (4 + book.nbytes(n, vectors))
    used = (q_book, *books)
    return [
        {
            "rank": rank,
            "quantizers": [book.name for book in used],
            "bits": [book.bits for book in used],
            "nbytes": nbytes,
            "bits_per_entry": 8 * nbytes / (n * d),
        }
    ]
