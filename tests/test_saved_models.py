"""Fitted estimators in files: the same after loading, and nothing that loading would execute."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas
import pytest
from sklearn.decomposition import PCA, TruncatedSVD

import lplr
from lplr.exceptions import CorruptFileError, InputError
from lplr.selftest.forge import forge_contents

X = lplr.datasets.synthetic(60, 12, "power", exponent=1.0, rng=0) + 0.1


def test_a_transformer_is_the_same_after_loading(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    frame = pandas.DataFrame(X, columns=[f"ç{i}" for i in range(12)])
    for model, data in (
        (lplr.LPLR(n_components=5, bits=(3, 5), random_state=0), frame),
        (lplr.LPLR(bits_per_entry=np.float64(2), quantizer=("uniform", "e8p")), X),
        (lplr.LPLR(n_components=np.int64(2), method="lplr"), X.astype(np.float32)),
    ):
        model.fit(data)
        lplr.save(path, model, overwrite=True, attrs={"of": "test"})
        back = lplr.load(path)
        assert type(back) is lplr.LPLR
        assert back.get_params() == model.get_params()
        assert vars(back).keys() == vars(model).keys()
        Z = model.transform(data)
        np.testing.assert_array_equal(back.transform(data), Z)
        assert back.transform(data).dtype == Z.dtype
        np.testing.assert_array_equal(back.inverse_transform(Z), model.inverse_transform(Z))
        assert back.get_feature_names_out().tolist() == model.get_feature_names_out().tolist()
        for name in ("singular_values_", "explained_variance_ratio_", "reconstruction_err_"):
            np.testing.assert_array_equal(getattr(back, name), getattr(model, name))
        assert back.factors_.meta == model.factors_.meta
        back.fit(data)  # and it can be fitted again
    lplr.save(path, {"a": model, "b": model.factors_}, overwrite=True)
    np.testing.assert_array_equal(lplr.load(path, name="a").transform(X), model.transform(X))


def test_a_classifier_is_the_same_after_loading(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    kinds = [np.array(["ü", "b", ""]), np.array(["x", "y", "z"], object), np.array([5, -1, 2])]
    for labels in [*kinds, np.array([True, False, True]), np.array([5.0, 2.0, 1.0], np.float32)]:
        model = lplr.KNeighborsClassifier(3, weights="distance", random_state=0)
        model.fit(X, np.tile(labels, 20))
        lplr.save(path, model, overwrite=True)
        back = lplr.load(path)
        assert (back.get_params(), back.classes_.dtype) == (model.get_params(), labels.dtype)
        np.testing.assert_array_equal(back.predict(X), model.predict(X))
        np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
        assert back.n_samples_fit_ == 60


def test_what_a_file_does_not_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    for model in (lplr.LPLR(), lplr.KNeighborsClassifier()):
        with pytest.raises(InputError, match="^obj: .*not fitted"):
            lplr.save(path, model)
    for state in (np.random.RandomState(0), np.random.default_rng(0)):
        model = lplr.LPLR(n_components=2, random_state=state).fit(X)
        with pytest.raises(InputError, match=r"random_state.*set_params"):
            lplr.save(path, model)
        lplr.save(path, model.set_params(random_state=0), overwrite=True)
    path.unlink()
    odd = lplr.KNeighborsClassifier(1, random_state=0).fit(X, np.tile(["a", "b", "c"], 20))
    odd.classes_ = np.array(["a", ("b",), None], dtype=object)
    with pytest.raises(InputError, match=r"classes_.*no text"):
        lplr.save(path, odd)
    assert not path.exists()


def _edited(path: Path, folder: Path, *place: str, to: Any) -> Path:
    """The file with one member of its contents replaced, under a right digest."""
    with h5py.File(path) as file:
        contents, data = json.loads(zlib.decompress(file["contents"][:])), file["data"][:]
    found = contents["object"]
    for key in place[:-1]:
        found = found[key]
    found[place[-1]] = to
    return forge_contents(folder, contents, data.tobytes())


TRANSFORMER = {
    "values params": {"n_components": 2, "no_such": 1},
    "values params method": {"a": 1},
    "values n_features_in": 11,
    "values reconstruction_err": "0",
    "values feature_names_in": {"kind": "O", "items": ["a"]},
    "values more": 1,
    "arrays components": ["f8", [12, 2]],
    "arrays singular_values": ["i8", [2]],
    "groups factors encoding": "stacked",
}
CLASSIFIER = {
    "values classes": {"kind": "U", "items": ["a", "b"]},
    "values classes items": ["a", "b", 3],
    "values classes kind": "f",
    "values n_features_in": True,
    "arrays labels": ["i1", [60]],
}


@pytest.mark.parametrize(
    ("kind", "place"), [("t", p) for p in TRANSFORMER] + [("c", p) for p in CLASSIFIER]
)
def test_forged_models_are_refused(tmp_path: Path, kind: str, place: str) -> None:
    path = tmp_path / "m.h5"
    model: Any = lplr.LPLR(n_components=2, random_state=0)
    if kind == "c":
        model = lplr.KNeighborsClassifier(3, random_state=0)
    lplr.save(path, model.fit(X, np.tile(["a", "b", "c"], 20)))
    edit = (TRANSFORMER if kind == "t" else CLASSIFIER)[place]
    if place == "values params method":  # what a parameter may be, fitting says and not loading
        loaded = lplr.load(_edited(path, tmp_path, *place.split(), to=edit))
        with pytest.raises(InputError, match="method"):
            loaded.fit(X)
        return
    with pytest.raises(CorruptFileError):
        lplr.load(_edited(path, tmp_path, *place.split(), to=edit))


def test_explained_variance_follows_the_conventions() -> None:
    """With codes of 16 bits it is that of TruncatedSVD, and of PCA where X is centred."""
    options = {"n_components": 4, "bits": 16, "method": "direct-svd", "random_state": 0}
    for data, other in (
        (X, TruncatedSVD(4, algorithm="arpack")),
        (X - X.mean(axis=0), PCA(4)),
    ):
        model = lplr.LPLR(**options, n_power_iter=8).fit(data)
        expected = other.fit(data).explained_variance_ratio_
        # Float16 rounds the factors by 2**-12 in the root mean square; variances, by twice that.
        np.testing.assert_allclose(model.explained_variance_ratio_, expected, rtol=2**-11)
        total = data.var(axis=0).sum()
        Z = model.transform(data)
        np.testing.assert_allclose(model.explained_variance_, Z.var(axis=0))
        np.testing.assert_allclose(model.explained_variance_ratio_, Z.var(axis=0) / total)


@pytest.mark.parametrize("size", [1e-25, 1e20])
def test_variances_out_of_the_range_of_float32(tmp_path: Path, size: float) -> None:
    data = (size * X).astype(np.float32)
    model = lplr.LPLR(3, random_state=0).fit(data)
    variance = model.transform(data).astype(np.float64).var(axis=0)
    np.testing.assert_allclose(model.explained_variance_, variance, rtol=1e-5)
    lplr.save(tmp_path / "model.h5", model)
    again = lplr.load(tmp_path / "model.h5")
    assert np.array_equal(again.explained_variance_, model.explained_variance_)


def test_what_would_not_load_is_not_saved(tmp_path: Path) -> None:
    model = lplr.LPLR(3, random_state=0).fit(X)
    model.explained_variance_ = model.explained_variance_ * np.nan
    with pytest.raises(InputError, match="explained_variance_ must be"):
        lplr.save(tmp_path / "model.h5", model)
    assert not (tmp_path / "model.h5").exists()
