"""The transforms against dense matrices built from their definitions, and the kernels' loops."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lplr.exceptions import InputError
from lplr.kernels import hadamard
from lplr.linalg.paley import block_order, paley
from lplr.linalg.transforms import RandomizedTransform

SIZES = [*range(1, 131), 144, 160, 224, 256, 288, 352, 384, 480, 509, 576, 784]


def naive_signs(n, seed):
    """Philox-4x64-10 from its definition (Salmon et al., 2011), bit by bit."""
    mask = (1 << 64) - 1
    bits = []
    block = 1
    while len(bits) < n:
        counter, key = [block, 0, 0, 0], [seed, 0]
        for _ in range(10):
            a = counter[0] * 0xD2E7470EE14C6C93
            b = counter[2] * 0xCA5A826395121157
            counter = [
                (b >> 64) ^ counter[1] ^ key[0],
                b & mask,
                (a >> 64) ^ counter[3] ^ key[1],
                a & mask,
            ]
            key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
        bits += [word >> i & 1 for word in counter for i in range(64)]
        block += 1
    return np.array([1 - 2 * bit for bit in bits[:n]])


def naive_sylvester(n):
    return np.array([[(-1.0) ** bin(i & j).count("1") for j in range(n)] for i in range(n)])


def naive_paley(order):
    def character(a, q):
        return 0 if a % q == 0 else (1 if any(x * x % q == a % q for x in range(1, q)) else -1)

    def is_prime(q):
        return q > 1 and all(q % p for p in range(2, q))

    q = order - 1
    if q % 4 == 3 and is_prime(q):
        P = np.ones((order, order))
        for i in range(q):
            P[i + 1, 0] = -1
            for j in range(q):
                P[i + 1, j + 1] = character(i - j, q) + (i == j)
        return P
    q = order // 2 - 1
    assert q % 4 == 1
    assert is_prime(q)
    P = np.empty((order, order))
    for i in range(q + 1):
        for j in range(q + 1):
            c = (i != j) if i == 0 or j == 0 else character(i - j, q)
            P[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = np.array([[c, c], [c, -c]]) + (i == j) * (
                np.array([[1, -1], [-1, -1]])
            )
    return P


def naive_dense(n, seed):
    """V as the module's docstring defines it."""
    order = {3: 12, 5: 20, 7: 28, 9: 36, 11: 44, 15: 60}
    odd = n
    while odd % 2 == 0:
        odd //= 2
    if odd == 1:
        T = naive_sylvester(n) / np.sqrt(n)
    elif odd in order and n % order[odd] == 0:
        T = np.kron(naive_sylvester(n // order[odd]), naive_paley(order[odd])) / np.sqrt(n)
    else:
        angle = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
        T = (np.cos(angle) + np.sin(angle)) / np.sqrt(n)
    return T * naive_signs(n, seed)


def tolerance(n, dtype):
    """Bound on the error of one entry of V x for unit x.

    Each of log2(n) stages, or of the b additions of a Paley block, rounds once relative to a
    partial result of norm <= 1; a Fourier transform's constant is below 10.
    """
    return 10 * np.finfo(dtype).eps * (np.log2(n) + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_its_definition_at_every_size(dtype):
    for n in SIZES:
        V = RandomizedTransform(n, seed=n)
        dense = naive_dense(n, n)
        tol = tolerance(n, dtype)
        eye = np.eye(n, dtype=dtype)
        for axis, expected in ((0, dense), (1, dense.T)):
            got = V.apply(eye, axis)
            assert got.dtype == dtype
            assert got.flags.c_contiguous
            np.testing.assert_allclose(got, expected, rtol=0, atol=tol, err_msg=f"{n}")
            np.testing.assert_allclose(V.undo(eye, axis), expected.T, rtol=0, atol=tol)
        np.testing.assert_allclose(V.apply(eye[n // 2]), dense[:, n // 2], rtol=0, atol=tol)
        np.testing.assert_allclose(V.undo(eye[n // 2]), dense[n // 2], rtol=0, atol=tol)


def test_orthogonal_with_small_entries_at_every_size():
    for n in SIZES:
        V = RandomizedTransform(n, seed=7)
        dense = V.apply(np.eye(n))
        np.testing.assert_allclose(dense.T @ dense, np.eye(n), rtol=0, atol=tolerance(n, float))
        largest = 1 if V.kind == "hadamard" else np.sqrt(2)
        assert np.abs(dense).max() <= largest / np.sqrt(n) * (1 + tolerance(n, float))
        if V.kind == "hadamard":
            assert np.abs(dense).min() >= 1 / np.sqrt(n) * (1 - tolerance(n, float))


@pytest.mark.parametrize("n", [4096, 1536, 2880, 4093, 11008])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_sizes_keep_norms_and_are_undone(n, dtype):
    rng = np.random.default_rng(0)
    V = RandomizedTransform.sample(n, rng)
    for shape, axis in (((5, n), 1), ((n, 3), 0), ((n, 37), 0), ((n,), 0)):
        X = rng.standard_normal(shape).astype(dtype)
        Y = V.apply(X, axis)
        scale = np.linalg.norm(X)
        assert abs(np.linalg.norm(Y) / scale - 1) < tolerance(n, dtype)
        assert np.linalg.norm(V.undo(Y, axis) - X) < tolerance(n, dtype) * scale
        assert np.linalg.norm(Y - X) > scale / 2  # something was done


def test_never_builds_a_dense_matrix():
    """At n = 2^20 and 60 2^14 a dense factor could not even be allocated."""
    for n in (1 << 20, 60 << 14):
        V = RandomizedTransform(n, seed=1)
        x = np.zeros(n)
        x[n // 3] = 1
        np.testing.assert_allclose(np.abs(V.apply(x)), n**-0.5, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    other=st.integers(1, 40),
    axis=st.sampled_from([0, 1]),
    seed=st.integers(0, 2**63 - 1),
    layout=st.sampled_from(["C", "F", "strided", "read-only", "big-endian", "integer"]),
)
def test_any_layout(n, other, axis, seed, layout):
    rng = np.random.default_rng(seed % 1000)
    shape = (n, other) if axis == 0 else (other, n)
    X = np.round(100 * rng.standard_normal(shape))
    given_ = {
        "C": lambda: X.copy(),
        "F": lambda: np.asfortranarray(X),
        "strided": lambda: np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
        "read-only": lambda: X.copy(),
        "big-endian": lambda: X.astype(">f8"),
        "integer": lambda: X.astype(np.int16),
    }[layout]()
    if layout == "read-only":
        given_.flags.writeable = False
    before = given_.copy()
    V = RandomizedTransform(n, seed)
    Y = V.apply(given_, axis)
    np.testing.assert_array_equal(Y, V.apply(X, axis))
    np.testing.assert_array_equal(given_, before)
    tol = tolerance(n, float) * np.linalg.norm(X)
    np.testing.assert_allclose(V.undo(Y, axis), X, rtol=0, atol=tol)


@pytest.mark.parametrize("n", [16, 60, 100])
def test_two_sided(n):
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, n))
    H = X @ X.T
    V = RandomizedTransform(n, seed=5)
    dense = V.apply(np.eye(n))
    got = V.two_sided(H)
    assert np.array_equal(got, got.T)
    scale = np.linalg.norm(H)
    np.testing.assert_allclose(got, dense @ H @ dense.T, rtol=0, atol=1e-14 * scale)
    assert V.two_sided(H.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("n", [512, 576, 500])
def test_same_bits_at_any_number_of_threads(n, monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1500, n), dtype=np.float32)
    columns = np.ascontiguousarray(rows.T)
    V = RandomizedTransform(n, seed=2)
    results = []
    for threads in "123":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        results.append((V.apply(rows, 1), V.undo(rows, 1), V.apply(columns), V.undo(columns)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_signs_are_the_documented_stream():
    for n, seed in ((1, 0), (63, 1), (64, 2), (65, 3), (700, 2**63 - 1)):
        signs = RandomizedTransform(n, seed).signs
        assert signs.dtype == np.int8
        np.testing.assert_array_equal(signs, naive_signs(n, seed))


def test_signs_are_balanced():
    """Mean of 10^6 fair signs: beyond 6 standard deviations once in 5 10^8 seeds."""
    signs = RandomizedTransform(10**6, seed=4).signs.astype(float)
    assert abs(signs.mean()) < 6e-3
    assert abs((signs[1:] * signs[:-1]).mean()) < 6e-3


def test_block_orders():
    assert [block_order(n) for n in (1, 2, 4096, 12, 6, 1536, 5120, 896, 576, 352, 480)] == [
        *(1, 1, 1, 12, 0, 12, 20, 28, 36, 44, 60)
    ]
    assert [block_order(n) for n in (52, 104, 68, 784, 11008)] == [0] * 5
    for order in (12, 20, 28, 36, 44, 60):
        P = paley(order, np.dtype(np.float64), False)
        np.testing.assert_array_equal(P, naive_paley(order))
        np.testing.assert_array_equal(P @ P.T, order * np.eye(order))
        np.testing.assert_array_equal(paley(order, np.dtype(np.float64), True), P.T)


def test_sampled_by_a_seed():
    V = RandomizedTransform.sample(100, rng=0)
    assert RandomizedTransform(100, V.seed) == V
    assert V.nbytes == 16
    assert RandomizedTransform.sample(100, rng=0) == V
    assert RandomizedTransform.sample(100, rng=1) != V
    assert RandomizedTransform(100, V.seed, block=16).nbytes == 24
    assert RandomizedTransform(100, V.seed, block=16) != V
    assert pickle.loads(pickle.dumps(V)) == V
    bad = [{"n": 0}, {"seed": -1}, {"seed": 2**63}, {"n": 2.0}, {"n": "3"}, {"block": 0}]
    bad += [{"interleaved": 1}]
    for change in bad:
        with pytest.raises(InputError):
            RandomizedTransform(**({"n": 3, "seed": 0} | change))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "block"), [(64, 16), (70, 16), (31, 16), (32, 16), (37, 12), (5, 9), (6, 1), (301, 100)]
)
def test_blocks_are_transforms_of_their_own(n, block, dtype, interleaved):
    V = RandomizedTransform(n, seed=11, block=block, interleaved=interleaved)
    signs, count = naive_signs(n, 11), max(1, n // block)
    m = n - (count - 1) * block if count > 1 else n
    mixed = [list(range(b * block, b * block + block)) for b in range(count - 1)]
    mixed.append(list(range(n - m, n)))
    if interleaved:
        mixed[-1] = [j * n // m for j in range(m)]
        others = [i for i in range(n) if i not in mixed[-1]]
        mixed[:-1] = [others[b :: count - 1] for b in range(count - 1)]
    dense, row = np.zeros((n, n)), 0
    for columns in mixed:
        size = len(columns)
        plain = naive_dense(size, 0) * naive_signs(size, 0)  # without its signs
        dense[row : row + size, columns] = plain * signs[row : row + size]
        row += size
    rng, tol = np.random.default_rng(0), 40 * tolerance(n, dtype)
    for shape, axis in (((n, 3), 0), ((n, 20), 0), ((20, n), 1), ((n,), 0)):
        X = rng.standard_normal(shape).astype(dtype)
        for run, matrix in ((V.apply, dense), (V.undo, dense.T)):
            got = run(X, axis)
            assert got.dtype == dtype
            assert got.flags.c_contiguous
            expected = X @ matrix.T if axis else matrix @ X
            np.testing.assert_allclose(got, expected, rtol=0, atol=tol)
    X = rng.standard_normal((n, 20)).astype(dtype)
    whole = V.undo(X)
    assert V.blocks == count
    for b, columns in enumerate(mixed):
        np.testing.assert_array_equal(np.arange(n)[V.outside(b)], columns)
        np.testing.assert_array_equal(V.block_of(np.array(columns)), b)
        part = X[V.inside(b)]
        np.testing.assert_array_equal(V.undo_block(b, part), whole[columns])
        again = V.undo_block(b, np.ascontiguousarray(part.T), axis=1)
        np.testing.assert_allclose(again.T, whole[columns], rtol=0, atol=tol)


@pytest.mark.parametrize(
    ("X", "axis"),
    [
        (np.ones(7), 0),
        (np.ones((8, 7)), 1),
        (np.ones((7, 8)), 0),
        (np.ones((8, 8), complex), 0),
        (np.full((8, 8), "a"), 0),
        (np.ones((8, 8, 8)), 0),
        (np.float64(3), 0),
        (np.ones((8, 8)), 2),
    ],
)
def test_refuses(X, axis):
    V = RandomizedTransform(8, seed=0)
    with pytest.raises(InputError, match="X: "):
        V.apply(X, axis)
    with pytest.raises(InputError, match="X: "):
        V.undo(X, axis)


def test_two_sided_refuses():
    V = RandomizedTransform(4, seed=0)
    with pytest.raises(InputError, match="H: "):
        V.two_sided(np.ones((4, 5)))
    with pytest.raises(InputError, match="X: "):
        V.two_sided(np.ones((4, 4), complex))


def both(kernel):
    return (kernel, kernel.py_func)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 32, 64])
def test_kernels_equal_dense_products(n, dtype):
    rng = np.random.default_rng(n)
    H = naive_sylvester(n)
    pre = rng.standard_normal(n).astype(dtype)
    post = rng.standard_normal(n).astype(dtype)
    # Every partial sum is below n times the largest product; each stage rounds it once.
    tol = 100 * n * (np.log2(n) + 1) * np.finfo(dtype).eps

    X = rng.standard_normal((5, n)).astype(dtype)
    expected = np.zeros((5, n))
    expected[1:4] = (X[1:4] * pre) @ H * post
    for kernel in both(hadamard.hadamard_rows):
        out = np.zeros_like(X)
        kernel(X, pre, post, out, 1, 4)
        np.testing.assert_allclose(out, expected, rtol=0, atol=tol)

    X = rng.standard_normal((n, 7)).astype(dtype)
    expected = np.zeros((n, 7))
    expected[:, 2:6] = post[:, None] * (H @ (pre[:, None] * X[:, 2:6]))
    for kernel in both(hadamard.hadamard_columns):
        out = np.zeros_like(X)
        kernel(X, pre, post, out, 2, 6)
        np.testing.assert_allclose(out, expected, rtol=0, atol=tol)

    X = rng.standard_normal((4, n * 3)).astype(dtype)
    expected = X.astype(float)
    expected[1:3] = X[1:3] @ np.kron(H, np.eye(3))
    for kernel in both(hadamard.hadamard_strided):
        out = X.copy()
        kernel(out, 3, 1, 3)
        np.testing.assert_allclose(out, expected, rtol=0, atol=tol)


@pytest.mark.parametrize("kernel", [hadamard.hadamard_columns, hadamard.hadamard_rows])
def test_kernels_work_in_place(kernel):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((32, 32))
    one = np.ones(32)
    out = np.empty_like(X)
    kernel(X, one, one, out, 0, 32)
    kernel(X, one, one, X, 0, 32)
    np.testing.assert_array_equal(X, out)


def test_strided_stages_do_not_depend_on_the_piece():
    """A row longer than one cache piece, against the dense matrix of its coarse index."""
    rng = np.random.default_rng(2)
    n, width = 256, 200
    X = rng.standard_normal((1, n * width))
    expected = (naive_sylvester(n) @ X.reshape(n, width)).reshape(1, -1)
    assert n * width > hadamard._PIECE
    hadamard.hadamard_strided(X, width, 0, 1)
    np.testing.assert_allclose(X, expected, rtol=0, atol=1e-12)


def test_helpers_run_unjitted():
    rng = np.random.default_rng(3)
    x = rng.standard_normal(32)
    for helper, radix in ((hadamard._rotate2, 2), (hadamard._rotate4, 4)):
        # Rows of naive_sylvester(radix) on the top bits; they become the lowest ones.
        expected = (naive_sylvester(radix) @ x.reshape(radix, -1)).T.ravel()
        for run in both(helper):
            y = np.empty_like(x)
            run(x, y)
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    for helper in (hadamard._butterflies, hadamard._all_stages):
        for width in (1, 2, 4):
            expected = np.kron(naive_sylvester(32 // width), np.eye(width)) @ x
            for run in both(helper):
                y = x.copy()
                run(y, width)
                np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
