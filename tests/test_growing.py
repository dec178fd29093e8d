"""The transformer on data that are read in passes, or that come in batches."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import lplr
from lplr.exceptions import InputError
from lplr.sources import open_source
from lplr.streaming.growing import GrowingMoments
from lplr.streaming.moments import first_pass
from lplr.streaming.passes import Passes

N, D, K = 10_000, 24, 6
LIMIT = "1GB"


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    """Rows around a mean, on a falling spectrum, (N, D) float32."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((N, D)) / np.arange(1, D + 1) ** 0.7
    return (noise + 0.3 * rng.standard_normal(D)).astype(np.float32)


def batches(A: Any, edges: list[int]) -> list[Any]:
    return [A[i:j] for i, j in zip([0, *edges], [*edges, A.shape[0]], strict=True)]


def grown(A: Any, edges: list[int], **options: Any) -> lplr.LPLR:
    model = lplr.LPLR(n_components=K, random_state=0, **options)
    for X in batches(A, edges):
        model.partial_fit(X)
    return model


def projection_error(model: lplr.LPLR, A: np.ndarray) -> float:
    return float(np.linalg.norm(A - model.inverse_transform(model.transform(A))))


class Counted:
    """Rows, and how often each was read."""

    def __init__(self, A: np.ndarray) -> None:
        self._A, self.shape, self.dtype, self.reads = A, A.shape, A.dtype, Counter[int]()

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.reads.update(range(*rows.indices(len(self._A))))
        return self._A[rows]


# --- data that are read in passes -----------------------------------------------------------------


@pytest.mark.parametrize(("options", "reads"), [({}, 2), ({"method": "lplr", "bits": 8}, 3)])
def test_a_source_is_fitted_in_passes(A: np.ndarray, options: dict, reads: int) -> None:
    model = lplr.LPLR(n_components=K, random_state=0, memory_limit=LIMIT, **options)
    source = Counted(A)
    model.fit(source)
    assert set(source.reads.values()) == {reads}
    f = lplr.factorize(A, rank=K, rng=0, memory_limit=LIMIT, **options)
    np.testing.assert_array_equal(model.factors_.to_dense(), f.to_dense())
    # What follows from the sums is what all rows say; their products are in float32.
    x = A.astype(np.float64)
    error = np.linalg.norm(x - f.to_dense())
    assert model.reconstruction_err_ == pytest.approx(error, rel=1e-3)
    Z = model.transform(A)
    np.testing.assert_allclose(model.explained_variance_, Z.var(axis=0), rtol=1e-4)
    ratio = Z.var(axis=0) / x.var(axis=0).sum()
    np.testing.assert_allclose(model.explained_variance_ratio_, ratio, rtol=1e-4)
    np.testing.assert_allclose(model.transform(source), Z, atol=1e-5)
    assert model.transform(source).dtype == model.components_.dtype == np.float32


def test_a_small_error_is_measured(A: np.ndarray) -> None:
    """Below what float32 sums tell of it."""
    model = lplr.LPLR(D, bits=16, random_state=0, memory_limit=LIMIT).fit(A)
    error = np.linalg.norm(A - model.factors_.to_dense())
    assert error < 1e-3 * np.linalg.norm(A)
    assert model.reconstruction_err_ == pytest.approx(error, rel=1e-3)


def test_files_and_what_is_wrong_with_them(A: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "A.npy"
    np.save(path, A[:3000].astype(np.float64))
    model = lplr.LPLR(n_components=K, random_state=0, memory_limit=LIMIT)
    Z = model.fit_transform(path)
    assert Z.shape == (3000, K)
    assert Z.dtype == model.components_.dtype == np.float64
    with pytest.raises(InputError, match="memory_limit: 1,000 bytes .* use at least"):
        lplr.LPLR(memory_limit=1000).fit(path)
    with pytest.raises(InputError, match="X: must have n_features_in_=24 columns, found 23"):
        model.transform(Counted(A[:, 1:]))
    bad = A[:3000].copy()
    bad[2999, 1] = np.nan
    with pytest.raises(InputError, match="X: .*2999"):
        model.transform(Counted(bad))
    with pytest.raises(InputError, match="memory_limit: goes with a matrix whose rows are read"):
        model.fit(scipy.sparse.csr_array(A[:100]))


# --- batches --------------------------------------------------------------------------------------


def test_moments_do_not_depend_on_batches(A: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lplr.streaming.moments._SAMPLE", 100)
    found = []
    for edges in ([], [1, 2, 5000, 5007], list(range(333, N, 333))):
        growing = GrowingMoments(D)
        for X in batches(A, edges):
            growing.add(X, "X")
        found.append(growing.moments("X"))
    whole, *others = found
    for other in others:
        for name in ("gram", "sums", "sample"):
            np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))
    known = first_pass(Passes(open_source(A, "A"), 1 << 30, 1))
    np.testing.assert_allclose(whole.gram, known.gram, rtol=1e-12, atol=1e-12 * known.energy)
    np.testing.assert_allclose(whole.sums, known.sums, rtol=1e-9)
    np.testing.assert_array_equal(whole.sample, A[::64])  # above 100 rows, at most 200


def test_batches_give_what_all_rows_give(A: np.ndarray) -> None:
    whole = lplr.LPLR(n_components=K, random_state=0).fit(A)
    model = grown(A, [4, 3000, 3001])
    assert model.n_samples_seen_ == whole.n_samples_seen_ == N
    np.testing.assert_array_equal(model.components_, grown(A, [5000]).components_)
    # At 4 bits on such a spectrum the errors were within 0.2 %, and within 1 % on most others.
    assert projection_error(model, A) == pytest.approx(projection_error(whole, A), rel=0.01)
    Z = model.transform(A)
    np.testing.assert_allclose(model.explained_variance_, Z.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(model.singular_values_, whole.singular_values_, rtol=0.02)
    # R, and the scales of L, code all rows with the error that is told.
    coded = lplr.encode(model.factors_, A)
    assert len(model.factors_) < N
    assert np.linalg.norm(A - coded.to_dense()) == pytest.approx(
        model.reconstruction_err_, rel=0.01
    )


def test_sparse_batches_and_budgets(A: np.ndarray) -> None:
    X = np.where(A > 1, A, 0)
    sparse = grown(scipy.sparse.csr_array(X), [2000])
    np.testing.assert_array_equal(sparse.components_, grown(X, [2000]).components_)
    budget = lplr.LPLR(bits_per_entry=1, random_state=0).partial_fit(A[:10]).partial_fit(A[10:])
    assert budget.n_components_ == lplr.LPLR(bits_per_entry=1, random_state=0).fit(A).n_components_
    constant = lplr.LPLR(2).partial_fit(np.full((5, 4), 2.5)).partial_fit(np.full((9, 4), 2.5))
    row = np.full((1, 4), 2.5)
    np.testing.assert_allclose(constant.inverse_transform(constant.transform(row)), row)
    assert constant.reconstruction_err_ == constant.explained_variance_ratio_.sum() == 0
    assert grown(A[:3], []).components_.shape == (K, D)  # fewer rows than components


def test_after_fit_and_from_files(A: np.ndarray, tmp_path: Path) -> None:
    whole = lplr.LPLR(n_components=K, random_state=0).fit(A)
    model = lplr.LPLR(n_components=K, random_state=0).fit(A[:5000])
    lplr.save(tmp_path / "m.h5", model)
    for known in (model, lplr.load(tmp_path / "m.h5")):
        known.partial_fit(A[5000:])
        assert known.n_samples_seen_ == N
        # What fit lost of the first half is gone: within the error of its codes.
        assert projection_error(known, A) <= 1.02 * projection_error(whole, A)
    again = pickle.loads(pickle.dumps(model)).partial_fit(A[:100])
    assert (again.n_samples_seen_, model.n_samples_seen_) == (N + 100, N)
    lplr.save(tmp_path / "m.h5", model, overwrite=True)
    back = lplr.load(tmp_path / "m.h5")
    assert back.n_samples_seen_ == N
    np.testing.assert_array_equal(back.transform(A[:9]), model.transform(A[:9]))
    with pytest.raises(InputError, match="keep the model with pickle"):
        back.partial_fit(A[:100])


def test_a_batch_that_is_refused_is_not_counted(A: np.ndarray) -> None:
    model = grown(A, [])
    before = model.components_
    bad = A[:50].copy()
    bad[49, 3] = np.inf
    for batch, said in ((bad, "infinity"), (A[:9, 1:], "23 features"), (A[:0], "0 sample")):
        with pytest.raises(ValueError, match=said):
            model.partial_fit(batch)
    with pytest.raises(InputError, match="bits"):
        model.set_params(bits=9).partial_fit(A)
    assert model.n_samples_seen_ == N
    assert model.components_ is before
    with pytest.raises(InputError, match="n_components"):
        lplr.LPLR(n_components=D + 1).partial_fit(A)
