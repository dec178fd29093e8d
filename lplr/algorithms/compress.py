"""One call that spends a budget of bits best: factors, a backbone, or both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lplr.coding.backbone import Backbone, Pivots
from lplr.coding.paper import constant_factors
from lplr.coding.rounding import constant_matrix, is_constant, round_matrix
from lplr.coding.successive import successive_factors
from lplr.coding.weighted import weighted_factors
from lplr.exceptions import BudgetError
from lplr.linalg.hessian import check_hessian, regularize
from lplr.linalg.svd import truncated_svd
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.parallel import single_threaded_blas
from lplr.planning.predict import EFFORTS
from lplr.planning.search import Choice, choices
from lplr.planning.situation import Situation
from lplr.provenance import provenance
from lplr.quantizers.base import get_codebook
from lplr.validation import (
    bring_into_range,
    check_choice,
    check_matrix,
    check_real,
    check_rng,
    settle_seed,
)

__all__ = ["compress", "predictions"]

_DAMPING = 0.01
# Choices of another kind are tried as well whose prediction is within the first factor of the best
# one and whose work is within the second; for "best" all of the first factor.
_TRIED: dict[str, tuple[tuple[float, float], ...]] = {
    "fast": (),
    "default": ((1.03, 0.7), (1.01, 2.0)),
    "best": ((1.1, np.inf),),
}
_SURPRISE = 1.1  # so much worse than a prediction is a reason to try the choice behind it
_SWEEPS = {"fast": 0, "default": 1, "best": 2}


def compress(
    A: Any,
    *,
    bits_per_entry: float,
    hessian: Any = None,
    rng: Any = None,
    effort: str = "default",
) -> LowRank | QPlusLowRank | Quantized:
    """Compress a matrix to a budget so that it loses least.

    Predicts, from the singular values, the Hessian and the errors of the codes, what the budget
    buys as low-rank factors, as a quantized backbone, as a backbone after factors, and by plain
    rounding, with the rates, ranks and widths that are best for each; carries out the most
    promising and returns the best.

    Parameters
    ----------
    A : array_like of shape (n, d)
        Any real dtype and memory order; never modified.
    bits_per_entry : float
        Stored bits over n d, at most; everything that a decoder needs counts.
    hessian : array_like of shape (d, d), (d,) or (m, d), optional
        Second moment of the inputs of the layer A, its diagonal, or inputs, one a row; the error
        is then ``tr(E H E^T)``, H damped by 1 % of its mean diagonal. By default ``|E|_F^2``.
    rng : int, numpy.random.Generator or None
    effort : {"fast", "default", "best"}
        ``"fast"`` and ``"default"``: trellis codes of 8 and 10 state bits; one choice is carried
        out, or a second one too where the predictions are close. ``"best"``: 12 state bits, and
        more is tried.

    Returns
    -------
    LowRank, QPlusLowRank or Quantized
        ``meta["choice"]`` says what was chosen, with its predicted and its measured error;
        ``meta["others"]`` the same of the other choices, measured where they were carried out.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    BudgetError
        If nothing fits; the message names the smallest budget that something fits.
    HessianError
        If ``hessian`` is not a second moment.

    Notes
    -----
    Predictions: `lplr.planning.predict`; factors: `lplr.coding.successive`, under H
    `lplr.coding.weighted`; backbone: `lplr.coding.backbone`, which also says how it guards
    against calibration inputs that are few. A constant matrix is stored exactly.

    Examples
    --------
    >>> import lplr
    >>> A = lplr.datasets.synthetic(200, 100, "power", exponent=1.0, rng=0)
    >>> f = lplr.compress(A, bits_per_entry=1.5, rng=0)
    >>> type(f).__name__, f.bits_per_entry <= 1.5
    ('LowRank', True)
    >>> layer = lplr.datasets.layer("minilm_l2_query")
    >>> g = lplr.compress(layer.W, hessian=layer.H, bits_per_entry=3, rng=0)
    >>> type(g).__name__, g.relative_error(layer.W, layer.H) < 0.08
    ('QPlusLowRank', True)
    """
    A, raw, settings, generator = _checked(A, bits_per_entry, hessian, rng, effort)
    nbytes = settings["bits_per_entry"] * A.size / 8
    with single_threaded_blas():
        H, damping = (None, None) if raw is None else regularize(raw, _DAMPING)
        settings["damping"] = damping
        if is_constant(A):
            f = _constant(A, nbytes)
            choice = {"kind": "constant", "predicted": 0.0, "error": 0.0}
            return replace(f, meta={**settings, "choice": choice, "others": []})
        unit, W = bring_into_range(A)
        task = _Task(W, H, nbytes, effort, generator)
        best, records = task.best()
    choice, *others = records
    return replace(best.scaled(unit), meta={**settings, "choice": choice, "others": others})


def predictions(
    A: Any,
    *,
    bits_per_entry: float,
    hessian: Any = None,
    rng: Any = None,
    effort: str = "default",
) -> list[dict[str, Any]]:
    """What `compress` would choose from, best first; nothing is coded.

    Parameters
    ----------
    A, bits_per_entry, hessian, rng, effort
        As in `compress`.

    Returns
    -------
    list of dict
        JSON-able: the kind, its ranks and widths, the predicted error, and its size.

    Raises
    ------
    InputError, BudgetError, HessianError
        As `compress`.
    """
    A, raw, settings, generator = _checked(A, bits_per_entry, hessian, rng, effort)
    nbytes = settings["bits_per_entry"] * A.size / 8
    with single_threaded_blas():
        if is_constant(A):
            found = [({"kind": "constant", "predicted": 0.0}, _constant(A, nbytes).nbytes)]
        else:
            H = None if raw is None else regularize(raw, _DAMPING)[0]
            task = _Task(bring_into_range(A)[1], H, nbytes, effort, generator)
            found = [(choice.describe(), choice.nbytes(A.shape)) for choice in task.choices]
    return [
        {**record, "nbytes": size, "bits_per_entry": 8 * size / A.size} for record, size in found
    ]


def _checked(
    A: Any, bits_per_entry: Any, hessian: Any, rng: Any, effort: Any
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any], np.random.Generator]:
    """The matrix, the raw Hessian, what is to be recorded of the arguments, and a generator."""
    A = check_matrix(A)
    bits = check_real(bits_per_entry, "bits_per_entry")
    check_choice(effort, "effort", tuple(EFFORTS))
    rng = settle_seed(rng)
    generator = check_rng(rng)
    raw = None if hessian is None else check_hessian(hessian, A.shape[1])
    settings = {"method": "compress", "bits_per_entry": bits, "effort": effort}
    return A, raw, {**settings, **provenance(rng)}, generator


def _constant(A: np.ndarray, nbytes: float) -> LowRank | Quantized:
    """A matrix of one value, exactly: as the offset of codes that stand for nothing."""
    book = get_codebook("lloyd-max", 1)
    n, d = A.shape
    if book.nbytes(d, n) + 8 <= nbytes:
        return constant_matrix(A.shape, book, np.full((1, 1), A[0, 0], np.float32), axis=1)
    f = constant_factors(A.shape, float(A[0, 0]), 1, (book, book))
    if f.nbytes > nbytes:
        least = 1.001 * 8 * min(f.nbytes, book.nbytes(d, n) + 8) / A.size
        raise BudgetError(
            f"bits_per_entry: nothing fits at shape {A.shape}; use at least {least:.4g}"
        )
    return f


class _Task:
    """A budget for what there is to compress."""

    def __init__(
        self,
        W: np.ndarray,
        H: np.ndarray | None,
        nbytes: float,
        effort: str,
        rng: np.random.Generator,
    ) -> None:
        first, second = rng.integers(2**63, size=2)
        self.situation = Situation(W, H, int(first))
        self.seed = int(second)  # of the factors: no choice depends on which others were tried
        self.nbytes, self.effort = nbytes, effort
        self.choices = choices(self.situation, nbytes, effort)

    def best(self) -> tuple[Any, list[dict[str, Any]]]:
        """The best of what was tried, and a record of every choice, its own first."""
        records = [choice.describe() for choice in self.choices]
        best: tuple[float, int, Any] | None = None
        for i, choice in enumerate(self.choices):
            failed = best is not None and best[0] > _SURPRISE * choice.predicted
            if i and not failed and not self._close(choice):
                continue
            f = self.run(choice)
            error = self.situation.relative(self.situation.loss(self.situation.W - f.to_dense()))
            records[i] |= {"error": error, "bits_per_entry": f.bits_per_entry}
            if best is None or error < best[0]:
                best = error, i, f
        assert best is not None
        return best[2], [records.pop(best[1]), *records]

    def _close(self, choice: Choice) -> bool:
        """Whether a second choice is worth its time."""
        first, shape = self.choices[0], self.situation.shape
        # Predictions for backbones, with factors or without, err alike.
        if self.effort != "best" and bool(choice.groups) == bool(first.groups):
            return False
        loss = choice.predicted / first.predicted if first.predicted > 0 else np.inf
        work = choice.work(shape) / max(first.work(shape), 1)
        return any(loss <= most and work <= longest for most, longest in _TRIED[self.effort])

    def run(self, choice: Choice) -> LowRank | QPlusLowRank | Quantized:
        """Carry a choice out."""
        situation = self.situation
        if choice.rounding is not None:
            name, bits, granularity, scaling = choice.rounding
            return round_matrix(situation.W, get_codebook(name, bits), granularity, scaling)
        if not choice.groups:
            return self.factors(situation.W, choice)
        if choice.rotated:
            W, pivots = situation.rotated, situation.pivots
            left, right = situation.transforms
        else:
            W, left, right = situation.W, None, None
            pivots = Pivots(situation.H, situation.shape[1])
        factors = None
        if choice.weighted:
            spectrum = situation.weighted(self.nbytes)
            assert spectrum is not None
            rng = np.random.default_rng([self.seed, 1])
            factors = weighted_factors(spectrum, list(choice.blocks), rng)
        elif choice.blocks:
            factors = self.factors(W, choice)
        rest = W if factors is None else W - factors.to_dense()
        Q = Backbone.of(rest, pivots, list(choice.groups), sweeps=_SWEEPS[self.effort])
        return QPlusLowRank(Q.pack(), factors, left, right)

    def factors(self, W: np.ndarray, choice: Choice) -> LowRank:
        """Low-rank factors of W in the blocks of a choice."""
        blocks = list(choice.blocks)
        svd = truncated_svd(W, blocks[-1].stop, rng=self.seed)
        return successive_factors(W, svd, blocks, np.random.default_rng([self.seed, 1]))
