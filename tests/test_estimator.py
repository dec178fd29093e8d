"""The scikit-learn transformer."""

from __future__ import annotations

import pickle

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import lplr
from lplr.exceptions import InputError

VARIANTS = [
    lplr.LPLR(),
    lplr.LPLR(n_components=2, bits=(3, 6), random_state=0),
    lplr.LPLR(method="lplr", bits=8, random_state=1),
]


@parametrize_with_checks(VARIANTS)
def test_scikit_learn_contract(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return lplr.datasets.synthetic(120, 40, "power", exponent=1.0, rng=0)


@pytest.fixture(scope="module")
def model(X: np.ndarray) -> lplr.LPLR:
    return lplr.LPLR(n_components=8, bits=5, random_state=0).fit(X)


def test_factors_are_those_of_factorize(X: np.ndarray, model: lplr.LPLR) -> None:
    f = lplr.factorize(X, rank=8, bits=5, rng=0)
    np.testing.assert_array_equal(model.factors_.to_dense(), f.to_dense())
    assert model.factors_.nbytes == f.nbytes
    assert model.factors_.meta["call"]["arguments"]["rng"] == 0
    error = np.linalg.norm(X - f.to_dense())
    assert model.reconstruction_err_ == pytest.approx(error, rel=1e-6)
    assert model.n_components_ == 8


def test_components_are_the_right_singular_vectors_of_the_product(X, model) -> None:
    C = model.components_
    assert C.shape == (8, 40)
    np.testing.assert_allclose(C @ C.T, np.eye(8), atol=1e-12)
    f = model.factors_
    P = f.left.to_dense().astype(np.float64) @ f.right.to_dense()
    _, s, Vt = np.linalg.svd(P)
    np.testing.assert_allclose(model.singular_values_, s[:8], rtol=1e-6)
    np.testing.assert_allclose(np.abs(C @ Vt[:8].T), np.eye(8), atol=1e-4)
    # Each has its largest entry positive, so that the signs do not depend on LAPACK.
    assert (C[np.arange(8), np.abs(C).argmax(axis=1)] > 0).all()


def test_transform_is_the_least_squares_fit_to_r(X: np.ndarray, model: lplr.LPLR) -> None:
    """Of new rows as well: argmin_Z |Y - Z R| in other coordinates."""
    Y = np.random.default_rng(1).standard_normal((15, 40))
    R = model.factors_.right.to_dense().astype(np.float64)
    Z = np.linalg.lstsq(R.T, Y.T, rcond=None)[0].T
    projection = model.inverse_transform(model.transform(Y))
    np.testing.assert_allclose(projection, Z @ R, atol=1e-6)
    # An orthonormal basis keeps the lengths of what is projected.
    np.testing.assert_allclose(
        np.linalg.norm(model.transform(Y), axis=1), np.linalg.norm(projection, axis=1)
    )
    np.testing.assert_allclose(model.transform(projection), model.transform(Y), atol=1e-12)


def test_projection_is_no_worse_than_the_factors(X: np.ndarray, model: lplr.LPLR) -> None:
    Z = model.fit_transform(X)
    np.testing.assert_array_equal(Z, model.transform(X))
    projected = np.linalg.norm(X - model.inverse_transform(Z))
    assert projected <= model.reconstruction_err_
    best = TruncatedSVD(8, algorithm="arpack").fit(X)
    least = np.linalg.norm(X - best.inverse_transform(best.transform(X)))
    assert least <= projected <= 1.05 * least


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(X: np.ndarray, dtype: type) -> None:
    model = lplr.LPLR(n_components=3, random_state=0).fit(X.astype(dtype))
    Z = model.transform(X.astype(dtype))
    for array in (Z, model.inverse_transform(Z), model.components_, model.singular_values_):
        assert array.dtype == dtype
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    assert model.transform(X.astype(np.float64)).dtype == np.float64
    assert model.transform((10 * X).astype(int)).dtype == np.float64


def test_budget_chooses_the_components(X: np.ndarray) -> None:
    model = lplr.LPLR(bits_per_entry=2, random_state=0).fit(X)
    assert model.factors_.bits_per_entry <= 2
    assert model.components_.shape == (model.n_components_, 40)
    assert model.n_components_ == model.factors_.rank == model.transform(X).shape[1]


def test_components_default_to_all_of_them(X: np.ndarray) -> None:
    model = lplr.LPLR(bits=8, random_state=0).fit(X)
    assert model.n_components_ == 40
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-10)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_data(value: float) -> None:
    X = np.full((6, 4), value, np.float32)
    model = lplr.LPLR(n_components=2).fit(X)
    assert model.reconstruction_err_ == 0
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-5)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("n_components", {"n_components": 0}),
        ("n_components", {"n_components": 41}),
        ("n_components", {"n_components": 2.0}),
        ("n_components", {"n_components": "all"}),
        ("n_components, bits_per_entry", {"n_components": 2, "bits_per_entry": 2}),
        ("bits", {"bits": 9}),
        ("bits_per_entry", {"n_components": None, "bits_per_entry": -1}),
        ("method", {"method": "svd"}),
        ("sketch", {"sketch": "none"}),
        ("n_oversamples", {"n_oversamples": -1}),
        ("n_power_iter", {"n_power_iter": "auto"}),
        ("quantizer", {"quantizer": "kmeans"}),
        ("random_state", {"random_state": -1}),
        ("random_state", {"random_state": "seed"}),
    ],
)
def test_parameters_are_refused_by_name_in_fit(X, argument: str, options: dict) -> None:
    model = lplr.LPLR(**{"n_components": 2, **options})  # the constructor checks nothing
    with pytest.raises(InputError, match=f"^{argument}: "):
        model.fit(X)


def test_what_does_not_fit_is_refused(X: np.ndarray, model: lplr.LPLR) -> None:
    with pytest.raises(InputError, match="^X: .*n_components_=8"):
        model.inverse_transform(np.ones((3, 7)))
    with pytest.raises(ValueError, match="40 features"):
        model.transform(np.ones((3, 39)))
    with pytest.raises(InputError, match="^X: .*multiply"):
        lplr.LPLR(n_components=2).fit(X * 1e40)
    for method in ("transform", "inverse_transform", "get_feature_names_out"):
        arguments = () if method.startswith("get") else (X,)
        with pytest.raises(NotFittedError):
            getattr(lplr.LPLR(), method)(*arguments)


def test_random_state(X: np.ndarray) -> None:
    def fit(random_state) -> np.ndarray:
        return lplr.LPLR(n_components=4, random_state=random_state).fit(X).components_

    np.testing.assert_array_equal(fit(3), fit(3))
    np.testing.assert_array_equal(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))
    np.testing.assert_array_equal(fit(np.random.default_rng(3)), fit(np.random.default_rng(3)))
    assert not np.array_equal(fit(3), fit(4))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert not np.array_equal(fit(None), fit(None))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    generator = np.random.RandomState(3)
    assert not np.array_equal(fit(generator), fit(generator))  # the state moves on


def test_feature_names_and_output_container(X: np.ndarray, model: lplr.LPLR) -> None:
    names = [f"lplr{i}" for i in range(8)]
    assert model.get_feature_names_out().tolist() == names
    frame = pandas.DataFrame(X, columns=[f"c{i}" for i in range(40)])
    named = clone(model).set_output(transform="pandas").fit(frame)
    out = named.transform(frame)
    assert out.columns.tolist() == names
    np.testing.assert_array_equal(named.feature_names_in_, frame.columns)
    np.testing.assert_allclose(out.to_numpy(), model.transform(X), atol=1e-12)


def test_survives_pickle_and_stores_its_factors(X, model, tmp_path) -> None:
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.transform(X), model.transform(X))
    lplr.save(tmp_path / "x.h5", model.factors_)
    loaded = lplr.load(tmp_path / "x.h5")
    np.testing.assert_array_equal(loaded.to_dense(), model.factors_.to_dense())


def test_in_a_pipeline_and_a_search() -> None:
    data = lplr.datasets.fashion_mnist("train", n=400, subset="small")
    pipeline = make_pipeline(lplr.LPLR(random_state=0), KNeighborsClassifier(5))
    search = GridSearchCV(pipeline, {"lplr__n_components": [1, 20], "lplr__bits": [2, 4]}, cv=2)
    search.fit(data.images, data.labels)
    assert search.best_params_["lplr__n_components"] == 20
    # Ten classes; nearest neighbours on all pixels reach about 0.7 with 200 images.
    assert search.best_score_ > 0.6


@pytest.mark.parametrize("estimator", [lplr.LPLR(2), lplr.KNeighborsClassifier(2)])
def test_verbose_shows_how_far_it_is(estimator, X: np.ndarray, capsys) -> None:
    for verbose in (0, 1, True):
        clone(estimator).set_params(verbose=verbose).fit(X, np.arange(len(X)) % 2)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert ("%" in captured.err) == bool(verbose)


def test_same_result_at_any_number_of_threads(X: np.ndarray, monkeypatch) -> None:
    results = []
    for threads in "12":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        results.append(lplr.LPLR(n_components=8, random_state=0).fit(X).components_)
    np.testing.assert_array_equal(*results)
