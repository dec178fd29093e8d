"""CALDERA: W ~ Q + L R under calibration data, all three quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lplr.coding.alternation import fit_scales, pack_factors
from lplr.coding.faithful import faithful
from lplr.coding.one_pass import one_pass
from lplr.coding.paper import constant_factors
from lplr.coding.problem import Candidate, Problem, Trace
from lplr.coding.rounding import constant_matrix, is_constant
from lplr.exceptions import InputError
from lplr.linalg.hessian import check_hessian, regularize
from lplr.linalg.least_squares import gram
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import matmul, single_threaded_blas
from lplr.planning.budget import Books, auto_book, pair
from lplr.provenance import provenance
from lplr.quantizers.base import QUANTIZERS, Codebook, get_codebook
from lplr.validation import (
    bring_into_range,
    check_bits,
    check_choice,
    check_flag,
    check_integer,
    check_matrix,
    check_pair,
    check_rank,
    check_real,
    check_rng,
    settle_seed,
)

__all__ = ["MODES", "caldera", "codebooks"]

MODES = ("default", "faithful")
_ROUNDS = {"default": 3, "faithful": 15}
_TRELLIS_RIGHT = 3  # bits of R up to which a trellis codes it


def caldera(
    W: Any,
    *,
    hessian: Any = None,
    rank: int = 64,
    q_bits: float = 2,
    factor_bits: float | tuple[float, float] = 4,
    mode: str = "default",
    n_iter: int | None = None,
    damping: float = 0.01,
    incoherence: bool = True,
    quantizer: str | None = None,
    rng: Any = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> QPlusLowRank:
    """Decompose W ~ Q + L R, so that the outputs on typical inputs change least.

    Minimises ``tr((Q + L R - W) H (Q + L R - W)^T)``, H the second moment of the inputs.

    Parameters
    ----------
    W : array_like of shape (n, d)
        Outputs x inputs, as in ``y = W x``; any real dtype and shape, never modified.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        H, its diagonal, or calibration inputs X, one a row; by default the identity.
    rank : int
        Of L R: 0 (feedback quantization alone) to min(n, d).
    q_bits : int or float
        Bits an entry of Q: 2, 3 or 4 as E8P lattice codes, 1 to 8 and 16 as scalar ones, 1 to 6
        in quarters as trellis codes.
    factor_bits : int, float or a pair of them
        Bits of an entry of L and of R: 1 to 8, or 16; in quarters as trellis codes.
    mode : {"default", "faithful"}
        ``"default"``: factors, then Q, then a refit, all by feedback; see
        `lplr.coding.one_pass`. ``"faithful"``: the alternation of paper 2 with nearest
        rounding of the factors; see `lplr.coding.faithful`.
    n_iter : int, optional
        Rounds of refitting at most, 3 by default; in faithful mode outer iterations, 15 by default
        and at least one.
    damping : float
        Share of the mean diagonal of H that is added to it. Where that does not make it positive
        definite, more is, with a warning, and recorded.
    incoherence : bool
        Rotate W and H by randomized Hadamard (or Hartley) transforms first.
    quantizer : {"e8p", "lloyd-max", "uniform", "normal-float", "trellis", ...}, optional
        Of Q; by default E8P at 2, 3 and 4 bits, else Lloyd-Max. ``"trellis"``, or ``"trellis-6"``
        to ``"trellis-14"``, codes L as well, and R up to three bits: 10 to 12 % less error at 2
        and 4 bits, in two to five times the time.
    rng : int, numpy.random.Generator or None
    callback : callable, optional
        Called after each half step with a dict of ``step``, ``iteration`` and ``error``.

    Returns
    -------
    QPlusLowRank
        ``meta["history"]`` lists the error ``sqrt(tr(E H E^T) / tr(W H W^T))`` after each half
        step, under the damped H; the object is the best of them. ``meta["damping"]`` is the
        damping used.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    HessianError
        If ``hessian`` is not a second moment.

    Notes
    -----
    Saha, Sagan, Srivastava, Goldsmith, Pilanci, NeurIPS 2024, Algorithms 1 and 2. Unlike there,
    any shape is accepted, the transforms exist for every size, and everything is stored packed. A
    constant matrix is stored exactly.

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
    W = check_matrix(W, "W")
    n, d = W.shape
    rank = check_rank(rank, W.shape, low=0)
    check_choice(mode, "mode", MODES)
    q_book, books = codebooks(q_bits, quantizer, factor_bits, mode)
    rounds = _ROUNDS[mode] if n_iter is None else check_integer(n_iter, "n_iter", 0)
    damping = check_real(damping, "damping", strict=False)
    check_flag(incoherence, "incoherence")
    if callback is not None and not callable(callback):
        raise InputError(f"callback: must be callable, found {callback!r}")
    rng = settle_seed(rng)
    generator = check_rng(rng)
    raw = check_hessian(hessian, d)
    left = right = None
    with single_threaded_blas():
        H, used = regularize(raw, damping)
        del raw
        if is_constant(W):
            history = [{"step": "Q", "iteration": 0, "error": 0.0}]
            if callback is not None:
                callback(dict(history[0]))
            backbone, factors = _constant(W, rank, q_book, books)
        else:
            unit, W = bring_into_range(W)
            if incoherence:
                left, right = (RandomizedTransform.sample(size, generator) for size in (n, d))
                W = right.apply(left.apply(W, axis=0), axis=1)
                H = right.two_sided(H)
            problem = Problem(W, H, rank, q_book, books)
            trace = Trace(problem, callback)
            (one_pass if mode == "default" else faithful)(problem, trace, rounds, generator)
            assert trace.best is not None
            history = trace.history
            backbone, factors = _packed(problem, trace.best, unit)
    meta = {
        "method": "caldera",
        "mode": mode,
        "damping": used,
        "history": history,
        **provenance(rng),
    }
    return QPlusLowRank(backbone, factors, left, right, meta=meta)


def _constant(
    W: np.ndarray, rank: int, q_book: Codebook, books: Books
) -> tuple[Quantized, LowRank | None]:
    """A matrix of one value, exactly: as the offset of Q."""
    backbone = constant_matrix(W.shape, q_book, np.full((1, 1), W[0, 0], np.float32), axis=0)
    return backbone, constant_factors(W.shape, 0.0, rank, books) if rank else None


def codebooks(
    q_bits: float,
    quantizer: str | None,
    factor_bits: float | tuple[float, float],
    mode: str,
) -> tuple[Codebook, Books]:
    """The codebooks of Q and of L and R that the arguments of `caldera` stand for.

    Parameters
    ----------
    q_bits, quantizer, factor_bits, mode
        As in `caldera`.

    Returns
    -------
    q_book : Codebook
    books : (Codebook, Codebook)

    Raises
    ------
    InputError
        If a width is not offered.
    """
    q_bits = check_bits(q_bits, "q_bits")
    if quantizer is None:
        quantizer = "e8p" if q_bits in (2, 3, 4) else "lloyd-max"
    check_choice(quantizer, "quantizer", tuple(QUANTIZERS))
    q_book = get_codebook(quantizer, _offered(q_bits, "q_bits", quantizer))
    trellis = quantizer if quantizer.startswith("trellis") else None
    if trellis and mode == "faithful":
        raise InputError(f"quantizer: {quantizer!r} is for mode='default', not for 'faithful'")
    left, right = check_pair(factor_bits, "factor_bits")
    if trellis:
        # R is rounded under a Hessian on either side if its code is scalar: above three bits
        # that is worth more than the trellis.
        scalar = isinstance(right, (int, np.integer)) and right > _TRELLIS_RIGHT
        return q_book, (
            _factor_book(left, trellis),
            _factor_book(right, "lloyd-max" if scalar else trellis),
        )
    left, right = (_offered(bits, "factor_bits", "lloyd-max") for bits in (left, right))
    if mode == "faithful":
        lattice = left in (2, 3, 4) and right in (2, 3, 4)
        return q_book, pair(("e8p" if lattice else "lloyd-max",) * 2, (left, right))
    return q_book, (auto_book(left), get_codebook("lloyd-max", right))


def _factor_book(bits: Any, quantizer: str) -> Codebook:
    """The codebook of a factor beside a trellis of Q; what is too fine for one is scalar."""
    wide = isinstance(bits, (int, np.integer)) and bits > QUANTIZERS[quantizer][0][-1]
    quantizer = "lloyd-max" if wide else quantizer
    return get_codebook(quantizer, _offered(bits, "factor_bits", quantizer))


def _offered(bits: float, name: str, quantizer: str) -> float:
    """A width of that quantizer; the error calls it by the name of the argument."""
    bits = check_bits(bits, name)
    widths = QUANTIZERS[quantizer][0]
    if bits not in widths:
        raise InputError(f"{name}: {bits} is not offered by {quantizer!r}; use one of {widths}")
    return bits


def _packed(problem: Problem, best: Candidate, unit: float) -> tuple[Quantized, LowRank | None]:
    """The candidate as packed objects, the scales of the factors fitted once more."""
    book = problem.q_book
    backbone = Quantized(
        shape=problem.W.shape,
        quantizer=book.name,
        bits=book.bits,
        codes=book.pack(best.q_codes, best.axis),
        scale=np.full((1, 1), best.q_scale * unit, np.float32),
        axis=best.axis,
    )
    if best.left is None or best.right is None:
        return backbone, None
    # The error under H is a quadratic in the scales of the rows of R, as it is without H.
    L, R = best.left.values, best.right.values
    RH = matmul(R, problem.H.astype(np.float32))
    B = matmul(L, problem.W - best.Q)
    scale = fit_scales(best.right, gram(L), B, RH)
    factors = pack_factors(best.left, best.right, scale * np.float32(unit), problem.books)
    return backbone, factors
