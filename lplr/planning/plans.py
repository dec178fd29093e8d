"""The ways to spend a budget: one class each, with its predicted error, its size and its coding.

Four kinds compete: low-rank factors alone, a backbone alone, a backbone after low-rank factors,
and the matrix rounded as it is, which nothing beats where its entries are few values. A matrix of
one value has a kind of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lplr.coding.backbone import RowBlock, code_row_blocks, zero_backbone
from lplr.coding.blocks import (
    ComponentBlock,
    factors_seconds,
    successive_factors,
    weighted_factors,
)
from lplr.coding.constant import constant_factors, constant_matrix
from lplr.coding.rounding import round_matrix
from lplr.coding.work import svd_seconds
from lplr.linalg.svd import short_svd
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.planning.column_rates import ColumnRates
from lplr.planning.row_weights import RowWeights
from lplr.planning.sizes import (
    StoredScales,
    blocks_nbytes,
    factor_nbytes,
    rounding_nbytes,
    row_blocks_nbytes,
    transforms_nbytes,
)
from lplr.planning.weighted_components import WeightedComponents
from lplr.planning.weighted_matrix import WeightedMatrix
from lplr.progress import until
from lplr.quantizers.base import Codebook, get_codebook

__all__ = [
    "SWEEPS",
    "BackbonePlan",
    "Coded",
    "ConstantPlan",
    "FactorsAndBackbonePlan",
    "LowRankPlan",
    "Plan",
    "RoundingPlan",
    "WeightedLowRankPlan",
]

SWEEPS = {"fast": 0, "default": 1, "best": 2}  # of coordinate descent in a backbone, by effort


class Coded(NamedTuple):
    """What a plan made of a matrix, and its loss where coding tells."""

    packed: LowRank | QPlusLowRank | Quantized
    loss: float | None = None


@dataclass(frozen=True)
class Plan:
    """One way to spend a budget on a matrix, and the relative error that is predicted for it.

    ``kind`` is what a record calls it. Predictions of one ``family``, "factors" or "backbone", err
    alike, so that comparing them is safe.
    """

    kind: ClassVar[str]
    family: ClassVar[str] = "factors"

    predicted: float

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes that will be stored."""
        raise NotImplementedError

    def work(self, shape: tuple[int, int]) -> int:
        """Entries to code, about: the two factors nine times each, a backbone twice.

        Trellis codes take five instead of nine; what compares two plans is their ratio.
        """
        return 0

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        """Code the matrix."""
        raise NotImplementedError

    def describe(self, shape: tuple[int, int]) -> dict[str, Any]:
        """What a record says of the plan, JSON-able."""
        nbytes = self.nbytes(shape)
        bits = 8 * nbytes / (shape[0] * shape[1])
        spent = self._spent()
        return {
            "kind": self.kind,
            "predicted": self.predicted,
            **spent,
            "nbytes": nbytes,
            "bits_per_entry": bits,
        }

    def _spent(self) -> dict[str, Any]:
        """How the bits are spent."""
        return {}


@dataclass(frozen=True)
class ConstantPlan(Plan):
    """A matrix of one value, exactly: rounded, or as factors where that is too large."""

    kind = "constant"

    as_factors: bool = False

    def nbytes(self, shape: tuple[int, int]) -> int:
        book = get_codebook("lloyd-max", 1)
        if self.as_factors:
            return factor_nbytes(shape, 1, (book, book), StoredScales(per_rank=1, once=3))
        return rounding_nbytes(shape, book, "tensor")

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        return Coded(self.constant(matrix.shape, float(matrix.W[0, 0])))

    def constant(self, shape: tuple[int, int], value: float) -> LowRank | Quantized:
        """The matrix of a value."""
        book = get_codebook("lloyd-max", 1)
        if self.as_factors:
            return constant_factors(shape, value, 1, (book, book))
        return constant_matrix(shape, book, value, axis=1)


@dataclass(frozen=True)
class RoundingPlan(Plan):
    """The matrix rounded as it is, by `lplr.quantize`, which explains the options."""

    kind = "rounding"

    quantizer: str
    bits: int
    granularity: str
    scaling: str

    @property
    def book(self) -> Codebook:
        """Its codebook."""
        return get_codebook(self.quantizer, self.bits)

    def nbytes(self, shape: tuple[int, int]) -> int:
        return rounding_nbytes(shape, self.book, self.granularity)

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        return Coded(self.round(matrix.W))

    def round(self, W: np.ndarray) -> Quantized:
        """Some rows of a matrix, rounded."""
        return round_matrix(W, self.book, self.granularity, self.scaling)

    def _spent(self) -> dict[str, Any]:
        names = ("quantizer", "bits", "granularity", "scaling")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class LowRankPlan(Plan):
    """Low-rank factors alone."""

    kind = "low-rank"

    blocks: tuple[ComponentBlock, ...]

    def nbytes(self, shape: tuple[int, int]) -> int:
        return blocks_nbytes(self.blocks, shape)

    def work(self, shape: tuple[int, int]) -> int:
        return 9 * self.blocks[-1].stop * sum(shape)

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        return Coded(self._factors(matrix.W, matrix.factor_seed, effort))

    def _factors(self, W: np.ndarray, seed: int, effort: str) -> LowRank:
        n, d = W.shape
        seconds = svd_seconds((n, d), self.blocks[-1].stop)
        coding = factors_seconds(self.blocks, (n, d), effort)
        with until(seconds / (seconds + coding), "singular vectors"):
            svd = short_svd(W, self.blocks[-1].stop, rng=seed)
        return successive_factors(W, svd, self.blocks, np.random.default_rng([seed, 1]), effort)

    def _spent(self) -> dict[str, Any]:
        factors = [
            {
                "components": block.stop - block.start,
                "quantizers": [book.name for book in block.books],
                "bits": [book.bits for book in block.books],
            }
            for block in self.blocks
        ]
        return {"rank": self.blocks[-1].stop, "factors": factors}


@dataclass(frozen=True)
class WeightedLowRankPlan(LowRankPlan):
    """Low-rank factors in rotated coordinates, fitted under the weights of errors."""

    family = "backbone"

    components: WeightedComponents

    def nbytes(self, shape: tuple[int, int]) -> int:
        factors = blocks_nbytes(
            self.blocks, shape, in_blocks=self.components.weights.rows is not None
        )
        return factors + zero_backbone(shape).nbytes + transforms_nbytes(shape[0])

    def work(self, shape: tuple[int, int]) -> int:
        return super().work(shape) + 2 * shape[0] * shape[1]

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        found, rng = self.components, np.random.default_rng([matrix.factor_seed, 1])
        factors = weighted_factors(found.W, found.svd, found.weights, self.blocks, rng)
        return Coded(QPlusLowRank(zero_backbone(matrix.shape), factors, *matrix.transforms))


@dataclass(frozen=True)
class BackbonePlan(Plan):
    """A backbone alone, in rotated coordinates or those of the matrix."""

    kind = "backbone"
    family = "backbone"

    blocks: tuple[RowBlock, ...]
    rotated: bool = True

    def nbytes(self, shape: tuple[int, int]) -> int:
        return row_blocks_nbytes(self.blocks) + transforms_nbytes(shape[0]) * self.rotated

    def work(self, shape: tuple[int, int]) -> int:
        return 2 * shape[0] * shape[1]

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        if not self.rotated:
            rows, columns = matrix.unrotated_row_weights, matrix.unrotated_rates
            Q, loss = self.code(matrix.W, rows, columns, effort)
            return Coded(QPlusLowRank(Q), loss)
        Q, loss = self.code(matrix.rotated, matrix.row_weights, matrix.rates, effort)
        return Coded(QPlusLowRank(Q, None, *matrix.transforms), loss)

    def code(
        self, W: np.ndarray, rows: RowWeights, columns: ColumnRates, effort: str
    ) -> tuple[Quantized | Stacked, float | None]:
        """Code a matrix under the weights of its coordinates."""
        sweeps = SWEEPS[effort]
        return code_row_blocks(W, rows.weights, columns.weights, self.blocks, sweeps=sweeps)

    def _spent(self) -> dict[str, Any]:
        rows = [{"rows": b.stop - b.start} if len(self.blocks) > 1 else {} for b in self.blocks]
        groups = [
            {**of, "columns": g.stop - g.start, "quantizer": g.book.name, "bits": g.book.bits}
            for of, block in zip(rows, self.blocks, strict=True)
            for g in block.groups
        ]
        return {"backbone": groups}


@dataclass(frozen=True)
class FactorsAndBackbonePlan(LowRankPlan):
    """Low-rank factors, and a backbone for what they leave, in rotated coordinates."""

    kind = "backbone + low-rank"
    family = "backbone"

    backbone: BackbonePlan

    def nbytes(self, shape: tuple[int, int]) -> int:
        return super().nbytes(shape) + self.backbone.nbytes(shape)

    def work(self, shape: tuple[int, int]) -> int:
        return super().work(shape) + self.backbone.work(shape)

    def carry_out(self, matrix: WeightedMatrix, effort: str) -> Coded:
        W, shape = matrix.rotated, matrix.shape
        factoring = factors_seconds(self.blocks, shape, effort)
        factoring += svd_seconds(shape, self.blocks[-1].stop)
        coding = sum(block.seconds(0) for block in self.backbone.blocks)
        with until(factoring / (factoring + coding)):
            factors = self._factors(W, matrix.factor_seed, effort)
        rest = W - factors.to_dense()
        Q, loss = self.backbone.code(rest, matrix.row_weights, matrix.rates, effort)
        return Coded(QPlusLowRank(Q, factors, *matrix.transforms), loss)

    def _spent(self) -> dict[str, Any]:
        return self.backbone._spent() | super()._spent()
