"""Classification by neighbours against scikit-learn, recall, and what both refuse."""

from __future__ import annotations

import sys
from typing import Any

import naive
import numpy as np
import pytest
from helpers import dense
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import KNeighborsClassifier

import lplr
from lplr.evaluation.engines import search_by
from lplr.evaluation.knn import PROTOCOLS, evaluate, project, recall, vote
from lplr.exceptions import InputError, LplrError, MissingPackageError
from lplr.neighbours.search import search

RNG = np.random.default_rng(0)
DATABASE = RNG.standard_normal((301, 24)) * np.linspace(1, 2, 301)[:, None] + 0.5
QUERIES = RNG.standard_normal((37, 24)) + 0.5


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
    a = naive.neighbours(X, Z, 10, "euclidean").indices
    b = naive.neighbours(dense(f), Z, 10, "euclidean").indices
    kept = np.mean([len(set(i) & set(j)) / 10 for i, j in zip(a, b, strict=True)])
    assert found.recall == pytest.approx(kept, rel=1e-12)
    assert 0.1 < kept < 0.9  # or it would not tell much
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
    expected = naive.neighbours(X, svd.inverse_transform(svd.transform(Z)), 11, "cosine")
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
