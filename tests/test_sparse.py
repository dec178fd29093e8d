"""Sparse matrices and linear operators, of which only products are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lplr
from lplr.exceptions import BudgetWarning, InputError
from lplr.linalg.input_operators import SparseOperator, as_matrix
from lplr.linalg.operators import multiply
from lplr.linalg.svd import short_svd, truncated_svd
from lplr.parallel import at_most

FORMATS = ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"]


def thinned(n: int, d: int, seed: int = 0) -> np.ndarray:
    """A matrix of decaying spectrum, three quarters of which are zero."""
    A = lplr.datasets.synthetic(n, d, "power", exponent=1.0, rng=seed).astype(np.float64)
    return np.where(np.abs(A) > np.quantile(np.abs(A), 0.75), A, 0.0)


TALL = thinned(90, 60)
METHODS = {
    "feedback": {"rank": 6},
    "budget": {"bits_per_entry": 0.9},
    "fast": {"rank": 6, "effort": "fast"},
    "lplr": {"rank": 6, "method": "lplr", "sketch": "sparse-sign"},
    "srht": {"rank": 6, "method": "lplr", "sketch": "srht", "n_power_iter": 1},
    "lplr-svd": {"rank": 6, "method": "lplr-svd", "normalize": True},
    "direct-svd": {"rank": 6, "method": "direct-svd", "normalize": True, "bits": 8},
    "lplr budget": {"bits_per_entry": 0.9, "method": "lplr"},
}


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("A", [TALL, TALL.T], ids=["tall", "wide"])
def test_every_method_is_as_close_as_on_the_array(A: np.ndarray, options: dict[str, Any]) -> None:
    """Only the rounding of the products differs: codes of a few entries, 0.2 % of the error."""
    expected = lplr.factorize(A, rng=0, **options).relative_error(A)
    for given in (sp.csr_array(A), sp.csc_array(A), aslinearoperator(A)):
        f = lplr.factorize(given, rng=0, **options)
        assert f.relative_error(A) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, aslinearoperator])
@pytest.mark.parametrize("bits", [2, 16])
def test_relative_error_is_that_of_the_array(make: Callable[[Any], Any], bits: int) -> None:
    """Which multiplies L and R in float32."""
    for A in (TALL, TALL.T):
        for options in ({"rank": 5}, {"rank": 5, "method": "lplr", "normalize": True}):
            f = lplr.factorize(A, bits=bits, rng=0, **options)
            assert f.relative_error(make(A)) == pytest.approx(f.relative_error(A), rel=1e-6)
        q = lplr.quantize(A, bits=4)
        assert q.relative_error(make(A)) == pytest.approx(q.relative_error(A), rel=1e-9)


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # of DIA
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", [np.bool_, np.int16, np.int64, np.float32, np.float64])
def test_every_format_and_type_of_entries(form: str, kind: type) -> None:
    A = np.round(TALL * 20).astype(kind)
    expected = lplr.factorize(sp.csr_array(A), rank=4, rng=0).to_dense()
    for make in (sp.coo_array, sp.coo_matrix):
        given = make(A).asformat(form)
        before = given.copy()
        found = lplr.factorize(given, rank=4, rng=0)
        if form == "csc":  # adds in another order
            error = np.linalg.norm(found.to_dense() - expected)
            assert error < 0.05 * np.linalg.norm(expected)
        else:
            np.testing.assert_array_equal(found.to_dense(), expected)
        assert type(given) is type(before)
        assert (given != before).nnz == 0


def test_indices_of_64_bits_entries_in_any_order_duplicates_and_stored_zeros() -> None:
    A = sp.csr_array(TALL)
    expected = lplr.factorize(A, rank=4, rng=0)
    wide = sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), A.shape)
    assert wide.indices.dtype == np.int64
    i, j = A.nonzero()
    order = np.random.default_rng(0).permutation(len(i))
    data = np.concatenate([A.data / 4, 3 * A.data / 4, np.zeros(9)])[order_of(order, 9)]
    i, j = (np.concatenate([k, k, np.arange(9)])[order_of(order, 9)] for k in (i, j))
    twice = sp.coo_array((data, (i, j)), shape=A.shape)
    # The same entries twice in a row, as no conversion of SciPy makes them.
    starts = np.repeat(np.diff(A.indptr), 2).reshape(-1, 2).sum(axis=1).cumsum()
    doubled = sp.csr_array(
        (
            np.concatenate([np.tile(A.data[p:q] / 2, 2) for p, q in spans(A)]),
            np.concatenate([np.tile(A.indices[p:q], 2) for p, q in spans(A)]),
            np.concatenate([[0], starts]),
        ),
        shape=A.shape,
    )
    assert doubled.nnz == 2 * A.nnz
    for given in (wide, twice, doubled):
        nnz = given.nnz
        f = lplr.factorize(given, rank=4, rng=0)
        np.testing.assert_allclose(f.to_dense(), expected.to_dense(), atol=1e-5)
        assert f.relative_error(given) == pytest.approx(expected.relative_error(TALL), rel=1e-6)
        assert given.nnz == nnz


def order_of(order: np.ndarray, more: int) -> np.ndarray:
    n = len(order)
    return np.concatenate([order, n + order, 2 * n + np.arange(more)])


def spans(A: Any) -> list[tuple[int, int]]:
    return list(zip(A.indptr[:-1], A.indptr[1:], strict=True))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (3, 50)])
@pytest.mark.parametrize("empty", [False, True])
def test_small_and_empty(shape: tuple[int, int], empty: bool) -> None:
    A = np.zeros(shape)
    if not empty:
        A[0, -1] = 3.0
    for given in (sp.csr_array(A), sp.csc_array(A), sp.coo_array(A), aslinearoperator(A)):
        f = lplr.factorize(given, rank=1, bits=8, rng=0)
        # One entry of each factor is not zero, and of the largest magnitude.
        np.testing.assert_allclose(f.to_dense(), A, atol=0.02)
        assert f.relative_error(given) == pytest.approx(f.relative_error(A), abs=1e-7)


def test_all_entries_stored_and_equal() -> None:
    f = lplr.factorize(sp.csr_array(np.full((8, 5), 2.5)), rank=2, rng=0)
    np.testing.assert_array_equal(f.to_dense(), np.full((8, 5), 2.5))


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_scales_that_float32_products_would_leave(factor: float) -> None:
    expected = lplr.factorize(TALL, rank=4, rng=0).relative_error(TALL)
    for given in (sp.csr_array(TALL * factor), aslinearoperator(TALL * factor)):
        f = lplr.factorize(given, rank=4, rng=0)
        assert f.relative_error(given) == pytest.approx(expected, rel=0.01)


def test_products_gram_matrices_and_sums_are_those_of_the_array() -> None:
    rng = np.random.default_rng(1)
    for A in (TALL, TALL.T, thinned(5000, 30)):
        X, Y = rng.standard_normal((A.shape[1], 7)), rng.standard_normal((6, A.shape[0]))
        L, R = rng.standard_normal((A.shape[0], 70)), rng.standard_normal((70, A.shape[1]))
        for given in (sp.csr_array(A), sp.csc_array(A), aslinearoperator(A)):
            B = as_matrix(given, dtype=np.float64)
            np.testing.assert_allclose(multiply(B, X), A @ X, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(multiply(Y, B), Y @ A, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(B.T.times(Y.T), A.T @ Y.T, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(B.gram(), A.T @ A, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(B.T.rows(3, 9), A.T[3:9])
            assert B.squared_norm() == pytest.approx(np.vdot(A, A))
            assert B.sum() == pytest.approx(A.sum())
            assert B.inner(L, R) == pytest.approx(np.vdot(A, L @ R))


def test_singular_vectors_by_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 columns after 8 powers: (s[20] / s[9])^32 is below 1e-5."""
    monkeypatch.setattr(SparseOperator, "narrow", 0)
    A = thinned(400, 300)
    best = np.linalg.svd(A)[1][:10]
    for X in (A, A.T):
        for given in (sp.csr_array(X), sp.csc_array(X), aslinearoperator(X)):
            s, V = short_svd(as_matrix(given), 10, n_power_iter=8, rng=0)
            U, t, Vt = truncated_svd(given, 10, n_power_iter=8, rng=0)
            np.testing.assert_allclose(s, best, rtol=1e-4)
            np.testing.assert_allclose(t, best, rtol=1e-4)
            np.testing.assert_allclose(V @ V.T, np.eye(10), atol=1e-5)
            np.testing.assert_allclose(U.T @ X @ Vt.T, np.diag(t), atol=1e-4 * t[0])


def test_same_bits_at_any_number_of_threads() -> None:
    A = sp.random_array((9000, 700), density=0.01, format="csr", rng=0)
    for given in (A, A.tocsc()):
        found = []
        for threads in (1, 2):
            with at_most(threads):
                f = lplr.factorize(given, rank=5, rng=0)
                found.append((f.to_dense(), f.relative_error(given)))
        np.testing.assert_array_equal(found[0][0], found[1][0])
        assert found[0][1] == found[1][1]


def with_entry(value: float, i: int = 61) -> np.ndarray:
    A = TALL.copy()
    A[i, 7] = A[88, 3] = value
    return A


REFUSED = {
    "nan": (sp.csr_array(with_entry(np.nan)), r"has nan at \(61, 7\)"),
    "inf": (sp.csc_matrix(with_entry(np.inf)), r"has inf at \(61, 7\)"),
    "coo": (sp.coo_array(with_entry(-np.inf)), r"has -inf at \(61, 7\)"),
    "complex": (sp.csr_array(TALL + 1j), "complex128 is not real"),
    "large": (sp.csr_array(TALL * 1e35), "multiply it by a constant"),
    "tiny": (sp.csr_array(TALL * 1e-300), "multiply it by a constant"),
    "empty": (sp.csr_array((0, 5)), "is empty"),
    "vector": (sp.coo_array(np.ones(5)), "must have 2 dimensions, found 1"),
    "operator of NaN": (aslinearoperator(with_entry(np.nan)), "matmat is not finite in row 61"),
    "complex operator": (aslinearoperator(TALL + 1j), "complex128 is not real"),
    "large operator": (aslinearoperator(TALL * 1e35), "multiply it by a constant"),
    "no rmatvec": (LinearOperator((90, 60), matvec=lambda x: TALL @ x, dtype=float), "an rmatvec"),
    "no products back": (SimpleNamespace(shape=(90, 60), matmat=lambda X: TALL @ X), "an rmatvec"),
    "not the transpose": (
        LinearOperator(
            (90, 60), matvec=lambda x: TALL @ x, rmatvec=lambda y: TALL[::-1].T @ y, dtype=float
        ),
        "not the transpose",
    ),
    "other shape": (
        SimpleNamespace(shape=(90, 60), matmat=lambda X: X, rmatmat=lambda Y: Y),
        r"must be \(90, 1\), found \(60, 1\)",
    ),
    "secretly complex": (
        SimpleNamespace(shape=(90, 60), matmat=lambda X: 1j * TALL @ X, rmatmat=TALL.T.dot),
        "complex128; products must be real",
    ),
    "no shape": (SimpleNamespace(shape=90, matvec=abs), "a shape of two sizes"),
}  # fmt: skip


@pytest.mark.parametrize(("A", "found"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("call", [
    lambda A: lplr.factorize(A, rank=2, rng=0), lplr.LPLR(2, random_state=0).fit,
    lplr.factorize(TALL, rank=2, rng=0).relative_error,
], ids=["factorize", "fit", "relative_error"])  # fmt: skip
def test_refused_with_the_reason(call: Callable[[Any], Any], A: Any, found: str) -> None:
    with pytest.raises(
        ValueError, match=f"(?i){found}|complex data not|found array with|Expected 2D"
    ):
        call(A)


def test_indices_outside_the_matrix_are_refused() -> None:
    A = sp.csr_array(TALL)
    A.indices[5] = 60
    with pytest.raises(InputError, match="A: is not a valid sparse matrix: indices must be < 60"):
        lplr.factorize(A, rank=2)


@pytest.mark.parametrize("call", [
    lambda A: lplr.compress(A, bits_per_entry=2, rng=0), lambda A: lplr.quantize(A, bits=4),
    lambda A: lplr.caldera(A, rank=2, rng=0),
], ids=["compress", "quantize", "caldera"])  # fmt: skip
def test_what_needs_entries_says_what_to_do(call: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match=r"^[AW]: is sparse, .*lplr.factorize .*\.toarray\(\)"):
        call(sp.csr_array(TALL))
    with pytest.raises(
        InputError, match=r"^[AW]: is a linear operator, .*lplr.factorize .*@ numpy"
    ):
        call(aslinearoperator(TALL))


def test_both_weights_need_an_array() -> None:
    f = lplr.factorize(TALL, rank=2, rng=0)
    H = np.linspace(1, 2, 60)
    assert f.relative_error(sp.csc_array(TALL), H) == pytest.approx(f.relative_error(TALL, H))
    with pytest.raises(InputError, match="output_hessian: .*A.toarray()"):
        f.relative_error(sp.csr_array(TALL), output_hessian=np.ones(90))


def test_rows_of_an_operator_are_few_products_and_one_at_a_time() -> None:
    """Its functions need not be safe for threads; blocks of the error have 262 rows here."""
    A = sp.random_array((600, 4000), density=0.01, rng=0, format="csr")
    calling, widths = Lock(), []

    def product(matrix: Any) -> Callable[[np.ndarray], np.ndarray]:
        def multiply(X: np.ndarray) -> np.ndarray:
            assert calling.acquire(blocking=False), "two threads call the operator"
            sleep(1e-3)  # long enough for the other thread to come
            calling.release()
            widths.append(X.shape[1] if X.ndim == 2 else 1)
            return matrix @ X

        return multiply

    A_, At_ = product(A), product(A.T.tocsr())
    operator = LinearOperator(A.shape, A_, At_, matmat=A_, rmatmat=At_, dtype=np.float64)
    f, H = lplr.factorize(A, rank=2, rng=0), np.linspace(1, 2, 4000)
    with at_most(2):
        found = f.relative_error(operator, H)
    assert found == pytest.approx(f.relative_error(A.toarray(), H), rel=1e-9)
    assert max(widths) <= 64


def test_no_memory_limit_for_products() -> None:
    for given in (sp.csr_array(TALL), aslinearoperator(TALL)):
        with pytest.raises(InputError, match="memory_limit: .* leave it out for a sparse"):
            lplr.factorize(given, rank=2, memory_limit="1GB")


def test_a_budget_above_what_the_sparse_matrix_takes() -> None:
    A = sp.random_array((400, 300), density=0.01, format="csr", rng=0)
    with pytest.warns(BudgetWarning, match="0.96 bits that an entry takes"):
        lplr.factorize(A, bits_per_entry=1, rng=0)


@pytest.mark.parametrize("make", [sp.csr_array, sp.lil_matrix, aslinearoperator])
def test_the_estimator_is_that_of_the_array(make: Callable[[Any], Any]) -> None:
    expected = lplr.LPLR(5, bits=16, random_state=0).fit(TALL)
    model = lplr.LPLR(5, bits=16, random_state=0)
    Z = model.fit_transform(make(TALL))
    np.testing.assert_array_equal(Z, model.transform(make(TALL)))
    np.testing.assert_allclose(Z, model.transform(TALL), atol=1e-12)
    assert model.n_features_in_ == 60
    for name in (
        "singular_values_", "explained_variance_", "explained_variance_ratio_",
        "reconstruction_err_",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(model, name), getattr(expected, name), rtol=2e-3)
    with pytest.raises(ValueError, match="60"):
        model.transform(make(TALL[:, :9]))


def test_texts() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    docs = [member.__doc__ for member in vars(np).values() if isinstance(member.__doc__, str)]
    X = TfidfVectorizer(dtype=np.float32).fit_transform(docs)
    model = lplr.LPLR(20, bits=16, random_state=0).fit(X)
    assert model.transform(X).dtype == np.float32
    assert model.components_.dtype == np.float32
    best = np.linalg.norm(np.linalg.svd(X.toarray(), compute_uv=False)[20:])
    assert model.reconstruction_err_ == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("A", [TALL, TALL.T], ids=["tall", "wide"])
@pytest.mark.parametrize("options", [{"rank": 6}, {"bits_per_entry": 0.9}], ids=["rank", "budget"])
def test_a_later_fit_that_is_worse_is_dropped(
    monkeypatch: pytest.MonkeyPatch, A: np.ndarray, options: dict[str, Any]
) -> None:
    def worse(X: Any, pair: Any, books: Any) -> Any:
        left, right = pair
        zeros = np.zeros_like(left.values), np.zeros_like(right.values)
        return replace(left, values=zeros[0]), replace(right, values=zeros[1])

    monkeypatch.setattr("lplr.coding.blocks.refitted_pair", worse)
    f = lplr.factorize(sp.csr_array(A), rng=0, **options)
    history = f.meta["history"]
    assert len(history) > 1
    assert len(set(history)) == 1
    assert f.relative_error(A) == pytest.approx(history[0], rel=1e-4)  # whose products are float32
