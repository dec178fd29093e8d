"""A matrix with the weights of its errors, and what planning and coding derive from both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lplr.coding.backbone import FEEDBACK_DAMPING
from lplr.coding.constant import is_constant
from lplr.coding.factor_weights import FactorWeights
from lplr.coding.row_feedback import RowFeedback
from lplr.linalg.ldl import squared_norm, two_sided_loss
from lplr.linalg.least_squares import gram
from lplr.linalg.spectrum import estimated_singular_values
from lplr.linalg.transforms import RandomizedTransform
from lplr.planning.backbone_rates import BackboneRates
from lplr.planning.codebooks import codebooks_by_size
from lplr.planning.column_rates import ColumnRates
from lplr.planning.curves import Spectrum
from lplr.planning.row_blocks import mix_rows
from lplr.planning.row_weights import RowWeights
from lplr.planning.weighted_components import WeightedComponents
from lplr.quantizers.base import get_codebook

__all__ = ["WeightedMatrix"]

_SPENT = np.empty((0, 0))  # in the place of a spare H that has become its factors
_LARGE = 1024  # sides beyond which singular values are estimated
_USED = 0.75  # at most this share of the components that fit at one bit per entry is used


@dataclass(frozen=True)
class WeightedMatrix:
    """A matrix to compress; everything derived from it is computed on first use, once.

    W is float32 (n, d), of moderate size; H, float64 (d, d), and G, (n, n), are regularised, or
    None for the identity: an error E loses ``tr(G E H E^T)``. ``seed`` is that of the transforms
    and of the spectrum, ``factor_seed`` that of the factors: no plan depends on which others were
    carried out. A ``spare`` H that is large becomes its own factors, which halves the memory.
    """

    W: np.ndarray
    H: np.ndarray | None
    seed: int
    factor_seed: int = 0
    G: np.ndarray | None = None
    spare: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.W.shape[0], self.W.shape[1]

    @cached_property
    def is_constant(self) -> bool:
        """Whether all entries of W are equal."""
        return is_constant(self.W)

    def some_rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of so many rows at even distances, and these rows of W."""
        rows = np.unique(np.linspace(0, self.shape[0] - 1, count).astype(int))
        return rows, np.ascontiguousarray(self.W[rows])

    @cached_property
    def _whole(self) -> tuple[RandomizedTransform, RandomizedTransform]:
        """Transforms that mix all rows, and all columns."""
        rng = np.random.default_rng(self.seed)
        n, d = self.shape
        return RandomizedTransform.sample(n, rng), RandomizedTransform.sample(d, rng)

    @cached_property
    def _mixed(self) -> tuple[RandomizedTransform, np.ndarray]:
        """The transform of rows, and W in coordinates in which it is spread evenly."""
        left, right = self._whole
        return mix_rows(right.apply(self.W, axis=1), left)

    @property
    def transforms(self) -> tuple[RandomizedTransform, RandomizedTransform]:
        """The transforms of rows and of columns."""
        return self._mixed[0], self._whole[1]

    @property
    def rotated(self) -> np.ndarray:
        """W in coordinates in which it is spread evenly."""
        return self._mixed[1]

    @property
    def keeps_H(self) -> bool:
        """Whether H stays what it is."""
        return not self.spare or self.H is None or self.G is not None or self.shape[1] <= _LARGE

    @cached_property
    def rates(self) -> ColumnRates:
        """The rates of columns in the rotated coordinates."""
        if self.H is None:
            return ColumnRates(None, self.shape[1])
        H = [self._whole[1].two_sided(self.H, overwrite=not self.keeps_H)]
        if not self.keeps_H:
            object.__setattr__(self, "H", _SPENT)
        return ColumnRates(H.pop(), self.shape[1], overwrite=True)

    @cached_property
    def unrotated_rates(self) -> ColumnRates:
        """The rates of columns of W itself."""
        assert self.keeps_H
        return ColumnRates(self.H, self.shape[1])

    def backbone_rates(self, effort: str, *, rotated: bool = True) -> BackboneRates:
        """The rates of a backbone in the rotated coordinates, or in those of W."""
        books = [get_codebook("zero", 0), *codebooks_by_size(effort, self.shape[0])]
        if rotated:
            return BackboneRates(self.rates, self.row_weights, books)
        return BackboneRates(self.unrotated_rates, self.unrotated_row_weights, books)

    @cached_property
    def row_weights(self) -> RowWeights:
        """Blocks of rows in the rotated coordinates, and their weights."""
        G = self.G
        if G is not None:  # float32 is enough for what is damped by more than 1 %
            V = self.transforms[0]
            G = V.apply(V.apply(G.astype(np.float32), axis=1), axis=0)
        return RowWeights(G, self.shape[0])

    @cached_property
    def factor_weights(self) -> FactorWeights:
        """The weights of errors of factors in the rotated coordinates."""
        rows = None
        if self.G is not None:
            G = self.transforms[0].two_sided(self.G)
            rows = RowFeedback(G + FEEDBACK_DAMPING * np.eye(len(G)))
        return FactorWeights(self.rates.weights, rows)

    @cached_property
    def unrotated_row_weights(self) -> RowWeights:
        """Blocks of rows of W itself, and their weights."""
        return RowWeights(self.G, self.shape[0])

    @cached_property
    def spectrum(self) -> Spectrum:
        """Singular values of W, from the smaller Gram matrix; those of a large W are estimated."""
        from scipy.linalg import eigvalsh

        energy = squared_norm(self.W)
        n, d = self.shape
        if min(n, d) > _LARGE:
            s = estimated_singular_values(self.W, np.random.default_rng(self.seed))
            return Spectrum(s * np.sqrt(energy / (s @ s)), energy, (n, d))
        values = eigvalsh(gram(self.W if n <= d else self.W.T), check_finite=False)
        return Spectrum(np.sqrt(np.maximum(values[::-1], 0.0)), energy, self.shape)

    def components(self, nbytes: float) -> WeightedComponents | None:
        """The components of G^(1/2) W H^(1/2) that a budget can pay for; None without weights."""
        if self.H is None and self.G is None:
            return None
        rank = self.most_components(nbytes)
        return WeightedComponents(self.rotated, self.factor_weights, rank, self.seed)

    def most_components(self, nbytes: float) -> int:
        """How many of them a budget can pay for."""
        n, d = self.shape
        return min(n, d, max(16, int(_USED * 8 * nbytes / (n + d))))

    @cached_property
    def norm(self) -> float:
        """tr(G W H W^T)."""
        return self.loss(self.W)

    def loss(self, E: np.ndarray) -> float:
        """``tr(G E H E^T)`` of a float32 matrix (n, d)."""
        if self.G is not None:
            return two_sided_loss(E, self.H, self.G)
        if self.H is None:
            return squared_norm(E)
        return float(self.row_losses(E).sum())

    def row_losses(self, E: np.ndarray) -> np.ndarray:
        """``e H e^T`` of any rows e, float32 (m, d)."""
        weights = self.rates.weights
        return weights.losses(E if self.H is None else self._whole[1].apply(E, axis=1))

    def relative(self, loss: float) -> float:
        """The relative error of a loss; 0 for a matrix of zeros."""
        return float(np.sqrt(loss / self.norm)) if self.norm > 0 else 0.0
