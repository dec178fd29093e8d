"""Search among rows in parts."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import lplr
from lplr.evaluation.knn import recall
from lplr.evaluation.resources import measured, run_fresh, threads
from lplr.exceptions import InputError
from lplr.matrices.base import PackedMatrix

D = 24
SIZES = (4200, 300, 9, 700, 4096, 300)


def rows() -> np.ndarray:
    """Of all parts; the second and the last part are equal."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((sum(SIZES), D), np.float32) / np.arange(1, D + 1, dtype=np.float32)
    A[-300:] = A[4200:4500]
    return A


A = rows()


@cache
def in_parts(kind: str) -> list[PackedMatrix]:
    pieces = np.split(A, np.cumsum(SIZES)[:-1])
    if kind == "quantized":
        return [lplr.quantize(X, bits=3) for X in pieces]
    if kind == "L R":
        return [lplr.factorize(X, rank=6, bits=4, effort="fast", rng=0) for X in pieces]
    return [lplr.compress(X, bits_per_entry=6, effort="fast", rng=0) for X in pieces]


class Far:
    """A part that is opened anew each time."""

    def __init__(self, part: PackedMatrix) -> None:
        self._part, self.shape, self.nbytes = part, part.shape, part.nbytes

    def open(self) -> PackedMatrix:
        return replace(self._part)  # type: ignore[type-var]


@pytest.mark.parametrize("kind", ["quantized", "L R", "Q + L R"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner"])
def test_the_neighbours_are_those_of_the_matrix_in_memory(kind: str, metric: str) -> None:
    parts = in_parts(kind)
    dense = np.vstack([part.to_dense() for part in parts])
    f = lplr.RowParts([Far(part) for part in parts])
    X = np.vstack([A[4200:4203], np.random.default_rng(1).standard_normal((6, D), np.float32)])
    k = 12
    found = []
    for count in (1, 2):  # four parts for each thread: two share them, and one takes them in turn
        with threads(count):
            found += [lplr.search(f, X, k, metric=metric), lplr.search(f, X[:2], k, metric=metric)]
    expected = lplr.search(dense, X, k, metric=metric)
    for first, few in (found[:2], found[2:]):
        np.testing.assert_array_equal(first.indices, expected.indices)
        # The sums are those of other blocks; a distance near 0 is the root of a difference.
        np.testing.assert_allclose(first.distances, expected.distances, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(few.indices, expected.indices[:2])
    np.testing.assert_array_equal(found[0].distances, found[2].distances)


def test_ties_among_parts_keep_the_lowest_rows() -> None:
    f = lplr.RowParts(in_parts("quantized"))
    dense = f.to_dense()
    found, expected = (lplr.search(g, dense[4200:4300], 20) for g in (f, dense))
    assert (np.diff(found.distances) == 0).any()
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_a_limit_of_memory() -> None:
    f = lplr.RowParts([Far(part) for part in in_parts("quantized")])
    with pytest.raises(InputError, match="memory_limit: 1,000,000 bytes .* use at least '33.8MB'"):
        lplr.search(f, A[:5], 3, memory_limit="1MB")
    found = lplr.search(f, A[:5], 3, memory_limit="33.8MB")
    np.testing.assert_array_equal(found.indices, lplr.search(f, A[:5], 3).indices)
    with pytest.raises(InputError, match="memory_limit: goes with a matrix in parts"):
        lplr.search(A, A[:5], 3, memory_limit="1GB")


def test_classification_among_rows_in_parts() -> None:
    f = lplr.RowParts(in_parts("L R"))
    y = (A[:, 0] > 0).astype(int)
    model = lplr.KNeighborsClassifier(5).fit(f, y)
    assert model.rows_ is f
    exact = KNeighborsClassifier(5).fit(f.to_dense(), y)
    np.testing.assert_array_equal(model.predict(A), exact.predict(A))
    distances, indices = model.kneighbors(n_neighbors=2)
    assert distances.shape == (len(A), 2)
    assert not (indices == np.arange(len(A))[:, None]).any()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        lplr.KNeighborsClassifier().fit(f, y[1:])


def growth(path: str, limit: str) -> float:
    """In a fresh process: bytes that the peak grows by, in a search of a folder."""
    X = np.random.default_rng(0).standard_normal((20, 128), np.float32)
    lplr.search(lplr.RowParts([lplr.quantize(X, bits=4)] * 9), X, 10)  # loaded on first use
    f = lplr.load(path)
    found, cost = measured(lambda: lplr.search(f, X, 10, memory_limit=limit))
    assert (found.indices >= 0).all()
    assert cost.extra_nbytes is not None
    return cost.extra_nbytes


def test_the_peak_grows_by_less_than_the_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    part = lplr.quantize(rng.standard_normal((30_000, 128), np.float32), bits=8)
    lplr.save(tmp_path / "f", lplr.RowParts([part] * 16), parts=True)
    folders = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": folders, "LPLR_NUM_THREADS": "2"}
    used = run_fresh("test_search_parts", "growth", str(tmp_path / "f"), "55MB", **environment)
    print(f"grew by {used:,.0f}, of a folder of {16 * part.nbytes:,} bytes")
    assert used < 55e6 < 16 * part.nbytes


def test_recall_of_appended_rows_is_that_of_rows_compressed_together(tmp_path: Path) -> None:
    X, _, _ = lplr.datasets.text_embeddings()
    database, queries = X[:3379], X[3379:]
    options = {"rank": 96, "bits": 4, "effort": "fast", "rng": 0}
    together = lplr.factorize(database, **options)
    lplr.save(tmp_path / "f", lplr.factorize(database[:2400], **options), parts=True)
    lplr.append(tmp_path / "f", database[2400:2900])
    grown = lplr.append(tmp_path / "f", database[2900:])
    exact = lplr.search(database, queries, 10, metric="cosine")
    found = [lplr.search(f, queries, 10, metric="cosine") for f in (together, grown)]
    expected, measured = (recall(each, exact) for each in found)
    print(f"recall of 10: {expected:.3f} together, {measured:.3f} in parts")
    # 1.7 % less at one bit and 1.2 % less at two, whole plans of lplr.compress, were measured.
    assert measured > expected - 0.03
