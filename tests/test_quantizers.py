"""Codebooks: levels, kernels, and errors on Gaussian data against published values."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from lplr.exceptions import InputError
from lplr.kernels.scalar import round_levels, round_uniform
from lplr.quantizers import QUANTIZERS, get_codebook
from lplr.quantizers.scalar import gaussian_mse

SCALAR = ("uniform", "lloyd-max", "normal-float")
ALL = [(name, bits) for name in SCALAR for bits in range(1, 9)]


def around(levels: np.ndarray) -> np.ndarray:
    """Dyadic values at, between and beyond levels: below 2**11 eighths, so exact in float32."""
    low, high = np.floor(levels[0]) - 2, np.ceil(levels[-1]) + 2
    return np.arange(low, high, 1 / 8, dtype=np.float32)


# --- kernels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_round_uniform_is_brute_force(bits: int) -> None:
    levels = get_codebook("uniform", bits).levels
    x = around(levels)
    expected = [naive.nearest(v, levels) for v in x]
    for kernel in (round_uniform, round_uniform.py_func):
        codes = np.full(x.size, 77, np.uint8)
        kernel(x, x[:0], 2**bits - 1, codes)
        assert codes.tolist() == expected


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_dithered_rounding_goes_up_by_the_dither(bits: int) -> None:
    levels = get_codebook("uniform", bits).levels
    x = around(levels)
    for dither in (0.0, 0.25, 0.5, 0.875):
        # The lower of the two neighbours, or the upper where the fraction plus dither reaches 1.
        below = np.clip(np.floor(x - levels[0]), 0, len(levels) - 1)
        up = (x - levels[0]) % 1 + dither >= 1
        inside = (x >= levels[0]) & (x < levels[-1])
        expected = np.where(inside, below + up, np.where(x < levels[0], 0, len(levels) - 1))
        u = np.full(x.size, dither, np.float32)
        for kernel in (round_uniform, round_uniform.py_func):
            codes = np.empty(x.size, np.uint8)
            kernel(x, u, 2**bits - 1, codes)
            np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_round_levels_is_brute_force(bits: int) -> None:
    rng = np.random.default_rng(bits)
    # Any sorted levels; multiples of 1/4, so that midpoints and ties are exact.
    levels = np.sort(rng.choice(1000, 2**bits, replace=False)).astype(np.float32) / 4 - 100
    thresholds = (levels[1:] + levels[:-1]) / 2
    x = rng.permutation(np.r_[levels, thresholds, rng.integers(-1200, 1300, 99) / np.float32(8)])
    x = x.astype(np.float32)
    expected = [naive.nearest(v, levels) for v in x]
    copies = 1 + 4096 // x.size  # more than one chunk of 4096
    for kernel, repeat in ((round_levels, copies), (round_levels.py_func, 1)):
        codes = np.full(x.size * repeat, 77, np.uint8)
        kernel(np.tile(x, repeat), thresholds, codes)
        assert codes.tolist() == expected * repeat


# --- levels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "bits"), ALL)
def test_levels(name: str, bits: int) -> None:
    book = get_codebook(name, bits)
    assert (book.name, book.bits, book.width, book.group) == (name, bits, bits, 1)
    assert book.levels.shape == (2**bits,)
    assert book.levels.dtype == np.float32
    assert (np.diff(book.levels) > 0).all()
    assert not book.levels.flags.writeable
    if name != "normal-float":
        np.testing.assert_array_equal(book.levels, -book.levels[::-1])
    elif bits > 1:
        assert book.levels[0] == -1
        assert book.levels[-1] == 1
        assert book.levels[2 ** (bits - 1) - 1] == 0


def test_normal_float_of_four_bits_is_the_published_one() -> None:
    # Dettmers et al., QLoRA, appendix E.
    published = [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]  # fmt: skip
    np.testing.assert_allclose(get_codebook("normal-float", 4).levels, published, atol=2e-7)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_lloyd_max_levels_are_centroids(bits: int) -> None:
    levels = get_codebook("lloyd-max", bits).levels.astype(np.float64)
    edges = np.r_[-np.inf, (levels[1:] + levels[:-1]) / 2, np.inf]
    for i in range(0, len(levels), max(1, len(levels) // 16)):
        a, b = edges[i], edges[i + 1]
        mass, first = (quad(lambda x, p=p: x**p * np.exp(-x * x / 2), a, b)[0] for p in (0, 1))
        # Levels are float32, so is the accuracy.
        assert abs(first / mass - levels[i]) < 1e-6


# --- error on N(0, 1) ------------------------------------------------------------------------

# Max, "Quantizing for minimum distortion", 1960, tables I and II: step and error of uniform
# levels and error of the best levels; the steps of six and eight bits are later computations.
MAX_STEP = {1: 1.596, 2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 8: 0.0308}
MAX_UNIFORM = {1: 0.3634, 2: 0.1188, 3: 0.03744, 4: 0.01154, 5: 0.003495}
MAX_BEST = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}


def test_published_steps_and_errors() -> None:
    for bits, step in MAX_STEP.items():
        # Half a unit of the last digit quoted.
        tolerance = 5e-4 if bits == 1 else 5e-5
        assert get_codebook("uniform", bits).gaussian_scale == pytest.approx(step, abs=tolerance)
    # Max computed to about three digits: 0.3 %.
    for name, table in (("uniform", MAX_UNIFORM), ("lloyd-max", MAX_BEST)):
        for bits, error in table.items():
            assert get_codebook(name, bits).gaussian_mse == pytest.approx(error, rel=3e-3)


@pytest.mark.parametrize(("name", "bits"), [*ALL, ("uniform", 16)])
def test_error_on_gaussian_data(name: str, bits: int) -> None:
    """Simulation against the exact integral: fails by chance once in 10^8 books (6 sigma)."""
    book = get_codebook(name, bits)
    x = np.random.default_rng(bits).standard_normal(100_000).astype(np.float32)
    scale = np.float32(book.gaussian_scale)
    q = scale * book.decode(book.encode((x / scale)[:, None]))[:, 0]
    e = (x.astype(np.float64) - q) ** 2
    assert abs(e.mean() - book.gaussian_mse) < 6 * e.std() / np.sqrt(e.size)


@pytest.mark.parametrize(("name", "bits"), ALL)
def test_gaussian_scale_is_the_best(name: str, bits: int) -> None:
    book = get_codebook(name, bits)
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert gaussian_mse(book.levels * book.gaussian_scale * factor) > book.gaussian_mse


def test_gaussian_mse_is_the_integral() -> None:
    levels = np.array([-1.3, -0.2, 0.9, 1.1])
    edges = np.r_[-9.0, (levels[1:] + levels[:-1]) / 2, 9.0]

    def density(x: float, q: float) -> float:
        return (x - q) ** 2 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)

    parts = [quad(density, edges[i], edges[i + 1], args=(q,))[0] for i, q in enumerate(levels)]
    assert gaussian_mse(levels) == pytest.approx(sum(parts), rel=1e-9)


def test_more_bits_and_better_levels_lose_less() -> None:
    for name, (widths, _) in QUANTIZERS.items():
        errors = [get_codebook(name, bits).gaussian_mse for bits in widths]
        assert errors == sorted(errors, reverse=True)
    for bits in range(1, 9):
        best = get_codebook("lloyd-max", bits).gaussian_mse
        assert best <= get_codebook("uniform", bits).gaussian_mse * (1 + 1e-6)
        assert best <= get_codebook("normal-float", bits).gaussian_mse * (1 + 1e-6)
        # No code does better than the rate-distortion function of a Gaussian source.
        assert best > 4.0**-bits


# --- encode and decode -----------------------------------------------------------------------


@given(st.sampled_from(ALL), st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=20))
def test_encode_is_nearest(key: tuple[str, int], values: list[float]) -> None:
    book = get_codebook(*key)
    x = np.array(values, np.float32)[:, None]
    codes = book.encode(x)
    found = np.abs(x[:, 0].astype(np.float64) - book.decode(codes)[:, 0])
    best = np.abs(x.astype(np.float64) - book.levels).min(axis=1)
    # Thresholds and x + centre are rounded to float32: 300 * 2**-23 at most.
    assert (found <= best + 8e-5).all()


@pytest.mark.parametrize(("name", "bits"), [*ALL, ("uniform", 16)])
def test_every_level_is_its_own_nearest(name: str, bits: int) -> None:
    book = get_codebook(name, bits)
    codes = np.arange(2**bits).astype(book.dtype)
    if bits == 16:  # every finite float16
        codes = codes[np.isfinite(codes.view(np.float16))]
    np.testing.assert_array_equal(book.encode(book.decode(codes)), codes)


# --- registry --------------------------------------------------------------------------------


def test_registry_refuses_what_is_not_offered() -> None:
    for name in ("", "gaussian", "Uniform", None):
        with pytest.raises(InputError, match="quantizer"):
            get_codebook(name, 4)
    for name, bits in (("uniform", 0), ("uniform", 9), ("lloyd-max", 17), ("e8p", 1), ("e8p", 8)):
        with pytest.raises(InputError, match="bits"):
            get_codebook(name, bits)


def test_a_codebook_is_built_once() -> None:
    assert get_codebook("lloyd-max", 5) is get_codebook("lloyd-max", 5)
    assert get_codebook("trellis", 2) is get_codebook("trellis-10", 2.0)


def test_zero_stores_nothing_and_errs_by_the_entry() -> None:
    book = get_codebook("zero", 0)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    codes = book.encode(x[..., None])
    assert not book.decode(codes).any()
    packed = book.check_packed(book.pack(codes, 0), 2, 3)
    assert packed.nbytes == book.nbytes(2, 3) == 0
    assert not book.unpack(packed, (2, 3), slice(1, 2), 0).any()
    error = np.empty_like(x)
    book.panel(x, x, np.eye(2, dtype=np.float32), np.ones(2, np.float32), error, codes)
    np.testing.assert_array_equal(error, x)
    with pytest.raises(InputError, match="packed codes"):
        book.check_packed(np.zeros(1, np.uint8), 2, 3)
