"""Training of trellis tables, the file that they are shipped in, and what they reach."""

import hashlib
import itertools
import runpy
import sys
from functools import partial

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.quantizers import train_trellis
from lplr.quantizers.trellis import STATE_BITS, Trellis
from lplr.quantizers.trellis_tables import (
    TABLES,
    read_tables,
    rounded,
    stored_table,
    write_tables,
)

# The mean of 2.5e5 squared errors varies by about 0.2 % from sample to sample.
SPREAD = 1.01

DIGEST = "554a36208b17fee67e29f394b5621316785f233eefe352f151fee0141f928776"


@pytest.mark.parametrize(
    ("state_bits", "bits", "target"),
    [
        # What the tables of the package reach.
        (8, 2, 0.0740 * SPREAD),
        (10, 2, 0.0709 * SPREAD),
        (12, 2, 0.0687 * SPREAD),
        (10, 2.5, 0.0366 * SPREAD),
        # Looser limits.
        (12, 3, 0.0195),
        (12, 4, 0.0053),
        (10, 1, 0.28),
    ],
)
def test_error_on_a_gaussian(state_bits, bits, target):
    table, mse = stored_table(state_bits, bits)
    error = train_trellis.gaussian_error(table, bits, samples=250_000, rng=1)
    assert error <= target
    assert error == pytest.approx(mse, rel=SPREAD - 1)


def test_a_table_for_every_code():
    for quarters in range(4, 25):
        errors = [Trellis.stored(L, quarters / 4).gaussian_mse for L in STATE_BITS]
        # Each further bit of state helps; none beats the rate-distortion function 4**-bits.
        assert all(b <= a for a, b in itertools.pairwise(errors)), quarters
        assert errors[-1] > 4.0 ** -(quarters / 4)
        book = Trellis.stored(8, quarters / 4)
        np.testing.assert_array_equal(book.table, -book.table[::-1])
    assert TABLES.stat().st_size < 500_000


def test_tables_never_change():
    # A file names the code, not its values: with other tables it would decode to other values.
    digest = hashlib.sha256()
    tables = read_tables(TABLES)
    for key in sorted(tables):
        digest.update(tables[key][0].astype("<f4").tobytes())
    assert len(tables) == 9 * 21
    assert digest.hexdigest() == DIGEST


def test_more_bits_cost_less_error():
    for state_bits in (8, 10, 12):
        errors = [Trellis.stored(state_bits, q / 4).gaussian_mse for q in range(4, 25)]
        assert all(b < a for a, b in itertools.pairwise(errors))


def test_training_reaches_the_shipped_error():
    table, coefficients = train_trellis.train_table(7, 2, trials=60, passes=12, rng=3)
    error = train_trellis.gaussian_error(table, 2, samples=200_000)
    # A tenth of the effort of the shipped one; its start is a random search.
    assert error <= 1.03 * stored_table(7, 2)[1]
    assert error < 0.0819  # what eight bits reached from a random start
    start = train_trellis.linear_table(coefficients, 2)
    assert error < train_trellis.gaussian_error(start, 2, samples=200_000)


def test_training_is_reproducible():
    one, a = train_trellis.train_table(6, 1.5, trials=3, passes=1, per_state=1, rng=5)
    two, b = train_trellis.train_table(6, 1.5, trials=3, passes=1, per_state=1, rng=5)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(a, b)


def test_linear_table_is_antisymmetric_and_has_all_quantiles():
    from scipy.special import ndtri

    for state_bits, bits in ((6, 2), (9, 3), (8, 1.25)):
        a = np.random.default_rng(state_bits).random(state_bits)
        a[-1] = 0.5
        kept = a.copy()
        table = train_trellis.linear_table(a, bits)
        np.testing.assert_array_equal(a, kept)
        n = 1 << state_bits
        np.testing.assert_allclose(table, -table[::-1], atol=1e-6)
        variance = (1 - 4.0**-bits) * 3 ** ((bits / state_bits) ** 1.5)
        levels = np.sqrt(variance) * ndtri((np.arange(n) + 0.5) / n)
        assert np.abs(table[:, None] - levels).min(1).max() < 1e-6
    # Powers of two give every number once.
    table = train_trellis.linear_table(0.5 ** np.arange(8, 0, -1), 2)
    levels = np.sqrt((1 - 1 / 16) * 3 ** (1 / 8)) * ndtri((np.arange(256) + 0.5) / 256)
    np.testing.assert_allclose(np.sort(table), levels, atol=1e-6)


def test_newest_symbol_chooses_among_the_strata():
    a = train_trellis.search_coefficients(6, 2, trials=4, samples=4096, rng=0)
    table = train_trellis.linear_table(a, 2)
    quartiles = np.searchsorted(np.quantile(table, [0.25, 0.5, 0.75]), table)
    np.testing.assert_array_equal(np.sort(quartiles.reshape(4, 16), 0), np.mgrid[:4, :16][0])


def test_extended_search_keeps_the_coefficients_it_is_given():
    start = np.array([0.3, 0.7, 0.2, 0.1, 0.25, 0.5])
    a = train_trellis.search_coefficients(7, 2, start=start, trials=2, samples=4096, rng=0)
    assert np.sum(a[1:] != start) <= 1  # one trial may have moved one of them


def test_lloyd_pass_moves_to_the_means():
    x = np.random.default_rng(0).standard_normal((40, 512)).astype(np.float32)
    table = train_trellis.linear_table(0.5 ** np.array([4, 6, 3, 5, 1, 2]), 2)
    better, error = train_trellis.lloyd_pass(table, 2, x)
    np.testing.assert_array_equal(better, -better[::-1])
    book = Trellis(table, 2, 0.0)
    values = book.decode(book.encode(x[..., None]))[..., 0]
    assert error == pytest.approx(np.mean((x - values).astype(np.float64) ** 2), rel=1e-6)
    for value in np.unique(book.table)[:5]:
        # The mean of what has this value, and of what has its opposite, shrunk.
        own = np.concatenate([x[values == value], -x[values == -value]])
        moved = value + (own.sum() - len(own) * value) / (len(own) + 2)
        assert better[book.table == value] == pytest.approx(moved, abs=1e-5)
    assert train_trellis.lloyd_pass(better, 2, x)[1] < error


@pytest.mark.parametrize(("bits", "steps"), [(2, 0.04), (3, 2**-7), (3.25, 2**-8)])
def test_tables_survive_the_file(tmp_path, bits, steps):
    table = train_trellis.linear_table(np.random.default_rng(2).random(8), bits)
    stored = rounded(table, bits)
    assert np.abs(stored - table).max() <= steps / 2
    other = rounded(train_trellis.linear_table(np.full(6, 0.5), 1), 1)
    path = tmp_path / "tables.npz"
    write_tables(path, {(8, int(4 * bits)): (stored, 0.25), (6, 4): (other, 0.5)})
    tables = read_tables(path)
    assert list(tables) == [(6, 4), (8, int(4 * bits))]
    np.testing.assert_allclose(tables[8, int(4 * bits)][0], stored, rtol=1e-6)
    assert [tables[key][1] for key in tables] == [0.5, 0.25]


def test_missing_table_is_refused():
    with pytest.raises(InputError, match="no table for 15 state bits"):
        stored_table(15, 2)


def test_script_writes_tables(tmp_path, monkeypatch, capsys):
    path = tmp_path / "own.npz"
    quick = partial(train_trellis.gaussian_error, samples=20_000)
    monkeypatch.setattr(train_trellis, "gaussian_error", quick)
    options = ["--state-bits", "6", "7", "--bits", "2", "--trials", "3", "--passes", "1"]
    options += ["--per-state", "1", "--output", str(path)]
    assert train_trellis.main(options) == 0
    assert capsys.readouterr().out.startswith("L =  6,  2.0 bits: 0.")
    tables = read_tables(path)
    assert sorted(tables) == [(6, 8), (7, 8)]
    table, error = tables[7, 8]
    assert Trellis(table, 2, error).name == "trellis-7"
    # A second run keeps what is better, and leaves one file.
    kept = tables[6, 8][1]
    train_trellis.main([*options, "--seed", "1"])
    assert read_tables(path)[6, 8][1] <= kept
    assert list(tmp_path.iterdir()) == [path]


def test_script_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_trellis", "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_path(train_trellis.__file__, run_name="__main__")
    assert "--per-state" in capsys.readouterr().out
