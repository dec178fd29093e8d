"""Naive quantization: every quantizer, width, granularity and shape through packed codes."""

from __future__ import annotations

from itertools import product

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kinds import BLOCKS

import lplr
from lplr.coding.rounding import GRANULARITIES, _typical_rows, half_scale, round_matrix
from lplr.exceptions import InputError
from lplr.quantizers import get_codebook
from lplr.quantizers.packing import packed_nbytes, unpack

SHAPES = st.tuples(st.integers(1, 19), st.integers(1, 19))


def check_scale_shape(scale: np.ndarray, granularity: str, shape: tuple[int, int]) -> None:
    kinds = {"tensor": (1, 1), "row": (shape[0], 1), "column": (1, shape[1])}
    assert scale.shape in {kinds[granularity], (1, 1)}


def matrices(limit: float = 100.0):
    return SHAPES.flatmap(
        lambda shape: arrays(np.float32, shape, elements=st.floats(-limit, limit, width=16))
    )


def decoded(q: lplr.Quantized) -> np.ndarray:
    """Scale times level plus offset, from the codes that are stored."""
    book = q.codebook
    n, d = q.shape
    down = q.axis == 0  # the entries of a word
    words = (-(-n // book.group), d) if down else (n, -(-d // book.group))
    codes = unpack(q.codes, book.width, words[0] * words[1]).reshape(words)
    points = book.decode(codes).astype(np.float64)  # (..., group)
    points = points.transpose(0, 2, 1).reshape(-1, d) if down else points.reshape(n, -1)
    offset = 0 if q.offset is None else q.offset.astype(np.float64)
    return points[:n, :d] * q.scale + offset


@given(matrices(), st.sampled_from(BLOCKS), st.sampled_from(GRANULARITIES), st.data())
@settings(max_examples=250)
def test_round_trip(A, kind, granularity, data) -> None:
    """What is decoded is what the packed codes say, and each entry is as near as it can be."""
    name, bits = kind
    scalings = ("mse",) if name == "e8p" else ("minmax", "mse")
    scaling = data.draw(st.sampled_from(scalings))
    q = lplr.quantize(A, bits=bits, quantizer=name, granularity=granularity, scaling=scaling)
    assert (q.shape, q.quantizer, q.bits) == (A.shape, name, bits)
    dense = q.to_dense()
    assert dense.dtype == np.float32
    top = np.abs(A).max()
    np.testing.assert_allclose(dense, decoded(q), rtol=0, atol=4e-7 * max(top, np.abs(dense).max()))
    check_scale_shape(q.scale, granularity, A.shape)
    sides = (-(-A.shape[0] // q.codebook.group), A.shape[1])
    if q.axis == 1:
        sides = (A.shape[0], -(-A.shape[1] // q.codebook.group))
    numbers = q.scale.size + (0 if q.offset is None else q.offset.size)
    assert q.nbytes == packed_nbytes(sides[0] * sides[1], q.codebook.width) + 4 * numbers
    assert q.bits_per_entry == 8 * q.nbytes / A.size
    if bits == 16:
        # Half a unit in the last place of float16, the smallest being 2**-24 of the scale.
        assert (np.abs(A - dense) <= 2.0**-11 * np.abs(A) + 2.0**-25 * q.scale).all()
    elif name != "e8p":
        offset = 0.0 if q.offset is None else q.offset
        levels = q.scale[..., None] * q.codebook.levels.astype(np.float64)
        best = np.abs((A - offset)[..., None] - levels).min(axis=-1)
        # A tie may fall either way once the entry is divided by the scale in float32.
        assert (np.abs(A - dense) <= best + 1e-6 * max(top, 1e-30)).all()


@given(matrices(), st.integers(1, 8), st.sampled_from(GRANULARITIES))
def test_min_max_is_that_of_the_paper(A: np.ndarray, bits: int, granularity: str) -> None:
    q = lplr.quantize(A, bits=bits, granularity=granularity)
    axis = {"tensor": None, "row": 1, "column": 0}[granularity]
    low = A.min(axis=axis, keepdims=True).astype(np.float64)
    high = A.max(axis=axis, keepdims=True).astype(np.float64)
    step = (high - low) / (2**bits - 1)
    error = np.abs(A - q.to_dense())
    bound = 1e-6 * np.abs(A).max()
    assert (error <= step / 2 + bound).all()
    if granularity == "tensor" and A.min() < A.max():
        # Extrema are levels; so the rounding of the plain loop is that of the library.
        expected = naive.min_max(A.astype(np.float64), bits)
        assert (np.abs(A - q.to_dense()) <= np.abs(A - expected) + bound).all()


@pytest.mark.parametrize(("name", "bits"), BLOCKS)
def test_constants(name: str, bits: float) -> None:
    """Exact at any width: stored as an offset."""
    for value, granularity in product((0.0, -3.7, 1e-20, 1e20), GRANULARITIES):
        A = np.full((5, 11), value, np.float32)
        dense = lplr.quantize(A, bits=bits, quantizer=name, granularity=granularity).to_dense()
        np.testing.assert_array_equal(dense, A)


# --- scales ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bits"), [k for k in BLOCKS if k[1] < 16 and k[0] != "e8p"])
def test_mse_beats_min_max_on_gaussian_data(name: str, bits: int) -> None:
    A = np.random.default_rng(bits).standard_normal((200, 150)).astype(np.float32)
    error = {
        s: lplr.quantize(A, bits=bits, quantizer=name, scaling=s).relative_error(A)
        for s in ("minmax", "mse")
    }
    # The search starts from the range of min-max. It takes out the mean, 1/170 here, which at 8
    # bits is a fifth of a step and changes what the few extremes lose.
    assert error["mse"] <= error["minmax"] * 1.005
    book = get_codebook(name, bits)
    levels = book.levels * book.gaussian_scale * A.std()
    fixed = levels[np.abs(A[..., None] - levels).argmin(-1)]
    assert error["mse"] <= np.linalg.norm(A - fixed) / np.linalg.norm(A) * 1.005


@pytest.mark.parametrize("name", ["uniform", "lloyd-max", "e8p"])
@pytest.mark.parametrize("rows", ["alike", "shifted", "outliers", "mostly zero"])
@pytest.mark.parametrize("samples", [(), (4000,)])
def test_scale_of_a_large_matrix_is_as_good(
    name: str, rows: str, samples: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((600, 40), dtype=np.float32)
    if rows == "outliers":
        A[[7, 301]] *= 30
    elif rows == "mostly zero":
        A[np.arange(600) % 10 < 9] = 0
    elif rows == "shifted":
        A += 100
    whole = lplr.quantize(A, bits=2, quantizer=name, scaling="mse").relative_error(A)
    monkeypatch.setattr("lplr.coding.rounding._MANY", 0)
    monkeypatch.setattr("lplr.coding.rounding._SAMPLES", samples)
    few = _typical_rows(A)
    # Rows that are spread otherwise than all would give a scale that is not theirs.
    assert (len(few) < len(A)) == (samples != () and rows in ("alike", "shifted"))
    # Both are local optima: neither need be the better one.
    assert lplr.quantize(A, bits=2, quantizer=name, scaling="mse").relative_error(A) < 1.01 * whole


@pytest.mark.parametrize("factor", [1e-30, 1e-20, 1.0, 1e20, 1e29])
@pytest.mark.parametrize("scaling", ["minmax", "mse"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_error_does_not_depend_on_the_magnitude(factor, scaling, granularity) -> None:
    A = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    A /= np.abs(A).max()
    errors = [
        lplr.quantize(X, bits=4, scaling=scaling, granularity=granularity).relative_error(X)
        for X in (A, A * np.float32(factor))
    ]
    # A factor that is no power of two moves entries across thresholds: each by 6e-8.
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


@pytest.mark.parametrize("scaling", ["minmax", "mse"])
def test_rows_of_any_magnitude(scaling: str) -> None:
    """A row of its own scale keeps its accuracy; a subnormal one costs no warning."""
    A = np.random.default_rng(0).standard_normal((5, 400)).astype(np.float32)
    factors = np.array([1e20, 1, 1e-20, 1e-30, 1e-42], np.float32)[:, None]
    X = A * factors
    dense = lplr.quantize(X, bits=8, scaling=scaling, granularity="row").to_dense()
    error = np.linalg.norm((X - dense) / factors, axis=1) / np.linalg.norm(A, axis=1)
    assert (error[:4] < 0.015).all()
    assert np.isfinite(dense).all()
    assert np.abs(dense[4]).max() < 1e-40


def test_mean_costs_no_bits() -> None:
    A = np.random.default_rng(0).standard_normal((50, 60)).astype(np.float32)
    for name in ("lloyd-max", "e8p"):
        errors = [
            np.linalg.norm(X - lplr.quantize(X, bits=2, quantizer=name).to_dense())
            for X in (A, A + 100)
        ]
        assert errors[1] == pytest.approx(errors[0], rel=0.01)


@pytest.mark.parametrize("name", ["e8p", "trellis-8"])
def test_tall_matrices_have_packed_products(name: str) -> None:
    A = np.random.default_rng(0).standard_normal((515, 9), dtype=np.float32)
    q = lplr.quantize(A, bits=2, quantizer=name)
    assert q.axis == 0
    assert q.nbytes <= 2 * (A.size + 8 * A.shape[1]) / 8 + 8  # a lattice group at most is padded
    x = np.arange(1, 10, dtype=np.float32)
    # Sums of 9 products, each rounded to 2^-24 of their size.
    size = np.abs(q.to_dense()) @ x
    assert (np.abs(q @ x - q.to_dense().astype(float) @ x) <= 2.0**-20 * size).all()
    for short in (A[:511], A.T):
        assert lplr.quantize(short, bits=2, quantizer=name).axis == 1
    assert lplr.quantize(A, bits=2, quantizer=name, granularity="row").axis == 1


def test_sixteen_bits_are_float16() -> None:
    A = np.random.default_rng(0).standard_normal((9, 7)).astype(np.float32)
    q = lplr.quantize(A, bits=16)
    np.testing.assert_array_equal(q.to_dense(), A.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(q.codes, A.astype("<f2").reshape(-1).view(np.uint8))
    for factor in (1e-30, 1e-6, 1e6, 1e29):
        X = A * np.float32(factor)
        assert lplr.quantize(X, bits=16).relative_error(X) < 2.0**-11
        assert np.log2(half_scale(X)).item().is_integer()


# --- dithering -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 8])
def test_dithered_is_unbiased(bits: int) -> None:
    """Hoeffding: an error of one draw lies in an interval of one step, so the mean of m draws is
    off by t steps with probability at most 2 exp(-2 m t^2). With m = 4000 and t = 0.055, union
    over 12 entries: 24 exp(-24.2), once in 10^9 runs.
    """
    A = np.random.default_rng(0).uniform(-1, 1, (3, 4)).astype(np.float32)
    draws, step = 4000, float(A.max() - A.min()) / (2**bits - 1)
    book = get_codebook("uniform", bits)
    rng = np.random.default_rng(1)
    total = np.zeros(A.shape)
    values = set()
    for _ in range(draws):
        dense = round_matrix(A, book, rounding="dithered", rng=rng).to_dense()
        total += dense
        assert (np.abs(dense - A) <= step * (1 + 1e-5)).all()
        values.add(dense.tobytes())
    assert np.abs(total / draws - A).max() <= 0.055 * step
    assert len(values) > 1


def test_dithered_variance_is_below_a_quarter_step() -> None:
    """Var = p (1 - p) step^2 at the fraction p; its mean over uniform fractions is 1/6."""
    A = np.random.default_rng(0).uniform(-1, 1, (400, 500)).astype(np.float32)
    q = lplr.quantize(A, bits=4, rounding="dithered", rng=0)
    step = float(A.max() - A.min()) / 15
    square = ((A - q.to_dense()) / step).astype(np.float64) ** 2
    assert abs(square.mean() - 1 / 6) < 6 * square.std() / np.sqrt(square.size)


def test_dithered_follows_the_seed() -> None:
    A = np.random.default_rng(0).standard_normal((300, 500))
    a, b, c = (lplr.quantize(A, bits=2, rounding="dithered", rng=seed).codes for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("bits", {"bits": 9}),
        ("bits", {"bits": 8, "quantizer": "e8p"}),
        ("quantizer", {"quantizer": "linear"}),
        ("granularity", {"granularity": "group"}),
        ("scaling", {"scaling": "max"}),
        ("scaling", {"bits": 2, "quantizer": "e8p", "scaling": "minmax"}),
        ("rounding", {"rounding": "stochastic"}),
        ("rounding", {"rounding": "dithered", "scaling": "mse"}),
        ("rounding", {"rounding": "dithered", "quantizer": "lloyd-max"}),
        ("rounding", {"rounding": "dithered", "bits": 16}),
        ("rng", {"rng": -1}),
    ],
)
def test_refusals_name_the_argument(argument: str, options: dict) -> None:
    with pytest.raises(InputError, match=f"^{argument}: "):
        lplr.quantize(np.eye(3), **{"bits": 4, **options})
