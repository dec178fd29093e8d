"""Bits for each singular component, against every way to spend them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest

from lplr.coding.blocks import ComponentBlock
from lplr.exceptions import BudgetError
from lplr.planning.codebooks import candidate_pairs
from lplr.planning.sizes import blocks_nbytes
from lplr.planning.waterfill import distribute, expected_loss

PAIRS = candidate_pairs(None, equal=False)


SPECTRA = {
    "1/k": 1 / np.arange(1, 101),
    "flat": np.ones(100),
    "steep": np.geomspace(1, 1e-6, 100),
    "low rank": np.r_[np.linspace(2, 1, 10), np.zeros(90)],
    "one": np.r_[1.0, np.zeros(99)],
}


@pytest.mark.parametrize("bits", [0.3, 2.0, 40.0])
@pytest.mark.parametrize("shape", [(100, 100), (300, 100), (101, 777)])
@pytest.mark.parametrize("name", SPECTRA)
def test_a_distribution_fits_and_is_in_order(
    name: str, shape: tuple[int, int], bits: float
) -> None:
    s = SPECTRA[name]
    nbytes = bits * shape[0] * shape[1] / 8
    blocks = distribute(s, shape, nbytes, PAIRS)
    assert blocks_nbytes(blocks, shape) <= nbytes
    assert blocks[0].start == 0
    assert all(b.start < b.stop for b in blocks)
    assert all(a.stop == b.start for a, b in pairwise(blocks))
    assert blocks[-1].stop <= np.count_nonzero(s)


def partitions(k: int, pairs: list) -> Iterator[list[ComponentBlock]]:
    """Every way to cut up to k components into blocks, with every choice of codes."""
    for cuts in range(1, 2**k):
        edges = [0, *(i + 1 for i in range(k) if cuts >> i & 1)]
        for choice in product(pairs, repeat=len(edges) - 1):
            yield [
                ComponentBlock(i, j, b) for (i, j), b in zip(pairwise(edges), choice, strict=True)
            ]


def test_a_distribution_is_nearly_the_best_of_all() -> None:
    """Against every choice for five components: budgets cut into so few pieces are not convex,
    where one price for all may miss up to a tenth of the error."""
    s = np.array([5.0, 2.0, 1.0, 0.6, 0.3])
    shape, energy = (60, 40), float(s @ s)
    pairs = candidate_pairs(("uniform", "uniform"), equal=True)[:3]
    every = list(partitions(5, pairs))
    losses = np.array([expected_loss(s, shape, energy, blocks) for blocks in every])
    sizes = np.array([blocks_nbytes(blocks, shape) for blocks in every])
    for nbytes in (60, 120, 200, 300):
        found = distribute(s, shape, nbytes, pairs)
        best = losses[sizes <= nbytes].min()
        assert best * (1 - 1e-12) <= expected_loss(s, shape, energy, found) <= 1.1 * best


def test_a_budget_below_one_component_names_the_least() -> None:
    with pytest.raises(BudgetError, match="use at least") as caught:
        distribute(np.ones(5), (100, 100), 10, PAIRS)
    enough = float(str(caught.value).rsplit(" ", 1)[1])
    assert distribute(np.ones(5), (100, 100), enough * 1250, PAIRS)
