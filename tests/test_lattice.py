"""The E8P lattice code against brute force over all its points."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.kernels import lattice
from lplr.parallel import reproducible
from lplr.quantizers import get_codebook
from lplr.quantizers.lattice import E8P, _absolute_vectors, e8p_points, root_points

MASK_16 = np.uint32(0xFFFF)


@pytest.fixture(autouse=True, scope="module")
def _quiet_blas():
    """Threads gain nothing on the narrow products of the oracle, and lose on a busy machine."""
    with reproducible():
        yield


def naive_scores(x, points):
    """<x, p> - |p|**2 / 2, largest where |x - p| is least, in blocks of 64 rows of x."""
    points = (points / 4).astype(x.dtype)
    table = np.column_stack([points, -(points**2).sum(1) / 2]).T.copy()
    rows = np.column_stack([x, np.ones(len(x), x.dtype)])
    out = np.empty((64, len(points)), x.dtype)
    for i in range(0, len(x), 64):
        yield np.matmul(rows[i : i + 64], table, out=out[: min(64, len(x) - i)])


def naive_nearest(x, points):
    """Row number of the nearest point, the first of equals, by the distances to all.

    Exact for x on a grid of 2**-8 below 16: every product and sum then fits float32.
    """
    return np.concatenate([scores.argmax(1) for scores in naive_scores(x, points)])


def check_nearest(x, codes, points, atol):
    """No point scores better than those of ``codes``, up to rounding of ``atol``."""
    start = 0
    for scores in naive_scores(x, points):
        own = scores[np.arange(len(scores)), codes[start : start + 64]]
        np.testing.assert_allclose(own, scores.max(1), rtol=0, atol=atol)
        start += 64


def on_grid(x):
    return (np.round(np.clip(x, -15, 15) * 256) / 256).astype(np.float32)


def samples(n):
    """Groups of many kinds, n of each, on a grid of 2**-8."""
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((n, 8))
    sparse = normal * (rng.random((n, 8)) < 0.3)
    return {
        "gaussian": on_grid(normal),
        "narrow": on_grid(0.4 * normal),
        "wide": on_grid(3 * normal),
        "uniform": on_grid(rng.uniform(-3, 3, (n, 8))),
        "far": on_grid(rng.uniform(-15, 15, (n, 8))),
        "sparse": on_grid(sparse),
        "ties on integers": rng.integers(-4, 5, (n, 8)).astype(np.float32),
        "ties on halves": rng.integers(-6, 7, (n, 8)).astype(np.float32) / 2,
        "ties on quarters": rng.integers(-9, 10, (n, 8)).astype(np.float32) / 4,
        "ties among equals": np.repeat(rng.integers(-80, 80, (n, 2)), 4, 1).astype("f4") / 16,
    }


def test_points_are_the_lattice_code():
    # All half-integer vectors of even sum and squared norm <= 10, by enumeration, and the 29.
    axes = np.meshgrid(*[np.array([-5, -3, -1, 1, 3, 5], np.int8)] * 8, indexing="ij")
    doubled = np.stack(axes, -1).reshape(-1, 8)
    small_and_even = (np.square(doubled).sum(1) <= 48) & (doubled.sum(1) % 4 == 0)
    halves = doubled[small_and_even] / 2
    norm = (halves**2).sum(1)
    small = list(itertools.islice(itertools.combinations(range(8), 3), 29))
    five = (norm == 12) & (np.abs(halves).max(1) == 1.5)
    kept = [tuple(np.flatnonzero(np.abs(h) == 0.5)) in small for h in halves[five]]
    base = np.concatenate([halves[norm <= 10], halves[five][kept]])
    assert len(np.unique(np.abs(base), axis=0)) == 256
    expected = {tuple(p) for t in (-0.25, 0.25) for p in base + t}
    assert len(expected) == 2**16
    assert {tuple(p) for p in e8p_points() / 4} == expected


def test_second_stage_points():
    points = root_points() / 4
    assert len(np.unique(points, axis=0)) == 256
    assert np.bincount((points**2).sum(1).astype(int)).tolist() == [1, 0, 240, 0, 15]
    roots = points[1:241]
    # E8: integral inner products, and all coordinates integers or all half-integers.
    assert not ((roots @ roots.T) % 1).any()
    assert not np.isin(points, -2.0)[:, 7].any()


@pytest.mark.parametrize("kind", samples(1))
def test_nearest_is_brute_force(kind):
    # 10**4 points over all kinds; code for code, so ties go to the lowest code word.
    x = samples(1000)[kind]
    np.testing.assert_array_equal(E8P(2).encode(x), naive_nearest(x, e8p_points()))


def test_nearest_is_brute_force_off_the_grid():
    rng = np.random.default_rng(8)
    x = (rng.standard_normal((500, 8)) * rng.choice([1e-3, 1.0, 30.0], (500, 1))).astype("f4")
    np.testing.assert_array_equal(E8P(2).encode(x), naive_nearest(x.astype(float), e8p_points()))


def test_zeros_and_extremes():
    largest = np.finfo(np.float32).max
    x = np.zeros((7, 8), np.float32)
    x[:6] = np.array([0, 1e-45, -1e-30, largest, -largest, -0.0])[:, None]
    x[6, 2] = largest
    codes = E8P(2).encode(x)
    # At the ends of the range the norms of the points vanish in rounding, for both sides; so
    # any point that is as near is right.
    check_nearest(x.astype(float), codes, e8p_points(), 0)
    for bits in (3, 4):
        book = E8P(bits)
        points = book.decode(book.encode(x))
        # Zero is a point of neither; the lattice of the second stage is finer by the step.
        assert np.abs(points[[0, 1, 2, 5]]).max() <= 0.25 * book.step + 0.25
        assert (np.sign(x[3:5]) * points[3:5] > 0.5).all()


def test_every_point_is_its_own_nearest():
    codes = np.arange(2**16, dtype=np.uint32)
    book = E8P(2)
    np.testing.assert_array_equal(book.encode(book.decode(codes)), codes)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("kind", ["gaussian", "wide", "sparse", "ties on quarters"])
def test_residual_stages_are_brute_force(bits, kind):
    x = samples(200)[kind]
    book = E8P(bits)
    codes = book.encode(x)
    first, second = codes & MASK_16, codes >> 16
    np.testing.assert_array_equal(first, naive_nearest(x, e8p_points()))
    # The step is no power of two: equal distances of the second stage differ by rounding.
    tail = root_points() if bits == 3 else e8p_points()
    residual = (x - e8p_points()[first] / 4.0) / float(book.step)
    check_nearest(residual, second, tail, 1e-12)
    # Exact: the step is a multiple of 1/128, so that the sum fits float32.
    expected = e8p_points()[first] / 4 + float(book.step) * tail[second] / 4
    np.testing.assert_array_equal(book.decode(codes), expected)


def test_second_stage_is_exact_on_ties():
    rng = np.random.default_rng(9)
    x = rng.integers(-9, 10, (20 * lattice._CHUNK, 8)) / 4
    x[::3] = np.round(x[::3])
    word = np.empty(lattice._CHUNK, np.int64)
    for chunk in x.reshape(20, lattice._CHUNK, 8):
        lattice._nearest_root(chunk.T.reshape(-1).copy(), word)
        np.testing.assert_array_equal(word, naive_nearest(chunk, root_points()))


def test_kernels_run_unjitted():
    rng = np.random.default_rng(10)
    size = lattice._CHUNK
    x = np.concatenate([s[:4] for s in samples(4).values()])[:size].astype(float)
    flat = x.T.reshape(-1).copy()
    plans = []
    for function in (lattice._score_families, lattice._score_families.py_func):
        plans.append(np.empty((2, 7 * size)))
        function(flat, 0.25, plans[-1][0])
        function(flat, -0.25, plans[-1][1])
    np.testing.assert_array_equal(*plans)
    words = []
    for function in (lattice._place, lattice._place.py_func):
        words.append(np.empty(size, np.int64))
        function(flat, plans[0], words[-1])
    np.testing.assert_array_equal(*words)
    for function in (lattice._nearest_e8p, lattice._nearest_e8p.py_func):
        function(flat, _absolute_vectors()[1], plans[0], words[0])
        np.testing.assert_array_equal(words[0], naive_nearest(x, e8p_points()))
    y = np.empty(8)
    for function in (lattice._search_far, lattice._search_far.py_func):
        found = [function(flat, g, 1, -np.inf, 0, y) for g in range(size)]
        far = np.arange(2**15, 2**16)[(np.arange(2**15) >> 7) >= 227]
        best = naive_nearest(x, e8p_points()[far])
        np.testing.assert_array_equal([code for _, code in found], far[best])
    for function in (lattice._nearest_root, lattice._nearest_root.py_func):
        function(flat, words[0])
        np.testing.assert_array_equal(words[0], naive_nearest(x, root_points()))
    assert lattice._sort.py_func(*rng.permutation(8)) == tuple(range(7, -1, -1))


def naive_panel(target, base, coeff, scale, book, codes):
    p, n = target.shape
    error = np.zeros((p, n), np.float32)
    for k in range(p - 1, -1, -1):
        y = target[k] + sum(coeff[j, k] * error[j] for j in range(k + 1, p))
        y = (y / scale[k] if scale[k] else 0 * y).reshape(-1, 8)
        for g in range(n // 8):
            found, held = book.encode(y[g]), codes[k, g]
            nearer = np.square(y[g] - book.decode(held)).sum() < np.square(
                y[g] - book.decode(found)
            ).sum(dtype=float)
            codes[k, g] = held if nearer and book.bits > 2 else found
        error[k] = base[k] - scale[k] * book.decode(codes[k]).reshape(-1)
    return error


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 8), (7, 264), (13, 40), (6, 520)])
def test_panel(bits, shape):
    # Powers of two everywhere make each sum exact, so that the order of adding cannot matter.
    rng = np.random.default_rng(shape)
    p, n = shape
    target, base = on_grid(rng.standard_normal((2, p, n)))
    coeff = rng.choice([0, 0.25, -0.5, 1], (p, p)).astype(np.float32)
    scale = rng.choice([0.5, 1, 2], p).astype(np.float32)
    scale[p // 2] = 0 if p > 1 else 1
    book = E8P(bits)
    held = book.encode(target.reshape(p, -1, 8))  # sometimes nearer, in two stages
    expected_codes = held.copy()
    expected_error = naive_panel(target, base, coeff, scale, book, expected_codes)
    error, codes = np.empty((p, n), np.float32), held.copy()
    book.panel(target, base, coeff, scale, error, codes)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(error, expected_error)
    if n < 100:
        tables = (book.step, _absolute_vectors()[1], book.points, book.tail)
        codes[:] = held
        lattice.feedback_panel.py_func(target, base, coeff, scale, *tables, error, codes)
        np.testing.assert_array_equal(codes, expected_codes)
        np.testing.assert_array_equal(error, expected_error)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_descent_never_climbs(bits):
    # One row, no feedback: revisited with a target that moves, each point is no farther than
    # the one that was held.
    rng = np.random.default_rng(bits)
    x = rng.standard_normal((4000, 8)).astype(np.float32)
    book, one = E8P(bits), np.ones(1, np.float32)
    codes = book.encode(x)
    for _ in range(3):
        x = x + np.float32(0.2) * rng.standard_normal((4000, 8)).astype(np.float32)
        before = np.square(x - book.decode(codes)).sum(1, dtype=float)
        row = x.reshape(1, -1)
        book.panel(row, row, one[None], one, np.empty_like(row), codes.reshape(1, -1))
        after = np.square(x - book.decode(codes)).sum(1, dtype=float)
        assert (after <= before * (1 + 1e-6)).all()  # both are rounded in float32
        assert (after < before).any()


@pytest.mark.parametrize(("bits", "limit"), [(2, 0.0916), (3, 0.0297), (4, 0.0084)])
def test_error_on_gaussian_data(bits, limit):
    book = get_codebook("e8p", bits)
    assert (book.width, book.group, book.name) == (8 * bits, 8, "e8p")
    x = np.random.default_rng(11).standard_normal((50_000, 8)).astype(np.float32)

    def errors(scale):
        scale = np.float32(scale)
        return ((x - scale * book.decode(book.encode(x / scale))) ** 2).mean(1, dtype=float)

    e = errors(book.gaussian_scale)
    spread = e.std() / np.sqrt(len(e))
    # Five standard errors: fails by chance less than once in 10**6 seeds.
    assert abs(e.mean() - book.gaussian_mse) < 5 * spread
    assert book.gaussian_mse < limit
    # The scale is the best one: 6 % to either side is worse, on the same data.
    assert min(errors(f * book.gaussian_scale).mean() for f in (0.94, 1.06)) > e.mean()


def test_shapes_and_dtypes():
    for bits in (2, 3, 4):
        book = E8P(bits)
        codes = book.encode(np.ones((3, 0, 8), np.float32))
        assert codes.shape == (3, 0)
        assert codes.dtype == book.dtype == np.uint32
        assert book.decode(codes).shape == (3, 0, 8)
        x = np.random.default_rng(bits).standard_normal((8, 5, 3)).astype(np.float32).T
        np.testing.assert_array_equal(
            book.encode(x), book.encode(x.reshape(-1, 8).copy()).reshape(3, 5)
        )
    with pytest.raises(InputError, match=r"bits: .* not 5"):
        E8P(5)


def test_import_builds_nothing():
    code = (
        "import sys, lplr.quantizers.lattice as q;"
        "assert 'numba' not in sys.modules; assert not q.e8p_points.cache_info().currsize"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
