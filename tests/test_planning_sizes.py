"""Sizes in bytes, predicted exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS

import lplr
from lplr.algorithms.factorize import METHODS
from lplr.planning.sizes import StoredScales, factor_nbytes, largest_rank
from lplr.quantizers import get_codebook


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return lplr.datasets.synthetic(150, 120, "power", exponent=1.0, rng=0).astype(np.float32)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 40),
    st.sampled_from(KINDS),
    st.sampled_from(METHODS),
)
@settings(max_examples=60)
def test_sizes_are_predicted(shape, rank, kind, method) -> None:
    rank = min(rank, *shape)
    quantizer, bits = kind
    A = np.random.default_rng(0).standard_normal(shape)
    f = lplr.factorize(A, rank=rank, quantizer=quantizer, bits=bits, method=method, rng=0)
    books = (get_codebook(quantizer, bits),) * 2
    assert f.left.codes.nbytes + f.right.codes.nbytes == factor_nbytes(
        shape, rank, books, StoredScales(0, 0)
    )


def test_largest_rank_is_the_largest() -> None:
    books = (get_codebook("e8p", 2), get_codebook("uniform", 5))
    scales = StoredScales(per_rank=1, once=2)
    for nbytes in (0, 10, 50, 100, 1000, 10**6):
        rank = largest_rank((37, 29), nbytes, books, scales)
        sizes = [factor_nbytes((37, 29), k, books, scales) for k in range(1, 30)]
        assert rank == sum(size <= nbytes for size in sizes)
