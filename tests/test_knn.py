"""Neighbours from the factors against brute force on the dense matrix, and what is made of them."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import KNeighborsClassifier

import lplr
from lplr.evaluation.engines import search_by
from lplr.evaluation.knn import PROTOCOLS, evaluate, project, recall, vote
from lplr.evaluation.resources import measured, run_fresh, threads
from lplr.exceptions import InputError, LplrError, MissingPackageError
from lplr.kernels.nearest import keep_least
from lplr.neighbours.coordinates import _error, _known, _product
from lplr.neighbours.index import Index
from lplr.neighbours.search import METRICS, Neighbours, search

_PATH = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
RNG = np.random.default_rng(0)
DATABASE = RNG.standard_normal((301, 24)) * np.linspace(1, 2, 301)[:, None] + 0.5
QUERIES = RNG.standard_normal((37, 24)) + 0.5


def brute_force(A: np.ndarray, X: np.ndarray, k: int, metric: str) -> Neighbours:
    """All distances, one pair at a time in float64, and a stable sort."""
    A, X = A.astype(np.float64), X.astype(np.float64)
    if metric == "inner":
        all_of_them = -np.array([A @ x for x in X])
    elif metric == "cosine":
        lengths = np.linalg.norm(A, axis=1)
        all_of_them = np.array([1 - (A @ x) / (lengths * np.linalg.norm(x)) for x in X])
    else:
        all_of_them = np.array([np.sqrt(np.square(A - x).sum(axis=1)) for x in X])
    order = np.argsort(all_of_them, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(all_of_them, order, axis=1)
    return Neighbours(-values if metric == "inner" else values, order)


def same(found: Neighbours, expected: Neighbours) -> None:
    # They differ in the order of the sums; a distance near zero is the root of a difference.
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.indices, expected.indices)


def dense(database: Any) -> np.ndarray:
    """In float64; products of factors and transforms in blocks as well, which are never rounded."""
    if isinstance(database, lplr.QPlusLowRank) and database.left and database.left.block:
        A = dense(database.backbone)
        A = A if database.low_rank is None else A + dense(database.low_rank)
        return database.left.undo(A if database.right is None else database.right.undo(A, axis=1))
    if isinstance(database, lplr.LowRank):
        return dense(database.left) @ dense(database.right) + database.shift
    if isinstance(database, LinearOperator) and not hasattr(database, "to_dense"):
        return database @ np.eye(database.shape[1])
    return np.asarray(database, np.float64)


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
        same(search(database, QUERIES, k, metric=metric), brute_force(A, QUERIES, k, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_many_blocks(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that queries, rows and columns are all cut, with rests at each end.
    monkeypatch.setattr("lplr.neighbours.coordinates.PANEL", 256)
    monkeypatch.setattr("lplr.neighbours.index._QUERIES", 5)
    for name in ("float32", "low rank", "shifted", "quantized", "decomposed"):
        database = databases()[name]()
        expected = brute_force(dense(database), QUERIES, 10, metric)
        same(search(database, QUERIES, 10, metric=metric), expected)


@pytest.mark.parametrize("engine", ["scikit-learn", "faiss"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["low rank", "shifted", "quantized"])
def test_other_engines(engine: str, metric: str, name: str) -> None:
    if engine == "faiss":
        pytest.importorskip("faiss")
    database = databases()[name]()
    found = search_by(engine, database, QUERIES, 10, metric)
    expected = brute_force(dense(database), QUERIES, 10, metric)
    # They calculate in float32: squares have an error of 2^-24 of |x|^2 + |r|^2 < 2^8 times the
    # number of terms at worst; no two of these distances are so near.
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-4)
    np.testing.assert_array_equal(found.indices, expected.indices)
    same(search(database, QUERIES, 10, metric=metric), expected)


def test_ties_keep_the_lowest_index() -> None:
    # Integers: nothing is rounded, so equal rows are equally far.
    A = np.tile(np.arange(12.0).reshape(4, 3) - 5, (700, 1))
    X = A[:4] + 1
    same(search(A, X, 900), brute_force(A, X, 900, "euclidean"))


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
            expected = brute_force(DATABASE, QUERIES, 10, metric)
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
        "test_knn", "_search_memory", 60000, 377, PYTHONPATH=_PATH, LPLR_NUM_THREADS="2"
    )
    assert extra + factors <= 0.25 * 4 * 60000 * 784


def _search_memory(n: int, rank: int) -> tuple[float, int]:
    """Bytes of a search for the 11 nearest of n x 784 rows, beyond the factors; and of those."""
    rng = np.random.default_rng(0)

    def factor(*shape: int) -> lplr.Quantized:
        return lplr.quantize(rng.standard_normal(shape, dtype=np.float32), bits=2)

    f = lplr.LowRank(factor(n, rank), factor(rank, 784))
    queries = rng.standard_normal((600, 784), dtype=np.float32)
    small = lplr.LowRank(factor(300, 8), factor(8, 784))
    search(small, queries[:9], 3)  # libraries, kernels, threads
    _, cost = measured(lambda: search(f, queries, 11))
    assert cost.extra_nbytes is not None
    return cost.extra_nbytes, f.nbytes


# --- classification --------------------------------------------------------------------------


def two_clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 260)
    X = rng.standard_normal((260, 12)) + 1.2 * np.eye(12)[y]
    return X[:200], y[:200], X[200:], y[200:]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 2, 11, 200])
def test_accuracy_is_that_of_scikit_learn(metric: str, k: int) -> None:
    # k = 2 has a tied vote for most queries.
    X, y, Z, z = two_clouds()
    f = lplr.factorize(X, rank=6, bits=4, rng=0)
    names = np.array(["c", "a", "b"])
    expected = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(f.to_dense(), names[y])
    found = evaluate(f, names[y], Z, names[z], k=k, metric=metric)
    assert found.accuracy == expected.score(Z, names[z])
    assert found.recall is None
    np.testing.assert_array_equal(vote(found.neighbours, names[y]), expected.predict(Z))


def test_text_embeddings() -> None:
    x, y, _ = lplr.datasets.text_embeddings()
    n = len(x) * 4 // 5
    found = evaluate(x[:n], y[:n], x[n:], y[n:], k=11, metric="cosine", original=x[:n])
    assert round(found.accuracy, 3) == 0.685
    assert found.recall == 1


def test_one_bit_an_entry_of_images() -> None:
    X, y = lplr.datasets.fashion_mnist(subset="small")
    Z, z = lplr.datasets.fashion_mnist("test", subset="small")
    f = lplr.factorize(X, bits_per_entry=1, rng=0)
    whole, packed = (evaluate(d, y, Z, z, metric="euclidean").accuracy for d in (X, f))
    # Measured over three seeds: 0.3 to 1.2 points more than uncompressed, which are noise.
    assert packed >= whole - 0.01


def test_one_bit_an_entry_of_texts() -> None:
    # Of 845 test texts about 42 become wrong and 30 right: one split tells the difference with a
    # standard error of one point, so that there are several. Measured over ten: 0.2 points.
    x, y, _ = lplr.datasets.text_embeddings()
    lost = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(x))
        train, test = np.split(order, [len(x) * 4 // 5])
        f = lplr.compress(x[train], bits_per_entry=1, rng=seed, effort="fast")
        whole, packed = (evaluate(d, y[train], x[test], y[test]).accuracy for d in (x[train], f))
        lost.append(whole - packed)
    assert np.mean(lost) <= 0.02


def test_recall() -> None:
    X, y, Z, z = two_clouds()
    f = lplr.factorize(X, rank=6, bits=4, rng=0)
    found = evaluate(f, y, Z, z, k=10, metric="euclidean", original=X)
    a = brute_force(X, Z, 10, "euclidean").indices
    b = brute_force(dense(f), Z, 10, "euclidean").indices
    naive = np.mean([len(set(i) & set(j)) / 10 for i, j in zip(a, b, strict=True)])
    assert found.recall == pytest.approx(naive, rel=1e-12)
    assert 0.1 < naive < 0.9  # or it would not tell much
    # More neighbours than needed serve as well, and can be had once for several databases.
    again = evaluate(
        f, y, Z, z, k=10, metric="euclidean", original=search(X, Z, 15, metric="euclidean")
    )
    assert again.recall == found.recall


def test_protocols() -> None:
    X, y, Z, z = two_clouds()
    model = lplr.LPLR(4, bits=4, random_state=0).fit(X)
    plain = evaluate(model.factors_, y, Z, z, original=X)
    projected = evaluate(model.factors_, y, Z, z, transformer=model, original=X)
    assert (plain.protocol, projected.protocol) == PROTOCOLS
    # The same neighbours: the rows of L R are orthogonal to what the projection takes away.
    np.testing.assert_array_equal(plain.neighbours.indices, projected.neighbours.indices)
    cosine = np.linalg.norm(project(Z, model), axis=1) / np.linalg.norm(Z, axis=1)
    np.testing.assert_allclose(
        1 - plain.neighbours.distances,
        (1 - projected.neighbours.distances) * cosine[:, None],
        atol=1e-12,
    )
    # Of another database not: there the projection of the queries is seen.
    svd = TruncatedSVD(4, random_state=0).fit(X)
    other = evaluate(X, y, Z, z, transformer=svd)
    expected = brute_force(X, svd.inverse_transform(svd.transform(Z)), 11, "cosine")
    np.testing.assert_array_equal(other.neighbours.indices, expected.indices)
    assert (other.neighbours.indices != evaluate(X, y, Z, z).neighbours.indices).any()


# --- refusals --------------------------------------------------------------------------------


def with_zero_row(A: np.ndarray, i: int) -> np.ndarray:
    A = A.copy()
    A[i] = 0
    return A


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.zeros(199, int)}, "labels: .*200 rows of f.*(199,)"),
        ({"labels": np.zeros((200, 1), int)}, "labels: .*200 rows"),
        ({"labels": np.full(200, "cat")}, "labels: all are .*cat"),
        ({"labels": np.array([1, "a"] * 100, object)}, "labels: cannot be sorted"),
        ({"query_labels": [1, 2]}, "query_labels: .*60 rows of queries"),
        ({"query_labels": ["x"] * 60}, "query_labels: none"),
        ({"k": 201}, "k: must be from 1 to 200, found 201"),
        ({"k": 0}, "k: "),
        ({"k": 2.5}, "k: "),
        ({"metric": "manhattan"}, "metric: must be one of euclidean, cosine, inner"),
        ({"engine": "annoy"}, "engine: "),
        ({"queries": np.ones((60, 11))}, "queries: must have the 12 columns"),
        ({"queries": np.full((60, 12), np.nan)}, "queries: has nan"),
        ({"f": np.full((200, 12), np.inf)}, "f: has inf"),
        ({"f": [[1, 2], [3]]}, "f: is not an array"),
        ({"f": 1j * np.ones((200, 12))}, "f: .*real"),
        ({"f": aslinearoperator(1j * np.ones((200, 12)))}, "f: .*real"),
        ({"transformer": object()}, "transformer: has no method transform"),
        ({"original": np.ones((3, 12))}, "k: must be from 1 to 3"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str) -> None:
    X, y, Z, z = two_clouds()
    arguments = {"f": X, "labels": y, "queries": Z, "query_labels": z, **changed}
    with pytest.raises(InputError, match=f"^{message}"):
        evaluate(**arguments)


def test_zero_rows_have_no_cosine() -> None:
    X, y, Z, z = two_clouds()
    for database in (X, lplr.quantize(X, bits=8)):
        with pytest.raises(InputError, match="queries: row 7 is zero.*euclidean"):
            evaluate(database, y, with_zero_row(Z, 7), z)
    f = lplr.quantize(with_zero_row(X, 9), bits=8, granularity="row")
    for database in (with_zero_row(X, 9), f):
        with pytest.raises(InputError, match="f: row 9 is zero"):
            evaluate(database, y, Z, z)
        assert evaluate(database, y, with_zero_row(Z, 7), z, metric="euclidean").accuracy > 0.4


def test_operator_that_is_not_finite() -> None:
    X, _, Z, _ = two_clouds()
    broken = LinearOperator(X.shape, matvec=lambda x: X @ x * np.nan, dtype=np.float64)
    with pytest.raises(InputError, match="f: gives products that are not finite"):
        search(broken, Z, 3)


def test_one_query_is_a_row() -> None:
    with pytest.raises(InputError, match=r"^queries: .*\(m, 24\).*reshape\(1, -1\)"):
        search(DATABASE, QUERIES[0], 3)


def test_neighbours_that_do_not_fit() -> None:
    found = search(DATABASE, QUERIES, 4)
    with pytest.raises(InputError, match="labels: has 5 entries"):
        vote(found, [0, 1, 0, 1, 0])
    with pytest.raises(InputError, match="expected: must have at least 4 neighbours"):
        recall(found, search(DATABASE, QUERIES, 3))
    with pytest.raises(InputError, match="expected: .* of 37 queries"):
        recall(found, search(DATABASE, QUERIES[:5], 4))


def test_missing_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackageError, match=r"engine='faiss'.*lplr\[bench\]") as caught:
        search_by("faiss", DATABASE, QUERIES, 3, "euclidean")
    assert isinstance(caught.value, (LplrError, ImportError))


def test_arguments_are_not_changed() -> None:
    X, y, Z, z = two_clouds()
    kept = [a.copy() for a in (X, y, Z, z)]
    for engine in ("lplr", "scikit-learn"):
        evaluate(X, y, Z, z, engine=engine, original=X)
    for before, after in zip(kept, (X, y, Z, z), strict=True):
        np.testing.assert_array_equal(before, after)
