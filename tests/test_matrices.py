"""Packed factors: linear operators that decode as they go, frozen, of exact size."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from helpers import PACKED, exact_dense, random_low_rank, random_quantized
from hypothesis import given
from hypothesis import strategies as st
from kinds import BLOCKS
from scipy.sparse.linalg import LinearOperator, aslinearoperator, lsqr, svds

import lplr
from lplr.exceptions import InputError

KIND = st.sampled_from(BLOCKS)


each = pytest.mark.parametrize("make", PACKED.values(), ids=PACKED.keys())


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to float64 rounding: the products decode, and round nothing else to float32."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


# --- products --------------------------------------------------------------------------------


@each
def test_products_are_those_of_the_dense_matrix(make) -> None:
    f, rng = make(), np.random.default_rng(1)
    dense = exact_dense(f)
    np.testing.assert_allclose(f.to_dense(), dense, rtol=0, atol=1e-6 * np.abs(dense).max())
    n, d = f.shape
    x, y = rng.standard_normal(d), rng.standard_normal(n)
    X, Y = rng.standard_normal((d, 3)), rng.standard_normal((n, 3))
    for found, expected in (
        (f @ x, dense @ x),
        (f @ X, dense @ X),
        (f.T @ y, dense.T @ y),
        (f.T @ Y, dense.T @ Y),
        (f.H @ y, dense.T @ y),
        (y @ f, y @ dense),
        (Y.T @ f, Y.T @ dense),
        (f.matmat(x[:, None]), (dense @ x)[:, None]),
        (f.dot(X[:, :1]), dense @ X[:, :1]),
        ((2 * f) @ x, 2 * dense @ x),
        ((f @ f.T) @ y, dense @ (dense.T @ y)),
        (f @ np.arange(d), dense @ np.arange(d)),
        (f @ (x + 1j), dense @ (x + 1j)),
        (f @ np.asfortranarray(X)[::-1], dense @ X[::-1]),
        (f.rmatmat(Y), dense.T @ Y),
    ):
        close(found, expected)
    assert (f @ x).dtype == np.float64
    assert (f @ x.astype(np.float32)).dtype == np.float32
    assert (f.T @ Y.astype(np.float32)).dtype == np.float32


@each
def test_adjoint(make) -> None:
    """<f x, y> = <x, f^T y>, in float64 to its rounding: nothing but decoding is float32."""
    f, rng = make(), np.random.default_rng(2)
    for _ in range(3):
        x, y = rng.standard_normal(f.shape[1]), rng.standard_normal(f.shape[0])
        norm = np.linalg.norm(f.to_dense()) * np.linalg.norm(x) * np.linalg.norm(y)
        assert abs((f @ x) @ y - x @ (f.T @ y)) <= 1e-12 * norm


@each
def test_is_a_scipy_operator(make) -> None:
    f = make()
    assert isinstance(f, LinearOperator)
    assert aslinearoperator(f) is f
    assert f.dtype == np.float32
    dense = exact_dense(f)
    found = np.sort(svds(f, k=3, random_state=0)[1])[::-1]
    np.testing.assert_allclose(found, np.linalg.svd(dense, compute_uv=False)[:3], rtol=1e-4)
    y = np.random.default_rng(0).standard_normal(f.shape[0])
    x = lsqr(f, y, damp=1.0, atol=1e-10, btol=1e-10)[0]
    expected = np.linalg.solve(dense.T @ dense + np.eye(f.shape[1]), dense.T @ y)
    np.testing.assert_allclose(x, expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (9, 5), (2100, 37)])
@pytest.mark.parametrize("kind", [("uniform", 3), ("e8p", 2), ("e8p", 3), ("e8p", 4)])
@pytest.mark.parametrize("scale", ["tensor", "row", "column"])
def test_float32_vectors(shape, kind, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lattice words are multiplied packed; the bound is that of any order of a float32 sum."""
    rng = np.random.default_rng(0)
    for axis in (0, 1):
        q = random_quantized(rng, shape, kind, axis, scale, offset=True)
        dense = exact_dense(q)
        x, y = (rng.standard_normal(size).astype(np.float32) for size in reversed(shape))
        results = []
        for threads in "13":
            monkeypatch.setenv("LPLR_NUM_THREADS", threads)
            forward, back = q @ x, q.T @ y
            assert forward.dtype == back.dtype == np.float32
            results.append(forward.tobytes() + back.tobytes())
        assert results[0] == results[1]
        eps = 4 * np.finfo(np.float32).eps * max(shape)
        # Points, scale and offset are added separately, so each counts in full.
        size = np.abs(q._points(0, shape[0])) * np.abs(q.scale) + np.abs(q.offset)
        assert (np.abs(forward - dense @ x) <= eps * (size @ np.abs(x))).all()
        assert (np.abs(back - y @ dense) <= eps * (np.abs(y) @ size)).all()


def test_products_never_form_the_matrix() -> None:
    """A matrix of 8 * 10**10 entries: dense, it would not fit anywhere."""
    f = random_low_rank(shape=(400_000, 200_000), rank=2, shift=1.0)
    x = np.ones(f.shape[1], np.float32)
    L = f.left.to_dense().astype(np.float64)
    R = f.right.to_dense().astype(np.float64)
    expected = L @ R.sum(axis=1) + f.shape[1]
    np.testing.assert_allclose(f @ x, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert (f.T @ np.ones((f.shape[0], 2), np.float32)).shape == (f.shape[1], 2)
    assert svds(f, k=1, random_state=0)[1][0] > 0
    assert f.bits_per_entry < 1e-4
    np.testing.assert_allclose(f.rows(7, 9), L[7:9] @ R + 1, rtol=1e-5, atol=1e-4)


def test_wrong_shapes_are_refused() -> None:
    f = random_low_rank()
    for product in (lambda: f @ np.ones(30), lambda: f.T @ np.ones(3), lambda: np.ones(3) @ f):
        with pytest.raises(ValueError, match="(?i)dimension mismatch"):
            product()


# --- decoding --------------------------------------------------------------------------------


@given(KIND, st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(0, 1), st.data())
def test_rows_are_rows_of_the_dense_matrix(kind, shape, axis, data) -> None:
    scale = data.draw(st.sampled_from(["tensor", "row", "column"]))
    q = random_quantized(
        np.random.default_rng(0), shape, kind, axis, scale, data.draw(st.booleans())
    )
    dense = q.to_dense()
    assert dense.flags.c_contiguous
    assert dense.flags.writeable
    stop = data.draw(st.integers(0, shape[0]))
    start = data.draw(st.integers(0, stop))
    np.testing.assert_array_equal(q.rows(start, stop), dense[start:stop])


@each
def test_rows_that_do_not_exist(make) -> None:
    f = make()
    assert f.rows(5, 5).shape == (0, 29)
    for start, stop in ((-1, 3), (0, 38), (5, 4), (38, 39), (10**9, 10**9 + 1)):
        with pytest.raises(InputError, match="start, stop"):
            f.rows(start, stop)


def test_to_dense_in_many_blocks() -> None:
    """More entries than one block of 2**20 holds, groups of eight rows included."""
    rng = np.random.default_rng(0)
    for kind in (("uniform", 3), ("e8p", 2)):
        q = random_quantized(rng, (1603, 700), kind, scale="row", offset=True)
        dense = q.to_dense()
        pieces = [q.rows(i, min(i + 100, 1603)) for i in range(0, 1603, 100)]
        np.testing.assert_array_equal(dense, np.vstack(pieces))
        x = rng.standard_normal(700)
        close(q @ x, exact_dense(q) @ x)
        close(q.T @ np.ones(1603), exact_dense(q).sum(axis=0))


# --- size and error --------------------------------------------------------------------------


def test_nbytes_counts_what_a_decoder_needs() -> None:
    f = random_low_rank(shape=(37, 29), rank=6)
    assert f.left.nbytes == 37 * 6 * 4 // 8 + 4
    assert f.right.nbytes == 6 * 29 * 4 // 8 + 6 * 4
    assert f.nbytes == f.left.nbytes + f.right.nbytes
    assert replace(f, shift=1.0).nbytes == f.nbytes + 8
    assert f.bits_per_entry == 8 * f.nbytes / (37 * 29)
    assert f.rank == 6


# --- frozen ----------------------------------------------------------------------------------


@each
def test_nothing_can_be_written(make) -> None:
    f = make()
    for name in ("shape", "meta", "left", "codes", "new"):
        with pytest.raises(FrozenInstanceError):
            setattr(f, name, 1)
    with pytest.raises(FrozenInstanceError):
        del f.meta
    with pytest.raises(TypeError):
        f.meta["seed"] = 1
    parts = [f.left, f.right] if isinstance(f, lplr.LowRank) else [f]
    for part in parts:
        for array in (part.codes, part.scale, part.offset):
            if array is not None:
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 0


def test_the_callers_arrays_stay_the_callers() -> None:
    codes, scale, offset = np.zeros(2, np.uint8), np.ones((1, 1), np.float32), np.ones((4, 1))
    offset, meta = offset.astype(np.float32), {"a": 1}
    q = lplr.Quantized((4, 4), "uniform", 1, codes, scale, offset, meta=meta)
    before = q.to_dense()
    codes[:], scale[:], offset[:], meta["a"] = 255, 7, 7, 2
    np.testing.assert_array_equal(q.to_dense(), before)
    assert q.meta["a"] == 1


@each
def test_copies_and_pickles_are_equal_and_frozen(make) -> None:
    f = replace(make(), meta={"seed": 3})
    for other in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f), copy.copy(f)):
        assert type(other) is type(f)
        assert other.meta == f.meta
        np.testing.assert_array_equal(other.to_dense(), f.to_dense())
        with pytest.raises(FrozenInstanceError):
            other.shape = (1, 1)
        with pytest.raises(TypeError):
            other.meta["seed"] = 4


# --- representation --------------------------------------------------------------------------


def test_repr() -> None:
    f = random_low_rank()
    assert repr(f).startswith("<LowRank: 37 x 29; ")
    assert "rank 6" in repr(f)
    assert f"{f.nbytes:,} bytes" in repr(f)
    assert "uniform 4 bits" in repr(f)


@each
def test_html_is_a_table_of_the_same(make) -> None:
    f = make()
    page = f._repr_html_()
    assert page.startswith("<table>")
    assert page.endswith("</table>")
    for _, value in f._summary():
        assert value in page


def test_html_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "<script>alert('&')</script>"
    monkeypatch.setattr(lplr.LowRank, "_summary", lambda self: [(evil, evil)])
    page = random_low_rank()._repr_html_()
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") == 2


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("shape", {"shape": (0, 4)}),
        ("shape", {"shape": (4, -1)}),
        ("axis", {"axis": 2}),
        ("quantizer", {"quantizer": "none"}),
        ("bits", {"bits": 9}),
        ("packed", {"codes": np.zeros(3, np.uint8)}),
        ("packed", {"codes": np.zeros(2, np.int8)}),
        ("packed", {"codes": None}),
        ("scale", {"scale": np.ones((2, 2), np.float32)}),
        ("scale", {"scale": np.ones((1, 1))}),
        ("scale", {"scale": np.full((1, 1), np.nan, np.float32)}),
        ("scale", {"scale": 1.0}),
        ("offset", {"offset": np.full((1, 1), np.inf, np.float32)}),
    ],
)
def test_parts_that_do_not_fit(argument: str, change: dict) -> None:
    parts = {
        "shape": (4, 4),
        "quantizer": "uniform",
        "bits": 1,
        "codes": np.zeros(2, np.uint8),
        "scale": np.ones((1, 1), np.float32),
    }
    lplr.Quantized(**parts)
    with pytest.raises(InputError, match=argument):
        lplr.Quantized(**{**parts, **change})


def test_factors_that_do_not_fit() -> None:
    f = random_low_rank()
    with pytest.raises(InputError, match="inner sizes"):
        lplr.LowRank(f.right, f.right)
    with pytest.raises(InputError, match="left, right"):
        lplr.LowRank(f.left, np.ones((6, 29)))
    for value in (float("nan"), 1e39):
        with pytest.raises(InputError, match="shift"):
            lplr.LowRank(f.left, f.right, shift=value)


def test_a_few_bytes_that_stand_for_more_than_the_memory() -> None:
    f = lplr.Quantized((2**30, 2**20), "zero", 0, np.empty(0, np.uint8), np.ones((1, 1), "f4"))
    with pytest.raises(InputError, match="decode some at a time"):
        f.to_dense()
    assert not f[5, :10].any()
