"""``f[...]`` against NumPy's indexing of the dense matrix, for every kind of packed matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array

import lplr
from lplr.exceptions import BadIndexError, InputError
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.base import PackedMatrix

N, D = 301, 24
A = np.random.default_rng(0).standard_normal((N, D))


def decomposed(**transform: Any) -> lplr.QPlusLowRank:
    g = lplr.caldera(A, rank=3, quantizer="trellis-6", rng=0)
    return replace(g, left=RandomizedTransform(N, 5, **transform))


MADE: dict[str, Callable[[], PackedMatrix]] = {
    "quantized": lambda: lplr.quantize(A, bits=3, quantizer="e8p"),
    "low rank": lambda: lplr.factorize(A, bits_per_entry=4, rng=0),
    "stacked": lambda: lplr.factorize(A, bits_per_entry=4, rng=0).left,
    "whole": decomposed,
    "blocks": lambda: decomposed(block=64),
    "interleaved": lambda: decomposed(block=64, interleaved=True),
    "no transform of rows": lambda: replace(decomposed(), left=None),
}
each = pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())


@each
def test_numpy_would_give_the_same(make: Callable[[], PackedMatrix]) -> None:
    f = make()
    dense = f.to_dense()
    n = f.shape[0]
    assert len(f) == n
    mask = np.random.default_rng(1).random(n) < 0.3
    for index in (
        *(0, n - 1, -1, -n, np.int64(7), np.uint8(200)),
        *(slice(5, 9), slice(None), slice(250, 10_000), slice(9, 5), slice(-3, None)),
        *(slice(None, None, 40), slice(200, 3, -7), slice(None, None, -1)),
        *([3, 8], [8, 3, 3, -1], [], (9,), np.array([[1, 2], [100, 1]]), np.arange(0)),
        *(mask, mask.tolist(), ~mask & False),
        *((7, 2), (-7, -1), (slice(3, 80), 1), (slice(3, 6), [0, 1]), ([3, 200], slice(1, 3))),
        *(([3, 200, 3], [1, 0, 2]), (mask, 0), (slice(None), 2), (4, slice(None, None, -1))),
        *(Ellipsis, (..., 2), (5, ...), ([5, 6], ...), (7, 1, ...)),
    ):
        found, expected = f[index], dense[index]
        assert found.dtype == np.float32
        # A row of L R is a sum whose order depends on how many rows are multiplied together.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=f"{index}")
        assert np.shape(found) == np.shape(expected)


@each
def test_what_numpy_refuses_is_refused(make: Callable[[], PackedMatrix]) -> None:
    f = make()
    n, d = f.shape
    for index in (
        *(
            n,
            -n - 1,
            [0, n],
            1.5,
            "a",
            [1.5],
            np.ones(n + 1, bool),
            [[True]],
            np.ones((n, d), bool),
        ),
        *((0, d), (slice(None), -d - 1), (0, 0, 0), (0, "a"), (0, [d]), None, (None, 0), True, ()),
    ):
        with pytest.raises(BadIndexError, match="^index: ") as caught:
            f[index]
        assert isinstance(caught.value, (InputError, IndexError))


@each
def test_rows_one_after_the_other(make: Callable[[], PackedMatrix]) -> None:
    f = make()
    dense = f.to_dense()
    np.testing.assert_allclose(list(f), dense, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(f), dense)
    np.testing.assert_array_equal(np.array([f, f])[1], dense)
    np.testing.assert_array_equal(check_array(f), dense)
    first, second = train_test_split(f, random_state=0)
    expected = train_test_split(dense, random_state=0)
    np.testing.assert_allclose(np.vstack((first, second)), np.vstack(expected), rtol=0, atol=1e-5)
    assert f
    assert (f @ np.ones(f.shape[1])).shape == (len(f),)


def test_one_row_reads_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    book = lplr.quantize(A, bits=3, quantizer="e8p").codebook
    unpack = type(book).unpack

    def counted(self: Any, packed: Any, words: Any, rows: slice, axis: int) -> np.ndarray:
        decoded.append(rows.stop - rows.start)
        return unpack(self, packed, words, rows, axis)

    monkeypatch.setattr(type(book), "unpack", counted)
    Q = lplr.quantize(A.T, bits=3, quantizer="e8p")  # code words lie along rows
    g = lplr.QPlusLowRank(Q, left=RandomizedTransform(D, 5, block=8))
    for index, rows in ((3, 8), ([0, 1, 7], 8), ([0, 23], 16), (slice(9, 11), 8)):
        decoded.clear()
        g[index]
        assert sum(decoded) == rows
