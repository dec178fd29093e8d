"""Baselines: what they store is all that they decode from, and it fits the budget."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

import lplr
from lplr import datasets
from lplr.evaluation.baselines import DEFAULT, METHODS, faiss
from lplr.evaluation.baselines.stored import (
    Baseline,
    index_width,
    largest_size,
    pack_indices,
    unpack_indices,
)
from lplr.evaluation.baselines.vectors import vector_quantized
from lplr.exceptions import BudgetError, MissingPackageError
from lplr.matrices.base import PackedMatrix

HAS_FAISS = importlib.util.find_spec("faiss") is not None
BUDGETS = (0.5, 1.0, 2.0, 4.0, 8.0)
# Their codes have whole bits and cannot be narrowed to make room for their constants.
FIXED_WIDTH = ("naive", "ScalarQuantizer", "RaBitQ")


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    made = datasets.synthetic(160, 64, "power", exponent=0.7, rng=0)
    return np.ascontiguousarray(made + 0.1, np.float32)  # a mean, which PCA takes off


def run(name: str, A: np.ndarray, bits: float, seed: int = 0) -> PackedMatrix:
    """The result, or a skipped test where the library is not installed."""
    if METHODS[name].family == "faiss" and not HAS_FAISS:
        pytest.skip("faiss is not installed")
    return METHODS[name].run(A, bits, rng=seed)


def content(f: Any) -> int:
    """Bytes of every array that a result holds, found by walking its fields."""
    if isinstance(f, np.ndarray):
        return f.nbytes
    if isinstance(f, PackedMatrix):
        return sum(content(value) for name, value in vars(f).items() if name in f.__annotations__)
    if isinstance(f, dict):
        return sum(map(content, f.values()))
    return 0


# --- every method, every budget --------------------------------------------------------------


@pytest.mark.parametrize("bits", BUDGETS)
@pytest.mark.parametrize("name", METHODS)
def test_fits_the_budget_or_says_why_not(name: str, bits: float, A: np.ndarray) -> None:
    # Whole bits need one; beside them RaBitQ stores a number a row, and OPQ a rotation.
    least = {"naive": 1, "ScalarQuantizer": 1, "RaBitQ": 2, "OPQ": 8}
    if bits < least.get(name, 0):
        with pytest.raises(BudgetError, match="bits_per_entry"):
            run(name, A, bits)
        return
    f = run(name, A, bits)
    slack = 1 + faiss.SLACK if name in FIXED_WIDTH else 1
    assert 0.5 * bits < f.bits_per_entry <= slack * bits
    assert f.bits_per_entry == 8 * f.nbytes / A.size
    assert f.shape == A.shape
    dense = f.to_dense()
    assert dense.dtype == np.float32
    error = np.linalg.norm(A - dense) / np.linalg.norm(A)
    assert f.relative_error(A) == pytest.approx(error, rel=1e-4)
    # Less than storing zeros; RaBitQ is made for inner products and not for least error.
    assert error < 1


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.family not in ("lplr",)])
def test_size_is_that_of_all_it_holds(name: str, A: np.ndarray) -> None:
    f = run(name, A, 2.0 if name != "OPQ" else 8.0)
    if isinstance(f, lplr.LowRank):
        nbytes = content(f.left) + content(f.right) + (8 if f.shift else 0)
    else:
        nbytes = content(f)
    assert f.nbytes == nbytes > 0


@pytest.mark.parametrize("name", METHODS)
def test_rows_and_products_are_those_of_the_dense_matrix(name: str, A: np.ndarray) -> None:
    f = run(name, A, 8.0 if name == "OPQ" else 2.0)
    dense = f.to_dense().astype(np.float64)
    x, y = np.random.default_rng(0).standard_normal((2, 160))
    x = x[:64]
    # Products of float32 matrices: 1e-4 is about a thousand roundings.
    np.testing.assert_allclose(f @ x, dense @ x, atol=1e-4 * np.linalg.norm(dense))
    np.testing.assert_allclose(f.T @ y, dense.T @ y, atol=1e-4 * np.linalg.norm(dense))
    if not isinstance(f, lplr.QPlusLowRank):
        np.testing.assert_allclose(f.rows(8, 16), dense[8:16], atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_seeds(name: str, A: np.ndarray) -> None:
    bits = 8.0 if name == "OPQ" else 2.0
    one, same, other = (run(name, A, bits, seed).to_dense() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert METHODS[name].seeded or np.array_equal(one, other)


@pytest.mark.parametrize("name", METHODS)
def test_leaves_the_matrix_alone(name: str, A: np.ndarray) -> None:
    A = A.copy()
    A.setflags(write=False)
    before = A.copy()
    run(name, A, 8.0 if name == "OPQ" else 2.0)
    np.testing.assert_array_equal(A, before)


def test_registry() -> None:
    assert next(iter(METHODS)) == DEFAULT
    assert {m.family for m in METHODS.values()} == {
        "lplr", "paper", "naive", "sklearn", "scipy", "faiss",
    }  # fmt: skip
    assert all(m.stores and m.name == name for name, m in METHODS.items())


# --- single methods --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TruncatedSVD", "randomized_svd", "PCA"])
def test_decompositions_are_nearly_the_best_of_their_rank(name: str, A: np.ndarray) -> None:
    for dtype in ("float16", "int8"):
        f = run(f"{name} {dtype}", A, 3.0)
        X = A
        if isinstance(f, Baseline):  # the mean, and factors of the rest
            X, f = A - A.mean(axis=0), f.stored["base"]
        rank = f.rank
        s = np.linalg.svd(X.astype(np.float64), compute_uv=False)
        best = np.sqrt(np.square(s[rank:]).sum()) / np.linalg.norm(A)
        # Randomized and rounded: a few per cent above, and never below.
        error = np.linalg.norm(X - f.to_dense()) / np.linalg.norm(A)
        assert best * (1 - 1e-6) < error < 1.06 * best


def test_random_projection_is_the_inverse_transform_of_scikit_learn(A: np.ndarray) -> None:
    from sklearn.random_projection import GaussianRandomProjection

    f = run("GaussianRandomProjection float16", A, 4.0, seed=3)
    k = f.stored["coordinates"].shape[1]
    model = GaussianRandomProjection(k, random_state=3, compute_inverse_components=True)
    expected = model.inverse_transform(model.fit_transform(A))
    np.testing.assert_allclose(f.to_dense(), expected, atol=5e-3 * np.abs(A).max())


def test_interpolative_keeps_columns(A: np.ndarray) -> None:
    f = run("interpolative float16", A, 4.0)
    rank = f.stored["columns"].shape[1]
    chosen = unpack_indices(f.stored["chosen"], index_width(64), rank)
    assert len(set(chosen.tolist())) == rank < 64
    np.testing.assert_allclose(f.to_dense()[:, chosen], A[:, chosen], rtol=1e-3, atol=1e-6)


def test_interpolative_from_a_sketch_is_as_good(
    A: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("interpolative int8", A, 2.0).relative_error(A)
    monkeypatch.setattr("lplr.evaluation.baselines.decompositions._MANY", 100)
    sketched = [run("interpolative int8", A, 2.0, seed).relative_error(A) for seed in range(5)]
    # The sketch chooses other columns: over 200 seeds the ratio was 0.98 to 1.05.
    assert 0.95 < np.median(sketched) / whole < 1.08
    assert len(set(sketched)) > 1


def test_interpolative_may_keep_all_columns() -> None:
    A = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    f = METHODS["interpolative float16"].run(A, 18.0, rng=0)
    assert "coefficients" not in f.stored
    np.testing.assert_allclose(f.to_dense(), A, rtol=1e-3)


def test_kmeans_rows_gives_each_row_its_nearest_centre(A: np.ndarray) -> None:
    f = run("KMeans rows", A, 1.0)
    centres = f.stored["codebook"].to_dense()
    distances = np.linalg.norm(A[:, None] - centres, axis=2)
    np.testing.assert_array_equal(f.to_dense(), centres[distances.argmin(axis=1)])


def test_kmeans_of_few_distinct_values() -> None:
    # As many centres as there are values, and more: scikit-learn warns, which is no concern here.
    A = np.repeat(np.float32([[0, 1], [1, 0]]), 400, axis=0).repeat(8, axis=1)
    for name in ("KMeans rows", "KMeans sub-vectors"):
        assert METHODS[name].run(A, 1.0, rng=0).relative_error(A) == 0


def test_naive_needs_whole_bits(A: np.ndarray) -> None:
    for bits in (0.5, 1.5, 9.0):
        with pytest.raises(BudgetError, match="whole bits"):
            METHODS["naive"].run(A, bits)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in FIXED_WIDTH])
def test_refuses_what_nothing_fits(name: str, A: np.ndarray) -> None:
    if METHODS[name].family == "faiss" and not HAS_FAISS:
        pytest.skip("faiss is not installed")
    with pytest.raises(BudgetError, match="bits_per_entry"):
        METHODS[name].run(A, 1e-3, rng=0)


# --- faiss -----------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
def test_product_codes_decode_as_faiss_does(A: np.ndarray) -> None:
    import faiss as library

    f = run("PQ", A, 4.0)
    book, length = f.stored["codebook"], f.meta["length"]
    pieces = -(-64 // length)
    width = (book.shape[0] // pieces).bit_length() - 1
    pq = library.ProductQuantizer(pieces * length, pieces, width)
    library.copy_array_to_vector(book.to_dense().ravel(), pq.centroids)
    X = np.pad(A, ((0, 0), (0, pieces * length - 64)))
    expected = pq.decode(pq.compute_codes(X))[:, :64]
    # The codes were made for centroids in float32; a few fall to the other side of a border.
    assert np.mean(np.isclose(f.to_dense(), expected)) > 0.99


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
def test_one_bit_of_rabitq_decodes_as_faiss_does(A: np.ndarray) -> None:
    import faiss as library

    f = run("RaBitQ", A, 1.3)
    assert f.meta["bits"] == 1
    turn = library.RandomRotationMatrix(64, 64)
    turn.init(0)
    index = library.IndexPreTransform(turn, library.IndexRaBitQ(64, library.METRIC_L2, 1))
    index.train(A)
    X = turn.apply(A)
    inner = library.downcast_index(index.index)
    expected = turn.reverse_transform(inner.sa_decode(inner.sa_encode(X)))
    np.testing.assert_allclose(f.to_dense(), expected, atol=2e-3 * np.abs(A).max())


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
def test_more_bits_of_rabitq_estimate_distances_as_faiss_does(A: np.ndarray) -> None:
    import faiss as library

    f = run("RaBitQ", A, 4.0)
    turn = library.RandomRotationMatrix(64, 64)
    turn.init(0)
    X = turn.apply(A)
    index = library.IndexRaBitQ(64, library.METRIC_L2, f.meta["bits"])
    index.train(X)
    index.add(X)
    query = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    found, order = index.search(turn.apply(query), 160)
    # |x - r|^2 with <x - c, r - c> estimated and |r - c| exact.
    centre = A.mean(axis=0)
    r, x = f.to_dense() - centre, query[0] - centre
    estimated = x @ x + np.square(A - centre).sum(axis=1) - 2 * r @ x
    # The factor of each row is rounded to float16, which is 5e-4 of the inner product.
    np.testing.assert_allclose(found[0], estimated[order[0]], atol=2e-3 * np.linalg.norm(x))
    assert np.ptp(estimated) > 0.1 * np.linalg.norm(x)


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
@pytest.mark.parametrize("shape", [(30, 64), (300, 20)])
def test_optimized_product_of_any_shape(shape: tuple[int, int]) -> None:
    # With fewer rows than columns faiss itself writes beyond its buffers.
    A = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    f = METHODS["OPQ"].run(A, 64.0, rng=0)
    assert f.relative_error(A) < 0.5
    R = f.stored["rotation"].to_dense()
    np.testing.assert_allclose(R.T @ R, np.eye(shape[1]), atol=5e-3)


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
def test_threads_of_faiss_are_given_back(A: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss as library

    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    before = library.omp_get_max_threads()
    run("PQ", A, 2.0)
    assert library.omp_get_max_threads() == before


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.family == "faiss"])
def test_without_faiss(name: str, A: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackageError, match=r"faiss-cpu.*lplr\[bench\]"):
        METHODS[name].run(A, 2.0, rng=0)


# --- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3, 8, 9, 12, 16, 17])
def test_indices_of_any_width(width: int) -> None:
    words = np.random.default_rng(width).integers(0, 2**width, 101)
    packed = pack_indices(words, width)
    assert packed.nbytes == -(-101 * width // 8)
    np.testing.assert_array_equal(unpack_indices(packed, width, 101), words)


def test_sizes() -> None:
    assert [index_width(n) for n in (1, 2, 3, 256, 257)] == [1, 1, 2, 8, 9]
    assert [largest_size(9, lambda k: 2 * k, budget) for budget in (2, 7.9, 8, 99)] == [1, 3, 4, 9]
    with pytest.raises(BudgetError, match="rank 1 takes 2 bytes, the budget is 1"):
        largest_size(9, lambda k: 2 * k, 1)


def test_vector_quantized_with_a_book_for_each_piece() -> None:
    book = np.arange(24, dtype=np.float32).reshape(2, 4, 3)  # two books of four words of three
    f = vector_quantized((2, 5), np.array([[0, 3], [2, 1]]), book, {})
    expected = np.array([[0, 1, 2, 21, 22], [6, 7, 8, 15, 16]], np.float32)
    np.testing.assert_array_equal(f.to_dense(), expected)
    assert f.nbytes == 1 + 48 + 4
