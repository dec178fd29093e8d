"""The ways to spend a budget, ranked by predicted error.

Four kinds compete: low-rank factors alone, a backbone alone, a backbone after low-rank factors,
and the matrix rounded as it is, which nothing beats where its entries are few values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from lplr.algorithms.backbone import Columns, Pivots
from lplr.algorithms.budget import Books
from lplr.algorithms.predict import Curve, Spectrum, backbone_curve, ladder, worthwhile
from lplr.algorithms.rounding import round_matrix
from lplr.algorithms.waterfill import Block, distribute
from lplr.exceptions import BudgetError
from lplr.quantizers.base import Codebook, get_codebook

__all__ = ["Choice", "Situation", "choices", "smallest"]

SEEDS = 16  # bytes of the two transforms of a backbone
_FACTOR_SCALES = {"per_rank": 1, "once": 1}
_SAMPLE = 1 << 16  # entries on which plain rounding is tried
_ROUNDINGS = (("uniform", "minmax"), ("lloyd-max", "mse"))


@dataclass(frozen=True)
class Situation:
    """What is to be compressed, as far as predictions need it.

    Parameters
    ----------
    W : ndarray of shape (n, d), float32
    H : ndarray of shape (d, d), float64, or None
        Regularised; None is the identity. Not rotated.
    pivots : Pivots
        Of the rotated H.
    spectrum : Spectrum
        Of W.
    norm : float
        ``tr(W H W^T)``.
    nbytes : float
        The budget.
    effort : str
    """

    W: np.ndarray
    H: np.ndarray | None
    pivots: Pivots
    spectrum: Spectrum
    norm: float
    nbytes: float
    effort: str


@dataclass(frozen=True)
class Choice:
    """One way to spend the budget.

    Parameters
    ----------
    kind : {"low-rank", "backbone", "backbone + low-rank", "rounding"}
    predicted : float
        Relative error.
    blocks : tuple of Block
        Components of L R.
    groups : tuple of Columns
        Of the backbone.
    rotated : bool
        Whether the backbone lies in rotated coordinates.
    rounding : (str, int, str, str), optional
        Quantizer, bits, granularity and scaling.
    """

    kind: str
    predicted: float
    blocks: tuple[Block, ...] = ()
    groups: tuple[Columns, ...] = ()
    rotated: bool = False
    rounding: tuple[str, int, str, str] | None = field(default=None)

    def work(self, shape: tuple[int, int]) -> float:
        """Entries to code once: how choices compare in time."""
        n, d = shape
        rank = self.blocks[-1].stop if self.blocks else 0
        return rank * (n + d) + (n * d if self.groups else 0)

    def describe(self) -> dict[str, object]:
        """What a record of the choice says, JSON-able."""
        out: dict[str, object] = {"kind": self.kind, "predicted": self.predicted}
        if self.groups:
            out["backbone"] = [
                {"columns": g.stop - g.start, "quantizer": g.book.name, "bits": g.book.bits}
                for g in self.groups
            ]
        if self.blocks:
            out["rank"] = self.blocks[-1].stop
            out["factors"] = [
                {
                    "components": b.stop - b.start,
                    "quantizers": [book.name for book in b.books],
                    "bits": [book.bits for book in b.books],
                }
                for b in self.blocks
            ]
        if self.rounding is not None:
            names = ("quantizer", "bits", "granularity", "scaling")
            out |= dict(zip(names, self.rounding, strict=True))
        return out


def choices(situation: Situation) -> list[Choice]:
    """All kinds at the best use of the budget that is predicted for each, best first.

    Parameters
    ----------
    situation : Situation

    Returns
    -------
    list of Choice

    Raises
    ------
    BudgetError
        If nothing fits; the message names the smallest budget that something fits.
    """
    n, d = situation.W.shape
    left, right = ladder(situation.effort, n), ladder(situation.effort, d)
    pairs = worthwhile(list(product(left, right)), (n, d))
    factors = situation.spectrum.curve(pairs)
    found = [
        *_low_rank(situation, pairs),
        *_backbones(situation, left, factors, pairs),
        *_rounded(situation),
    ]
    if not found:
        least = 1.001 * 8 * smallest((n, d)) / (n * d)
        raise BudgetError(
            f"bits_per_entry: nothing fits at shape {(n, d)}; use at least {least:.4g}"
        )
    return sorted(found, key=lambda choice: choice.predicted)


def smallest(shape: tuple[int, int]) -> int:
    """Bytes of the smallest thing that can be stored at a shape.

    Parameters
    ----------
    shape : (n, d)

    Returns
    -------
    int
    """
    n, d = shape
    book = get_codebook("lloyd-max", 1)
    return min(book.nbytes(n, 1) + book.nbytes(d, 1) + 8, book.nbytes(n, d) + 4)


def _relative(loss: float, norm: float) -> float:
    return float(np.sqrt(loss / norm)) if norm > 0 else 0.0


def _low_rank(situation: Situation, pairs: list[Books]) -> list[Choice]:
    spectrum = situation.spectrum
    try:
        blocks = distribute(spectrum.s, spectrum.shape, situation.nbytes, pairs, **_FACTOR_SCALES)
    except BudgetError:
        return []
    # Without weights an error has the mean weight, which is 1.
    predicted = _relative(spectrum.loss_of(blocks), situation.norm)
    return [Choice("low-rank", predicted, blocks=tuple(blocks))]


def _backbones(
    situation: Situation, books: list[Codebook], factors: Curve, pairs: list[Books]
) -> list[Choice]:
    """A backbone alone, rotated and (where the seeds weigh) not, and one after factors."""
    n, d = situation.W.shape
    energy = situation.spectrum.energy
    found = []
    for rotated in (True, False) if situation.nbytes < 100 * SEEDS else (True,):
        room = situation.nbytes - SEEDS * rotated
        if books[0].nbytes(n, d) + 4 > room:
            continue
        curve = backbone_curve(situation.pivots, n, books, room)
        share = curve.loss / (n * d * situation.norm) if situation.norm > 0 else 0 * curve.loss
        groups = tuple(situation.pivots.groups(n, books, room))
        found.append(Choice("backbone", float(np.sqrt(energy * share[-1])), (), groups, rotated))
        if not rotated:
            continue
        both = Curve(curve.nbytes, np.maximum(share, 1e-300))
        losses = factors.loss[1:] * both.at(room - factors.nbytes[1:])
        if not len(losses) or not np.isfinite(losses.min()):
            continue
        best = int(np.argmin(losses))
        spent = min(1.02 * factors.nbytes[1 + best], room - curve.nbytes[0])
        try:
            blocks = distribute(situation.spectrum.s, (n, d), float(spent), pairs, **_FACTOR_SCALES)
        except BudgetError:
            continue
        used = blocks_size(blocks, (n, d))
        groups = tuple(situation.pivots.groups(n, books, room - used))
        loss = situation.spectrum.loss_of(blocks) * float(both.at(np.array(room - used)))
        kind = "backbone + low-rank"
        found.append(Choice(kind, float(np.sqrt(loss)), tuple(blocks), groups, rotated))
    return found


def blocks_size(blocks: list[Block], shape: tuple[int, int]) -> int:
    """Bytes of factors in blocks, scales included."""
    sizes = [
        sum(book.nbytes(side, b.stop - b.start) for side, book in zip(shape, b.books, strict=True))
        + 4 * (b.stop - b.start + 1)
        for b in blocks
    ]
    return sum(sizes)


def _rounded(situation: Situation) -> list[Choice]:
    """Each kind of plain rounding at the largest width that fits, tried on a sample of rows."""
    W = situation.W
    n, d = W.shape
    rows = np.unique(np.linspace(0, n - 1, max(1, min(n, _SAMPLE // d))).astype(int))
    sample = np.ascontiguousarray(W[rows])
    H = None if situation.H is None else situation.H.astype(np.float32)
    energy = _weighted(sample, H)
    found = []
    for (name, scaling), granularity in product(_ROUNDINGS, ("tensor", "row", "column")):
        scales = 8 * {"tensor": 1, "row": n, "column": d}[granularity]
        widths = [
            bits
            for bits in range(1, 9)
            if get_codebook(name, bits).nbytes(d, n) + scales <= situation.nbytes
        ]
        if not widths:
            continue
        q = round_matrix(sample, get_codebook(name, widths[-1]), granularity, scaling)
        predicted = _relative(_weighted(sample - q.to_dense(), H), energy)
        how = (name, widths[-1], granularity, scaling)
        found.append(Choice("rounding", predicted, rounding=how))
    return found


def _weighted(E: np.ndarray, H: np.ndarray | None) -> float:
    return float(np.vdot(E if H is None else E @ H, E))
