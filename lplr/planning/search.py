"""The ways to spend a budget, ranked by predicted error.

Four kinds compete: low-rank factors alone, a backbone alone, a backbone after low-rank factors,
and the matrix rounded as it is, which nothing beats where its entries are few values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from lplr.coding.backbone import Columns, Pivots, size_of
from lplr.coding.rounding import round_matrix
from lplr.exceptions import BudgetError
from lplr.planning.budget import Books
from lplr.planning.predict import (
    Curve,
    backbone_curve,
    best_split,
    half_steps,
    ladder,
    worthwhile,
)
from lplr.planning.situation import Situation
from lplr.planning.waterfill import Block, distribute, expected_loss
from lplr.quantizers.base import get_codebook

__all__ = ["SEEDS", "Choice", "choices", "size_of_blocks", "smallest"]

SEEDS = 16  # bytes of the two transforms of a backbone
_FACTOR_SCALES = {"per_rank": 1, "once": 1}
_SHARES = np.array([0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 1.0])  # for a backbone
_LOW = 1.0  # bits an entry from which on factors under H never won
_SAMPLE = 1 << 16  # entries on which plain rounding is tried
_ROUNDINGS = (("uniform", "minmax"), ("uniform", "mse"), ("lloyd-max", "mse"))


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
        Whether it all lies in rotated coordinates.
    weighted : bool
        Whether the factors are fitted under H.
    rounding : (str, int, str, str), optional
        Quantizer, bits, granularity and scaling.
    """

    kind: str
    predicted: float
    blocks: tuple[Block, ...] = ()
    groups: tuple[Columns, ...] = ()
    rotated: bool = False
    weighted: bool = False
    rounding: tuple[str, int, str, str] | None = field(default=None)

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes that will be stored.

        Parameters
        ----------
        shape : (n, d)

        Returns
        -------
        int
        """
        if self.rounding is not None:
            name, bits, granularity, _ = self.rounding
            return _rounded_nbytes(shape, name, bits, granularity)
        return (
            size_of_blocks(list(self.blocks), shape)
            + size_of(list(self.groups), shape[0])
            + SEEDS * self.rotated
        )

    def work(self, shape: tuple[int, int]) -> int:
        """Entries to code, about: the two factors nine times each, a backbone twice.

        Trellis codes take five instead of nine; what compares two choices is their ratio.

        Parameters
        ----------
        shape : (n, d)

        Returns
        -------
        int
        """
        n, d = shape
        rank = self.blocks[-1].stop if self.blocks else 0
        return 9 * rank * (n + d) + 2 * n * d * bool(self.groups)

    def describe(self) -> dict[str, object]:
        """What a record of the choice says, JSON-able."""
        out: dict[str, object] = {"kind": self.kind, "predicted": self.predicted}
        if self.groups and not self.weighted:
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


def choices(situation: Situation, nbytes: float, effort: str) -> list[Choice]:
    """All kinds at the best use of the budget that is predicted for each, best first.

    Parameters
    ----------
    situation : Situation
    nbytes : float
        The budget.
    effort : {"fast", "default", "best"}

    Returns
    -------
    list of Choice

    Raises
    ------
    BudgetError
        If nothing fits; the message names the smallest budget that something fits.
    """
    n, d = situation.shape
    pairs = half_steps(effort, (n, d))
    if nbytes < smallest((n, d)):
        least = 1.001 * 8 * smallest((n, d)) / (n * d)  # still enough with four digits
        raise BudgetError(
            f"bits_per_entry: nothing fits at shape {(n, d)}; use at least {least:.4g}"
        )
    found = [
        *(_weighted(situation, nbytes, effort) or _low_rank(situation, nbytes, pairs)),
        *_backbones(situation, nbytes, effort, pairs),
        *_rounded(situation, nbytes),
    ]
    return sorted(found, key=lambda choice: choice.predicted)


def smallest(shape: tuple[int, int]) -> int:
    """Bytes of the smallest that is stored at a shape: rank 1, or all columns, at one bit.

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


def _low_rank(situation: Situation, nbytes: float, pairs: list[Books]) -> list[Choice]:
    spectrum = situation.spectrum
    try:
        blocks = distribute(spectrum.s, spectrum.shape, nbytes, pairs, **_FACTOR_SCALES)
    except BudgetError:
        return []
    # Without weights an error has the mean weight, which is 1.
    predicted = situation.relative(
        expected_loss(spectrum.s, spectrum.shape, spectrum.energy, blocks)
    )
    return [Choice("low-rank", predicted, blocks=tuple(blocks))]


def _weighted(situation: Situation, nbytes: float, effort: str) -> list[Choice]:
    """Factors fitted under H; they lie in rotated coordinates, beside a backbone of nothing."""
    n, d = situation.shape
    room = nbytes - SEEDS - 4
    spectrum = situation.weighted(nbytes) if 8 * nbytes < _LOW * n * d else None
    if spectrum is None:
        return []
    try:
        blocks, loss = spectrum.plan(room, effort)
    except BudgetError:
        return []
    nothing = (Columns(0, d, get_codebook("zero", 0)),)
    predicted = situation.relative(loss)
    return [Choice("low-rank", predicted, tuple(blocks), nothing, rotated=True, weighted=True)]


def _backbones(
    situation: Situation, nbytes: float, effort: str, pairs: list[Books]
) -> list[Choice]:
    """A backbone alone, rotated and (where the seeds weigh) not, and one after factors."""
    (n, d), spectrum = situation.shape, situation.spectrum
    books = [get_codebook("zero", 0), *ladder(effort, n)]
    factors = spectrum.curve(worthwhile(effort, (n, d)))
    found = []
    for rotated in (True, False) if nbytes < 100 * SEEDS else (True,):
        room = nbytes - SEEDS * rotated
        if min(books[1].nbytes(n, d) + 4, books[1].nbytes(n, 1) + 8) > room:
            continue  # not even one column
        pivots = situation.pivots if rotated else Pivots(situation.H, d)
        curve = backbone_curve(pivots, n, books, room * _SHARES)
        per_energy = Curve(curve.nbytes, curve.loss / (n * d))
        groups = tuple(pivots.groups(n, books, room))
        predicted = situation.relative(spectrum.energy * float(per_energy.loss[-1]))
        found.append(Choice("backbone", predicted, (), groups, rotated))
        if not rotated:
            continue
        spent = best_split(factors, per_energy, room)
        try:
            blocks = distribute(spectrum.s, (n, d), spent, pairs, **_FACTOR_SCALES)
        except BudgetError:
            continue
        rest = room - size_of_blocks(blocks, (n, d))
        groups = tuple(pivots.groups(n, books, rest))
        loss = expected_loss(spectrum.s, spectrum.shape, spectrum.energy, blocks) * float(
            per_energy.at(np.array(rest))
        )
        kind, predicted = "backbone + low-rank", situation.relative(loss)
        found.append(Choice(kind, predicted, tuple(blocks), groups, rotated))
    return found


def size_of_blocks(blocks: list[Block], shape: tuple[int, int]) -> int:
    """Bytes of factors in blocks, scales included.

    Parameters
    ----------
    blocks : list of Block
    shape : (n, d)

    Returns
    -------
    int
    """
    sizes = [
        sum(book.nbytes(side, b.stop - b.start) for side, book in zip(shape, b.books, strict=True))
        + 4 * (b.stop - b.start + 1)
        for b in blocks
    ]
    return sum(sizes)


def _rounded(situation: Situation, nbytes: float) -> list[Choice]:
    """The best plain rounding, each at the largest width that fits, on a sample of rows."""
    n, d = situation.shape
    ways = []
    for (name, scaling), granularity in product(_ROUNDINGS, ("tensor", "row", "column")):
        fits = [
            bits
            for bits in range(1, 9)
            if _rounded_nbytes((n, d), name, bits, granularity) <= nbytes
        ]
        if fits:
            ways.append((name, fits[-1], granularity, scaling))
    if not ways:
        return []
    few = _sampled_errors(situation, ways, _SAMPLE // 4)
    best = ways[int(np.argmin(few))]
    (predicted,) = _sampled_errors(situation, [best], _SAMPLE)
    return [Choice("rounding", predicted, rounding=best)]


def _sampled_errors(
    situation: Situation, ways: list[tuple[str, int, str, str]], entries: int
) -> list[float]:
    """Relative errors of ways to round rows that hold about so many entries."""
    W, (n, d) = situation.W, situation.shape
    rows = np.unique(np.linspace(0, n - 1, max(1, min(n, entries // d))).astype(int))
    sample = np.ascontiguousarray(W[rows])
    H = None if situation.H is None else situation.H.astype(np.float32)
    norm = _weigh(sample, H)
    found = []
    for name, bits, granularity, scaling in ways:
        q = round_matrix(sample, get_codebook(name, bits), granularity, scaling)
        error = q.to_dense()
        np.subtract(sample, error, out=error)
        found.append(float(np.sqrt(_weigh(error, H) / norm)) if norm > 0 else 0.0)
    return found


def _rounded_nbytes(shape: tuple[int, int], name: str, bits: int, granularity: str) -> int:
    """Codes, and a scale and an offset for all, each row or each column."""
    n, d = shape
    scales = {"tensor": 1, "row": n, "column": d}[granularity]
    return get_codebook(name, bits).nbytes(d, n) + 8 * scales


def _weigh(E: np.ndarray, H: np.ndarray | None) -> float:
    return float(np.vdot(E if H is None else E @ H, E))
