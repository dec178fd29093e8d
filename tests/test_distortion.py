"""Distortion of the quantizers on N(0, 1): quadrature, simulation, published values, limit."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from lplr.exceptions import InputError
from lplr.quantizers import QUANTIZERS, get_codebook
from lplr.quantizers.trellis import Trellis
from lplr.theory import distortion_table, gaussian_limit, quantizer_distortion
from lplr.theory.distortion import _simulated

SCALAR = ("uniform", "normal-float", "lloyd-max")
QUICK = tuple(name for name in QUANTIZERS if not name.startswith("trellis"))


def test_gaussian_limit() -> None:
    assert [gaussian_limit(b) for b in (0, 0.5, 1, 2)] == [1, 0.5, 0.25, 0.0625]
    for bits in (-1, np.nan, "a"):
        with pytest.raises(InputError, match="^bits: "):
            gaussian_limit(bits)  # type: ignore[arg-type]


@pytest.mark.parametrize("quantizer", SCALAR)
@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_quadrature_against_another(quantizer: str, bits: int) -> None:
    # Numerical integration of the squared distance to the nearest level, cell by cell.
    book = get_codebook(quantizer, bits)
    levels = book.decode(np.arange(2**bits, dtype=np.uint8))[:, 0].astype(float)
    levels *= book.gaussian_scale
    edges = np.r_[-12, (levels[1:] + levels[:-1]) / 2, 12]
    expected = sum(
        quad(lambda x, q=q: (x - q) ** 2 * norm.pdf(x), a, b, epsabs=1e-13)[0]
        for q, a, b in zip(levels, edges[:-1], edges[1:], strict=True)
    )
    row = quantizer_distortion(quantizer, bits)
    assert row.mse == pytest.approx(expected, rel=1e-9)
    assert (row.method, row.standard_error) == ("quadrature", 0)


@pytest.mark.parametrize("quantizer", SCALAR)
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_quadrature_against_the_coder(quantizer: str, bits: int) -> None:
    book = get_codebook(quantizer, bits)
    x = np.random.default_rng(0).standard_normal((1 << 18, 1)).astype(np.float32)
    scale = np.float32(book.gaussian_scale)
    error = np.square(x.astype(np.float64) - book.decode(book.encode(x / scale)) * scale)
    row = quantizer_distortion(quantizer, bits)
    assert abs(error.mean() - row.mse) <= 6 * error.std() / np.sqrt(error.size)
    assert row.mse == pytest.approx(book.gaussian_mse, rel=1e-3)


@pytest.mark.parametrize("bits", QUANTIZERS["e8p"][0])
def test_simulation(bits: int) -> None:
    row = quantizer_distortion("e8p", bits, n_samples=1 << 17, rng=1)
    assert row.method == "simulation"
    # 128 sequences of 1024 entries: the error of the mean is known to 6 % itself.
    assert abs(row.mse - get_codebook("e8p", bits).gaussian_mse) <= 6 * row.standard_error
    assert 2e-4 < row.standard_error / row.mse < 1e-2
    assert quantizer_distortion("e8p", bits, rng=3) == quantizer_distortion("e8p", bits, rng=3)


def test_standard_error_is_the_spread_of_independent_runs() -> None:
    runs = [quantizer_distortion("e8p", 2, n_samples=1 << 14, rng=seed) for seed in range(60)]
    spread = np.std([r.mse for r in runs], ddof=1)
    stated = np.sqrt(np.mean([r.standard_error**2 for r in runs]))
    assert 0.6 < spread / stated < 1.6  # a chi of 59 degrees of freedom: 9 % each way


@pytest.mark.parametrize(("bits", "scalar"), [(1, 1), (2.5, 2)])
def test_codes_of_sequences(bits: float, scalar: int) -> None:
    # Normal quantiles in random order: not trained, but a code better than any scalar one.
    rng = np.random.default_rng(2)
    table = norm.ppf((rng.permutation(256) + 0.5) / 256).astype(np.float32)
    mse, error = _simulated(Trellis(table, bits, np.nan), 32, rng)
    assert mse - 6 * error > gaussian_limit(bits)
    assert mse + 6 * error < quantizer_distortion("lloyd-max", scalar).mse


def test_published_values() -> None:
    rows = {(r.quantizer, r.bits): r for r in distortion_table(QUICK)}
    checked = 0
    for (name, bits), row in rows.items():
        if row.published is None:
            assert row.source is None
            continue
        checked += 1
        assert row.source
        # Max gives four digits, the last two of which are off for 16 and 32 optimal levels; the
        # E8P of QuIP# has other vectors of norm 12.
        tolerance = {"e8p": 0.035, "lloyd-max": 3e-3}.get(name, 6e-4)
        assert row.mse == pytest.approx(row.published, rel=tolerance), (name, bits)
    assert checked >= 11
    assert rows["e8p", 2].mse < rows["lloyd-max", 2].mse < rows["uniform", 2].mse


def test_table() -> None:
    rows = distortion_table(QUICK, rng=0)
    listed = [(name, bits) for name in QUICK for bits in QUANTIZERS[name][0]]
    assert [(r.quantizer, r.bits) for r in rows] == listed
    for row in rows:
        assert row.limit == 2.0 ** (-2 * row.bits)
        # No code beats the limit. A scalar one of 2^b levels is at least pi sqrt(3)/2 above it
        # in the limit, and the best one is better than that at few bits.
        assert row.mse - 6 * row.standard_error > row.limit
        assert set(asdict(row)) == {
            "quantizer", "bits", "mse", "standard_error", "method", "limit", "published", "source",
        }  # fmt: skip
    for name in QUICK:
        mse = [r.mse for r in rows if r.quantizer == name]
        assert (np.diff(mse) < 0).all()
    best = [r.mse / r.limit for r in rows if r.quantizer == "lloyd-max" and r.bits <= 8]
    assert (np.diff(best) > 0).all()
    assert best[-1] == pytest.approx(np.pi * np.sqrt(3) / 2, rel=0.02)


def test_refusals() -> None:
    for call, named in (
        (lambda: quantizer_distortion("nothing", 2), "quantizer"),
        (lambda: quantizer_distortion("e8p", 5), "bits"),
        (lambda: quantizer_distortion("e8p", 2, n_samples=100), "n_samples"),
        (lambda: quantizer_distortion("e8p", 2, rng=-1), "rng"),
        (lambda: distortion_table(["uniform", "nothing"]), "quantizers"),
    ):
        with pytest.raises(InputError, match=f"^{named}"):
            call()
