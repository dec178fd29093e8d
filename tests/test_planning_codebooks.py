"""The codebooks on offer, by size and by error."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lplr.planning.codebooks import EFFORTS, codebooks_by_size, efficient_pairs, lower_hull


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("length", [1, 7, 63, 64, 300, 5000])
def test_codebooks_rise_in_size_and_fall_in_error(effort: str, length: int) -> None:
    books = codebooks_by_size(effort, length)
    sizes = [book.nbytes(length, 64) for book in books]
    assert all(a < b for a, b in pairwise(sizes))
    assert all(a.gaussian_mse > b.gaussian_mse for a, b in pairwise(books))
    assert books[0].bits == 1
    assert books[-1].bits == 16
    assert length >= 64 or {book.name for book in books} == {"lloyd-max"}


def test_a_hull_is_convex_and_below_all_points() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random(200), rng.random(200)
    keep = lower_hull(x, y)
    slopes = np.diff(y[keep]) / np.diff(x[keep])
    assert (np.diff(slopes) > 0).all()
    assert (slopes < 0).all()
    assert keep[0] == np.argmin(x)
    assert keep[-1] == np.argmin(y)
    below = np.interp(x, x[keep], y[keep])
    assert (y >= below - 1e-12).all()


def test_efficient_pairs_are_on_the_hull_and_give_the_short_side_more() -> None:
    pairs = efficient_pairs("default", (2000, 200))
    cost = [L.nbytes(2000, 8) + R.nbytes(200, 8) for L, R in pairs]
    assert cost == sorted(cost)
    middle = [(L.bits, R.bits) for L, R in pairs if 2 <= L.bits <= 4]
    assert all(right > left for left, right in middle)
