"""Search among the rows of any matrix, against brute force on the dense one."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import naive
import numpy as np
import pytest
from helpers import dense
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator

import lplr
from lplr.evaluation.engines import search_by
from lplr.evaluation.resources import measured, run_fresh, threads
from lplr.kernels.nearest import keep_least
from lplr.neighbours.coordinates import _error, _known, _product
from lplr.neighbours.index import Index
from lplr.neighbours.search import METRICS, Neighbours, search

_PATH = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
RNG = np.random.default_rng(0)
DATABASE = RNG.standard_normal((301, 24)) * np.linspace(1, 2, 301)[:, None] + 0.5
QUERIES = RNG.standard_normal((37, 24)) + 0.5


def same(found: Neighbours, expected: Neighbours) -> None:
    # They differ in the order of the sums; a distance near zero is the root of a difference.
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.indices, expected.indices)


# --- kernel ----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 7),
)
def test_kernel_is_a_stable_sort(products: list[int], k: int, step: int) -> None:
    # Small integers: many ties, and nothing is rounded.
    stream = np.array([products, products[::-1]], np.float64)
    scale = np.where(np.arange(len(products)) % 3 == 0, -1.0, 0.5)
    offset = (np.arange(len(products)) % 2).astype(np.float64)
    k = min(k, len(products))
    order = np.argsort(offset + scale * stream, axis=1, kind="stable")[:, :k]
    for kernel in (keep_least, keep_least.py_func):
        values, indices = np.full((2, k), np.inf), np.full((2, k), -1)
        # Every step-th column, and the last ones first: parts may come in any order.
        for i in reversed(range(step)):
            part = slice(i, None, step)
            block, numbers = np.ascontiguousarray(stream[:, part]), np.arange(len(products))[part]
            kernel(block, scale[part].copy(), offset[part].copy(), numbers.copy(), values, indices)
        np.testing.assert_array_equal(indices, order)
        np.testing.assert_array_equal(
            values, np.take_along_axis(offset + scale * stream, order, axis=1)
        )


# --- neighbours ------------------------------------------------------------------------------


def in_blocks(**blocks: Any) -> lplr.QPlusLowRank:
    f = lplr.caldera(DATABASE, rank=3, rng=0)
    return replace(f, left=lplr.RandomizedTransform(len(DATABASE), 7, **blocks))


def databases() -> dict[str, Callable[[], Any]]:
    def low_rank() -> lplr.LowRank:
        return lplr.factorize(DATABASE, rank=9, bits=4, rng=0)

    return {
        "float64": lambda: DATABASE,
        "float32": lambda: DATABASE.astype(np.float32),
        "lists": DATABASE.tolist,
        "low rank": low_rank,
        "full rank": lambda: lplr.factorize(DATABASE, bits_per_entry=6, rng=0),
        "shifted": lambda: lplr.factorize(
            DATABASE, rank=9, bits=4, method="lplr", normalize=True, rng=0
        ),
        "quantized": lambda: lplr.quantize(DATABASE, bits=2, quantizer="e8p"),
        "rows scaled": lambda: lplr.quantize(DATABASE, bits=3, granularity="row"),
        "decomposed": lambda: lplr.caldera(DATABASE, rank=3, rng=0),
        "rotated columns": lambda: replace(lplr.caldera(DATABASE, rank=3, rng=0), left=None),
        "blocks": lambda: in_blocks(block=64),
        "interleaved": lambda: in_blocks(block=40, interleaved=True),
        "blocks and shift": lambda: replace(
            in_blocks(block=64), low_rank=replace(in_blocks().low_rank, shift=0.25)
        ),
        "blocks of Q": lambda: replace(in_blocks(block=64), low_rank=None, right=None),
        "not rotated": lambda: lplr.caldera(DATABASE, rank=0, incoherence=False, rng=0),
        "compressed": lambda: lplr.compress(DATABASE, bits_per_entry=4, rng=0),
        "operator": lambda: aslinearoperator(DATABASE),
    }


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", databases())
def test_brute_force(name: str, metric: str) -> None:
    database = databases()[name]()
    A = dense(database)
    for k in (1, 10, len(A)):
        same(search(database, QUERIES, k, metric=metric), naive.neighbours(A, QUERIES, k, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_many_blocks(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that queries, rows and columns are all cut, with rests at each end.
    monkeypatch.setattr("lplr.neighbours.coordinates.PANEL", 256)
    monkeypatch.setattr("lplr.neighbours.index._QUERIES", 5)
    for name in ("float32", "low rank", "shifted", "quantized", "decomposed"):
        database = databases()[name]()
        expected = naive.neighbours(dense(database), QUERIES, 10, metric)
        same(search(database, QUERIES, 10, metric=metric), expected)


@pytest.mark.parametrize("engine", ["scikit-learn", "faiss"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["low rank", "shifted", "quantized"])
def test_other_engines(engine: str, metric: str, name: str) -> None:
    if engine == "faiss":
        pytest.importorskip("faiss")
    database = databases()[name]()
    found = search_by(engine, database, QUERIES, 10, metric)
    expected = naive.neighbours(dense(database), QUERIES, 10, metric)
    # They calculate in float32: squares have an error of 2^-24 of |x|^2 + |r|^2 < 2^8 times the
    # number of terms at worst; no two of these distances are so near.
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-4)
    np.testing.assert_array_equal(found.indices, expected.indices)
    same(search(database, QUERIES, 10, metric=metric), expected)


def test_ties_keep_the_lowest_index() -> None:
    # Integers: nothing is rounded, so equal rows are equally far.
    A = np.tile(np.arange(12.0).reshape(4, 3) - 5, (700, 1))
    X = A[:4] + 1
    same(search(A, X, 900), naive.neighbours(A, X, 900, "euclidean"))


@pytest.mark.parametrize("name", ["low rank", "quantized", "decomposed", "interleaved", "float32"])
def test_any_number_of_threads(name: str) -> None:
    database = databases()[name]()
    X = np.random.default_rng(1).standard_normal((600, 24), dtype=np.float32)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(search(database, X, 7))
    for other in found[1:]:
        np.testing.assert_array_equal(other.distances, found[0].distances)
        np.testing.assert_array_equal(other.indices, found[0].indices)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "name", ["blocks", "interleaved", "blocks and shift", "blocks of Q", "low rank", "full rank"]
)
def test_a_few_queries_are_screened(
    name: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lplr.neighbours.coordinates._ROWS", 24)
    f = databases()[name]()
    expected = search(f, QUERIES, 5, metric=metric)  # from now on, norms are known
    read = []
    names = Index._promising

    def spied(index: Index, *arguments: Any) -> np.ndarray:
        blocks = names(index, *arguments)
        read.append((len(blocks), index.blocks))
        return blocks

    monkeypatch.setattr(Index, "_promising", spied)
    for i in range(0, len(QUERIES), 3):
        found = search(f, QUERIES[i : i + 3], 5, metric=metric)
        same(found, Neighbours(*(part[i : i + 3] for part in expected)))
    assert len(read) == len(QUERIES)
    # Five neighbours are in five blocks at most; the bound of the error adds hardly any here.
    assert all(count <= min(6, blocks) for count, blocks in read)
    assert any(count < blocks for count, blocks in read)


@pytest.mark.parametrize(
    ("quantizer", "bits"), [("trellis-10", 2), ("trellis-10", 1.75), ("e8p", 3), ("lloyd-max", 3)]
)
@pytest.mark.parametrize("d", [3, 200])
def test_products_err_less_than_the_screen_says(quantizer: str, bits: float, d: int) -> None:
    # A bound for every rounding at worst; a fifth of it is the most that was seen.
    rng = np.random.default_rng(d)
    W = rng.standard_normal((300, d))
    Q = lplr.caldera(W, rank=0, quantizer=quantizer, q_bits=bits, incoherence=False).backbone
    exact = Q.to_dense().astype(np.float64)
    for _ in range(10):
        x = rng.standard_normal(d) * np.exp(rng.standard_normal(d))
        bound = _error(x) * np.linalg.norm(exact, axis=1)
        assert (np.abs(_product(Q, x) - exact @ x) <= bound).all()


def test_what_is_known_of_a_matrix_ends_with_it() -> None:
    gc.collect()
    f = in_blocks(block=64)
    before = pickle.dumps(f)
    search(f, QUERIES, 3)
    assert f in _known
    assert pickle.dumps(f) == before
    count = len(_known)
    del f
    gc.collect()
    assert len(_known) == count - 1


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")  # only the thread of the caller tells
    told: list[float] = []
    search(in_blocks(block=64), QUERIES, 3, progress=lambda share, what: told.append(share))
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert len(told) > 3
    assert told == sorted(told)


def test_any_scale() -> None:
    for unit in (1e-15, 1e15):
        for metric in METRICS:
            found = search(unit * DATABASE, unit * QUERIES, 10, metric=metric)
            expected = naive.neighbours(DATABASE, QUERIES, 10, metric)
            np.testing.assert_array_equal(found.indices, expected.indices)
    for name in ("blocks", "low rank"):
        for unit in (2.0**-96, 2.0**96):
            f = databases()[name]().scaled(unit)
            for metric in METRICS:
                expected = search(f, unit * QUERIES, 10, metric=metric)
                for i in range(3):  # screened
                    found = search(f, unit * QUERIES[i : i + 1], 10, metric=metric)
                    np.testing.assert_array_equal(found.indices, expected.indices[i : i + 1])


def test_memory() -> None:
    # In a fresh process: at most a quarter of the dense float32 matrix of this many rows, the
    # packed factors included. Each thread has a block of fixed size; measured on two: 17 % + 3 %.
    extra, factors = run_fresh(
        "test_search", "_search_memory", 60000, 377, PYTHONPATH=_PATH, LPLR_NUM_THREADS="2"
    )
    assert extra + factors <= 0.25 * 4 * 60000 * 784


def _search_memory(n: int, rank: int) -> tuple[float, int]:
    """Bytes of a search for the 11 nearest of n x 784 rows, beyond the factors; and of those."""
    rng = np.random.default_rng(0)

    def factor(*shape: int) -> lplr.Quantized:
        return lplr.quantize(rng.standard_normal(shape, dtype=np.float32), bits=2)

    f = lplr.LowRank(factor(n, rank), factor(rank, 784))
    queries = rng.standard_normal((300, 784), dtype=np.float32)
    small = lplr.LowRank(factor(300, 8), factor(8, 784))
    search(small, queries[:9], 3)  # libraries, kernels, threads
    _, cost = measured(lambda: search(f, queries, 11))
    assert cost.extra_nbytes is not None
    return cost.extra_nbytes, f.nbytes
