"""Q + L R as an object: an operator in the coordinates of W, frozen, of exact size, storable."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator, svds

import lplr
from lplr.exceptions import CorruptFileError, InputError
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.quantizers import get_codebook
from lplr.quantizers.packing import pack


def quantized(shape: tuple[int, int], kind: tuple[str, int] = ("uniform", 3), axis: int = 0):
    """Rounded random values, with one scale."""
    rng = np.random.default_rng([*shape, kind[1]])
    book = get_codebook(*kind)
    words = list(shape)
    words[axis] = -(-words[axis] // book.group)
    codes = book.encode(rng.standard_normal((*words, book.group)).astype(np.float32))
    scale = np.full((1, 1), 0.75, np.float32)
    return lplr.Quantized(shape, *kind, pack(codes, book.width), scale, axis=axis)


def low_rank(n: int, d: int, k: int = 3) -> lplr.LowRank:
    return lplr.LowRank(quantized((n, k), ("e8p", 2)), quantized((k, d), ("lloyd-max", 4)))


def build(n: int, d: int, **parts) -> QPlusLowRank:
    return QPlusLowRank(quantized((n, d), ("e8p", 2)), low_rank(n, d), **parts)


def rotated(n: int, d: int, **blocks) -> QPlusLowRank:
    left, right = RandomizedTransform(n, 1, **blocks), RandomizedTransform(d, 2)
    return build(n, d, left=left, right=right)


MADE = {
    "hartley": lambda: rotated(37, 29),
    "hadamard": lambda: rotated(64, 24),
    "blocks": lambda: rotated(61, 29, block=16),
    "interleaved": lambda: rotated(61, 29, block=16, interleaved=True),
    "one block": lambda: rotated(37, 29, block=37),
    "blocks alone": lambda: replace(rotated(40, 7, block=8), low_rank=None, right=None),
    "one side": lambda: build(20, 37, right=RandomizedTransform(37, 9)),
    "plain": lambda: build(37, 29),
    "rank 0": lambda: replace(rotated(37, 29), low_rank=None),
    "rows": lambda: replace(rotated(9, 29), backbone=quantized((9, 29), ("e8p", 3), axis=1)),
    "scalar": lambda: replace(rotated(9, 29), backbone=quantized((9, 29), ("lloyd-max", 16))),
    "1 x 1": lambda: build(1, 1, left=RandomizedTransform(1, 1)),
}
each = pytest.mark.parametrize("make", MADE.values(), ids=MADE.keys())


def orthogonal(transform: RandomizedTransform | None, n: int) -> np.ndarray:
    """The transform as a dense matrix."""
    return np.eye(n) if transform is None else transform.apply(np.eye(n), axis=0)


def exact(g: QPlusLowRank) -> np.ndarray:
    """U^T (Q + L R) V in float64, of dense matrices."""
    middle = g.backbone.to_dense().astype(np.float64)
    if g.low_rank is not None:
        L, R = (f.to_dense().astype(np.float64) for f in (g.low_rank.left, g.low_rank.right))
        middle += L @ R
    return orthogonal(g.left, g.shape[0]).T @ middle @ orthogonal(g.right, g.shape[1])


# --- operator --------------------------------------------------------------------------------


@each
def test_products_are_those_of_the_dense_matrix(make) -> None:
    g, rng = make(), np.random.default_rng(1)
    dense = exact(g)
    size = np.abs(dense).max()
    # Float32 sums of at most 64 terms, rotated twice; the products themselves are in float64.
    np.testing.assert_allclose(g.to_dense(), dense, rtol=0, atol=2e-6 * size)
    n, d = g.shape
    x, y = rng.standard_normal(d), rng.standard_normal(n)
    X, Y = rng.standard_normal((d, 5)), rng.standard_normal((n, 5))
    for found, expected in (
        (g @ x, dense @ x),
        (g @ X, dense @ X),
        (g.T @ y, dense.T @ y),
        (g.T @ Y, dense.T @ Y),
        (g.H @ Y, dense.T @ Y),
        (y @ g, y @ dense),
        (g.matmat(x[:, None]), (dense @ x)[:, None]),
        (g @ np.arange(d), dense @ np.arange(d)),
        (g @ np.asfortranarray(X)[:, ::-1], dense @ X[:, ::-1]),
        ((3 * g) @ x, 3 * dense @ x),
        (g @ (x + 1j), dense @ (x + 1j)),
        # One float32 vector is multiplied with the codes as they are.
        (g @ x.astype(np.float32), dense @ x),
        (g.T @ y.astype(np.float32), dense.T @ y),
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * size * d)
    assert (g @ x.astype(np.float32)).dtype == np.float32
    assert (g.T @ Y.astype(np.float32)).dtype == np.float32
    assert (g @ x).dtype == np.float64


@each
def test_adjoint(make) -> None:
    g, rng = make(), np.random.default_rng(2)
    x, y = rng.standard_normal(g.shape[1]), rng.standard_normal(g.shape[0])
    norm = np.linalg.norm(exact(g)) * np.linalg.norm(x) * np.linalg.norm(y)
    assert abs((g @ x) @ y - x @ (g.T @ y)) <= 1e-6 * norm


def test_is_a_scipy_operator() -> None:
    g = rotated(37, 29)
    assert isinstance(g, LinearOperator)
    assert aslinearoperator(g) is g
    assert g.dtype == np.float32
    found = np.sort(svds(g, k=3, random_state=0)[1])[::-1]
    np.testing.assert_allclose(found, np.linalg.svd(exact(g), compute_uv=False)[:3], rtol=1e-4)
    for product in (lambda: g @ np.ones(30), lambda: g.T @ np.ones(29)):
        with pytest.raises(ValueError, match="(?i)dimension mismatch"):
            product()


@each
def test_rows_are_rows_of_the_dense_matrix(make) -> None:
    g = make()
    dense = g.to_dense()
    assert dense.dtype == np.float32
    n = g.shape[0]
    for start, stop in ((0, n), (n // 2, n), (n, n)):
        np.testing.assert_array_equal(g.rows(start, stop), dense[start:stop])
    for start, stop in ((-1, n), (0, n + 1), (2, 1)):
        with pytest.raises(InputError, match="start, stop"):
            g.rows(start, stop)


@each
def test_relative_error(make) -> None:
    g, rng = make(), np.random.default_rng(3)
    W = rng.standard_normal(g.shape)
    X = rng.standard_normal((50, g.shape[1]))
    E = W - g.to_dense()
    assert g.relative_error(W) == pytest.approx(np.linalg.norm(E) / np.linalg.norm(W), rel=1e-9)
    expected = np.linalg.norm(E @ X.T) / np.linalg.norm(W @ X.T)
    assert g.relative_error(W, X.T @ X) == pytest.approx(expected, rel=1e-9)


# --- size ------------------------------------------------------------------------------------


def test_nbytes_are_codes_scales_and_eight_a_seed() -> None:
    g = rotated(37, 29)
    backbone = 5 * 29 * 2 + 4  # five groups of eight rows, two bytes each, and a scale
    factors = (5 * 3 * 2 + 4) + (-(-3 * 29 * 4 // 8) + 4)
    assert g.backbone.nbytes == backbone
    assert g.nbytes == backbone + factors + 16
    assert replace(g, left=None).nbytes == g.nbytes - 8
    assert replace(g, low_rank=None).nbytes == backbone + 16
    assert g.bits_per_entry == 8 * g.nbytes / (37 * 29)
    assert (g.rank, replace(g, low_rank=None).rank) == (3, 0)
    assert rotated(37, 29, block=16).nbytes == g.nbytes + 8


def test_repr() -> None:
    text = repr(rotated(37, 29))
    codes = ("Q e8p 2 bits", "L e8p 2 bits", "R lloyd-max 4 bits")
    for part in ("QPlusLowRank", "37 x 29", "rank 3", *codes):
        assert part in text
    assert "rank" not in repr(MADE["rank 0"]())
    assert rotated(37, 29)._repr_html_().startswith("<table>")


# --- frozen, copied, stored ------------------------------------------------------------------


@each
def test_nothing_can_be_written(make) -> None:
    g = make()
    for name in ("shape", "meta", "backbone", "low_rank", "left", "new"):
        with pytest.raises(FrozenInstanceError):
            setattr(g, name, None)
    with pytest.raises(TypeError):
        g.meta["seed"] = 1
    with pytest.raises(ValueError, match="read-only"):
        g.backbone.codes[0] = 0


@each
def test_copies_pickles_and_files_are_equal(make, tmp_path) -> None:
    g = replace(make(), meta={"seed": 3, "history": [{"step": "Q", "error": 0.5}]})
    path = tmp_path / "g.h5"
    lplr.save(path, g)
    for other in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g), lplr.load(path)):
        assert type(other) is QPlusLowRank
        assert other.meta == g.meta
        assert (other.left, other.right, other.nbytes) == (g.left, g.right, g.nbytes)
        np.testing.assert_array_equal(other.to_dense(), g.to_dense())
        with pytest.raises(FrozenInstanceError):
            other.rank = 1
    # Files without blocks are those that older releases read.
    blocks = g.left is not None and g.left.block is not None
    assert lplr.inspect(path)["groups"]["/"]["version"] == 1 + blocks
    lplr.save(tmp_path / "again.h5", lplr.load(path))
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_every_byte_of_a_file_is_guarded(tmp_path) -> None:
    lplr.save(tmp_path / "g.h5", rotated(9, 7))
    content = (tmp_path / "g.h5").read_bytes()
    for at in np.linspace(0, len(content) - 1, 60).astype(int):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "bad.h5").write_bytes(changed)
        with pytest.raises(CorruptFileError):
            lplr.load(tmp_path / "bad.h5")


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone", np.ones((37, 29))),
        ("backbone", None),
        ("low_rank", low_rank(37, 30)),
        ("low_rank", quantized((37, 29))),
        ("left", RandomizedTransform(29, 1)),
        ("left", 3),
        ("right", RandomizedTransform(37, 1)),
        ("right", np.eye(29)),
        ("right", RandomizedTransform(29, 1, block=8)),
    ],
)
def test_parts_that_do_not_fit(name: str, value) -> None:
    with pytest.raises(InputError, match=f"^{name}: "):
        replace(rotated(37, 29), **{name: value})


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": 3},
        {"backbone": low_rank(9, 7)},
        {"low_rank": quantized((9, 7))},
        {"left_seed": -1},
        {"left_seed": 2**63},
        {"right_seed": 0.5},
        {"right_seed": "7"},
        {"right_seed": True},
        {"rank": 3},
        {"left": 3},
        {"left_block": 4},
        {"left_interleaved": True},
        {"left_block": 0, "left_interleaved": True},
        {"left_block": 4, "left_interleaved": 1},
        {"right_block": 4},
    ],
)
def test_state_that_no_decomposition_has(change: dict) -> None:
    state = rotated(9, 7)._state()
    assert set(state) == {"backbone", "low_rank", "left_seed", "right_seed"}
    QPlusLowRank._from_state(state)
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the part says
        QPlusLowRank._from_state({**state, **change})
    blocks = {"left_block": 4, "left_interleaved": True}
    assert QPlusLowRank._from_state({**state, **blocks}).left.blocks == 2
    with pytest.raises(ValueError, match="left_seed"):
        QPlusLowRank._from_state({k: v for k, v in {**state, **blocks}.items() if k != "left_seed"})
    with pytest.raises(ValueError, match="backbone"):
        QPlusLowRank._from_state({k: v for k, v in state.items() if k != "backbone"})
