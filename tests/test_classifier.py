"""The scikit-learn classifier."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier as Dense
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import lplr
from lplr.exceptions import InputError

VARIANTS = [
    lplr.KNeighborsClassifier(),
    lplr.KNeighborsClassifier(3, bits_per_entry=16, weights="distance", random_state=0),
]


@parametrize_with_checks(VARIANTS)
def test_scikit_learn_contract(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.repeat(["ant", "bee", "cat"], 60)
    X = rng.standard_normal((180, 12)) + 1.2 * rng.standard_normal((3, 12))[np.arange(180) // 60]
    return X, y


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_it_is_scikit_learn_on_the_stored_rows(data, weights: str, metric: str) -> None:
    X, y = data
    model = lplr.KNeighborsClassifier(7, bits_per_entry=3, weights=weights, metric=metric)
    model.set_params(random_state=0).fit(X[::2], y[::2])
    rows = model.rows_.to_dense().astype(np.float64)
    dense = Dense(7, weights=weights, metric=metric, algorithm="brute").fit(rows, y[::2])
    Y = X[1::2]
    distances, indices = model.kneighbors(Y)
    np.testing.assert_array_equal(indices, dense.kneighbors(Y)[1])
    np.testing.assert_allclose(distances, dense.kneighbors(Y)[0], rtol=1e-6)
    np.testing.assert_array_equal(model.kneighbors(Y, 2, return_distance=False), indices[:, :2])
    np.testing.assert_allclose(model.predict_proba(Y), dense.predict_proba(Y), rtol=1e-6)
    np.testing.assert_array_equal(model.predict(Y), dense.predict(Y))
    assert model.score(Y, y[1::2]) == dense.score(Y, y[1::2])
    assert model.rows_.bits_per_entry <= 3
    # Without queries, no row is its own neighbour.
    np.testing.assert_array_equal(model.kneighbors()[1], dense.kneighbors()[1])
    np.testing.assert_array_equal(model.classes_, ["ant", "bee", "cat"])


def test_equal_rows_are_neighbours_and_the_nearest_outvote_the_rest() -> None:
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], [4, 3], axis=0)
    model = lplr.KNeighborsClassifier(5, weights="distance", random_state=0)
    model.fit(X, [0, 0, 0, 0, 1, 1, 1])
    rows = model.rows_.to_dense()
    # Distances are differences of float64 products: off by some 1e-8 where they are 0.
    np.testing.assert_allclose(model.predict_proba(rows[-1:]), [[0, 1]], atol=1e-6)
    alone = model.kneighbors(n_neighbors=6)[1]
    assert [sorted({*range(7)} - {*row}) for row in alone.tolist()] == [[i] for i in range(7)]


def test_labels_of_any_kind_and_few_bytes(data) -> None:
    X, y = data
    for labels in (y, y.astype(object), y == "ant", np.unique(y, return_inverse=True)[1] * 1.0):
        model = lplr.KNeighborsClassifier(3, random_state=0).fit(X, labels)
        found = model.predict(X)
        assert found.dtype == labels.dtype
        assert set(found.tolist()) <= set(labels.tolist())
    # In less than half of the memory of float16, and 99 of 100 predictions as without compression.
    model = lplr.KNeighborsClassifier(5, random_state=0).fit(X, y)
    assert model.rows_.nbytes <= X.size / 2
    same = model.predict(X) == Dense(5).fit(X, y).predict(X)
    assert same.mean() > 0.97


def test_small_data_have_bytes_enough() -> None:
    for shape in ((1, 1), (1, 9), (9, 1), (3, 3)):
        X = np.random.default_rng(0).standard_normal(shape)
        model = lplr.KNeighborsClassifier(1).fit(X, np.arange(shape[0]))
        np.testing.assert_array_equal(model.predict(X), np.arange(shape[0]))
        assert model.rows_.nbytes <= 32


def test_in_a_pipeline_and_a_search(data) -> None:
    X, y = data
    pipeline = make_pipeline(StandardScaler(), lplr.KNeighborsClassifier(random_state=0))
    grid = {
        "kneighborsclassifier__n_neighbors": [1, 5],
        "kneighborsclassifier__bits_per_entry": [4],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    clone(search.best_estimator_)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("n_neighbors", {"n_neighbors": 0}),
        ("n_neighbors", {"n_neighbors": 2.5}),
        ("bits_per_entry", {"bits_per_entry": -1}),
        ("bits_per_entry", {"bits_per_entry": 0.001}),
        ("weights", {"weights": len}),
        ("metric", {"metric": "inner"}),
        ("effort", {"effort": "much"}),
        ("random_state", {"random_state": "seed"}),
    ],
)
def test_parameters_are_refused_by_name_in_fit(data, argument: str, options: dict) -> None:
    model = lplr.KNeighborsClassifier(**options)  # the constructor checks nothing
    with pytest.raises(InputError, match=f"^{argument}: "):
        model.fit(*data)


def test_more_neighbours_than_rows(data) -> None:
    X, y = data
    model = lplr.KNeighborsClassifier(9, bits_per_entry=8).fit(X[:5], y[:5])
    with pytest.raises(InputError, match="^n_neighbors: .*5"):
        model.predict(X)
    with pytest.raises(InputError, match="^n_neighbors: .*4"):
        model.kneighbors(n_neighbors=5)
