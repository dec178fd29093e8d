"""CALDERA as in its paper: block feedback against plain loops, the alternation, its figures."""

from __future__ import annotations

from itertools import pairwise

import helpers
import naive
import numpy as np
import pytest
from helpers import dense_hessian, regularized

import lplr
from lplr.coding.caldera import CalderaProblem
from lplr.coding.faithful import lplr_factorize, quantize_blocks
from lplr.linalg.ldl import block_ldl
from lplr.quantizers import get_codebook

BOOKS = [("lloyd-max", 2), ("uniform", 3), ("e8p", 2)]


def padded(H: np.ndarray) -> np.ndarray:
    size = len(H) + -len(H) % 8
    P = np.eye(size)
    P[: len(H), : len(H)] = H
    return P


# --- block LDL -------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [8, 21, 40])
def test_blocks_are_quantized_one_after_the_other(d: int) -> None:
    """Code for code: the nearest of all 65536 points, found by looking at each."""
    rng = np.random.default_rng(d)
    book, scale = get_codebook("e8p", 2), 0.9
    H = dense_hessian(rng, d)
    X = rng.standard_normal((5, d)).astype(np.float32)
    codes, Q = quantize_blocks(X, H, block_ldl(H), book, scale, sweeps=0)
    L, D = naive.block_ldl(padded(H), 8)
    x = np.pad(X, ((0, 0), (0, -d % 8)))
    rows = [naive.block_ldlq(row, L, book.points / 4 * scale) for row in x]
    q, eta = (np.array(parts) for parts in zip(*rows, strict=True))
    # Float32 sums of 40 terms move a target by 1e-6 at most; none of these 45 is so close to
    # the border of two cells.
    np.testing.assert_allclose(book.decode(codes).reshape(5, -1) * scale, q, atol=1e-6)
    np.testing.assert_allclose(Q, q[:, :d], atol=1e-6)
    # (W - Q) H (W - Q)^T = eta D eta^T, the whole matrix.
    E = x - q
    blocks = eta.reshape(5, -1, 8)
    expected = np.einsum("nbi,bij,mbj->nm", blocks, D, blocks)
    np.testing.assert_allclose(E @ padded(H) @ E.T, expected, rtol=0, atol=1e-10 * expected.max())


@pytest.mark.parametrize(("quantizer", "bits"), BOOKS)
def test_descent_never_increases_the_loss_of_a_row(quantizer: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    H = dense_hessian(rng, 43, condition=1e4)
    X = rng.standard_normal((30, 43)).astype(np.float32)
    book = get_codebook(quantizer, bits)
    losses = []
    for sweeps in range(4):
        codes, Q = quantize_blocks(X, H, block_ldl(H), book, 1.0, sweeps)
        np.testing.assert_array_equal(Q, book.decode(codes).reshape(30, -1)[:, :43])
        E = (X - Q).astype(np.float64)
        losses.append(np.einsum("ni,ij,nj->n", E, H, E))
    # A move is accepted for a gain computed in float32: it may lose by that rounding.
    for before, after in pairwise(losses):
        assert (after <= before * (1 + 1e-5)).all()
    assert losses[-1].sum() < 0.98 * losses[0].sum()


def test_padding_has_no_weight() -> None:
    """The columns that fill the last block are zero, whose nearest point is not: no matter."""
    rng = np.random.default_rng(0)
    H = dense_hessian(rng, 13)
    X = rng.standard_normal((6, 13)).astype(np.float32)
    codes, Q = quantize_blocks(X, H, block_ldl(H), get_codebook("e8p", 2), 1.0)
    assert codes.shape == (6, 2)
    assert Q.shape == (6, 13)
    codes, Q = quantize_blocks(X, H, block_ldl(H), get_codebook("lloyd-max", 3), 1.0)
    assert codes.shape == (6, 13)


def test_zeros_stay_zero() -> None:
    X = np.zeros((3, 9), np.float32)
    _, Q = quantize_blocks(X, np.eye(9), block_ldl(np.eye(9)), get_codebook("e8p", 2), 0.0)
    assert not Q.any()


# --- LPLRFactorize ---------------------------------------------------------------------------


def problem(rng: np.random.Generator, n: int, d: int, rank: int, bits: int) -> CalderaProblem:
    books = (get_codebook("lloyd-max", bits), get_codebook("lloyd-max", bits))
    W = rng.standard_normal((n, d)).astype(np.float32)
    return CalderaProblem(W, dense_hessian(rng, d), rank, get_codebook("e8p", 2), books)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_factors_of_many_bits_reach_the_optimum(shape: tuple[int, int]) -> None:
    """At 16 bits the alternation ends at Lemma 4.2's optimum, from which it starts."""
    rng = np.random.default_rng(0)
    p = problem(rng, *shape, rank=5, bits=16)
    left, right = lplr_factorize(p, p.W)
    w, V = np.linalg.eigh(p.H)
    s = np.linalg.svd(p.W @ (V * np.sqrt(w)), compute_uv=False)
    # Float16 factors have relative errors of 2^-11, whose squares are far below 1e-3.
    assert p.loss(p.W - left.values.T @ right.values) == pytest.approx((s[5:] ** 2).sum(), rel=1e-3)


def test_more_bits_lose_less() -> None:
    losses = []
    for bits in (1, 2, 4, 8):
        p = problem(np.random.default_rng(1), 40, 60, rank=8, bits=bits)
        left, right = lplr_factorize(p, p.W)
        losses.append(p.loss(p.W - left.values.T @ right.values))
    assert losses == sorted(losses, reverse=True)


def test_factors_are_points_of_their_codes() -> None:
    p = problem(np.random.default_rng(2), 13, 30, rank=4, bits=3)
    for factor, book in zip(lplr_factorize(p, p.W), p.books, strict=True):
        values = factor.scale[:, None] * book.decode(factor.codes)[..., 0]
        np.testing.assert_allclose(factor.values, values, rtol=1e-6)
        assert len(set(factor.scale)) == 1  # one scale a tensor


# --- the whole -------------------------------------------------------------------------------


def test_order_of_the_half_steps() -> None:
    rng = np.random.default_rng(0)
    W, X = rng.standard_normal((24, 40)), rng.standard_normal((90, 40))
    g = lplr.caldera(W, hessian=X, rank=4, mode="faithful", n_iter=3, rng=0)
    steps = [(h["step"], h["iteration"]) for h in g.meta["history"]]
    assert steps == [("Q", 1), ("LR", 2), ("Q", 2), ("LR", 3), ("Q", 3)]
    assert g.backbone.axis == 1
    alone = lplr.caldera(W, hessian=X, rank=0, mode="faithful", n_iter=3, rng=0)
    assert [h["step"] for h in alone.meta["history"]] == ["Q"]


@pytest.mark.parametrize(
    ("name", "authors", "n_iter"),
    [
        # Ten iterations give 0.0958, as four do.
        ("minilm_l2_query", 0.0965, 4),
        # The best of ten iterations is 0.1144, that of two 0.1157 in a fifth of the time.
        ("minilm_l3_output", 0.1166, 2),
        # Ten give 0.1767, and each but the first less than 2 % less than the one before.
        ("smollm2_l10_up", 0.180, 4),
    ],
)
def test_reproduces_the_paper_on_a_layer(name: str, authors: float, n_iter: int) -> None:
    """The authors' code, ten iterations: within 3 %; the error stays within 1 % over seeds."""
    layer = helpers.layer(name)
    g = lplr.caldera(layer.W, hessian=layer.H, rank=64, mode="faithful", n_iter=n_iter, rng=0)
    found = g.relative_error(layer.W, regularized(layer.H))
    assert found == pytest.approx(authors, rel=0.03)
    assert found <= g.meta["history"][0]["error"]
