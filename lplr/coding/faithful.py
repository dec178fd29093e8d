"""CALDERA as in its paper: factors and backbone in alternation, factors rounded to nearest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lplr.coding.caldera import CalderaProblem, Candidate, Trace
from lplr.coding.factor import GRAM_DAMPING, Factor, FactorPair, normal_equations, product
from lplr.linalg.ldl import block_ldl
from lplr.linalg.least_squares import rank_constrained, solve
from lplr.parallel import matmul, run_blocks
from lplr.progress import counter, parts, until
from lplr.quantizers.base import Codebook
from lplr.validation.matrices import bring_into_range

__all__ = ["faithful", "lplr_factorize", "quantize_blocks"]

_INNER = 10  # alternations of LPLRFactorize
_SWEEPS = 10  # of coordinate descent after block feedback
_GROUP = 8  # columns of a block
_BLOCK = 256  # rows of W that one thread takes at a time
_ROWS = 16  # of W that are coded together where errors of rows are fed back


def faithful(problem: CalderaProblem, trace: Trace, n_iter: int, rng: np.random.Generator) -> None:
    """Algorithm 1 of CALDERA, in the order L R, then Q; the trace keeps the best candidate.

    At least one of ``n_iter`` outer iterations T_out is made, and no more than one at rank 0.
    Nothing is random after the rotation, so ``rng`` is not used. The settings are those of the
    authors' experiments (Saha et al., NeurIPS 2024): Q by block feedback over eight columns and ten
    sweeps, L R by `lplr_factorize`. Unlike theirs, one scale is fitted to each tensor by its root
    mean square, and any number of columns is accepted.
    """
    W, H = problem.W, problem.H
    factor = block_ldl(H)
    Q = np.zeros_like(W)
    candidate: Candidate | None = None
    for iteration in parts(range(1, max(n_iter, 1) + 1), what=lambda i: f"round {i}"):
        left = right = None
        if problem.rank:
            with until(0.5):
                left, right = lplr_factorize(problem, W - Q)
            if candidate is not None:
                trace.add("LR", iteration, replace(candidate, left=left, right=right))
        X, book = problem.without(left, right), problem.q_book
        scale = float(np.sqrt(np.mean(np.square(X, dtype=np.float64))) * book.gaussian_scale)
        codes, Q = _backbone(problem, X, factor, scale)
        candidate = Candidate(Q, codes, scale, 1, left, right)
        trace.add("Q", iteration, candidate)
        if not problem.rank:
            break


def _backbone(
    problem: CalderaProblem, X: np.ndarray, factor: tuple[np.ndarray, np.ndarray], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """`quantize_blocks` of X, or under G of one block of rows after the other."""
    H, rows, book = problem.H, problem.rows, problem.q_book
    if rows is None:
        return quantize_blocks(X, H, factor, book, scale)
    n, d = X.shape
    codes, Q = np.empty((n, -(-d // book.group)), book.dtype), np.empty_like(X)
    for i in parts(range(0, n, _ROWS)):
        b = slice(i, min(i + _ROWS, n))
        target = X[b] + rows.fed_back(X - Q, b)
        codes[b], Q[b] = quantize_blocks(target, H, factor, book, scale)
    return codes, Q


def lplr_factorize(problem: CalderaProblem, A: np.ndarray) -> FactorPair:
    """Algorithm 2 of CALDERA: L and R for A under H, in turn, rounded to nearest; the best pair."""
    # With C a root of G, C^-1 U V is best for A where U V is for C A.
    _, V = rank_constrained(problem.root(A), problem.H, problem.rank)
    # Singular values are split evenly, so that both factors have the same range.
    s = np.sqrt(np.maximum(np.sqrt(np.sum(V**2, axis=1)), 1e-30))
    R = (V / s[:, None]).astype(np.float32)
    best: FactorPair | None = None
    least = np.inf
    for _ in parts(range(_INNER)):
        T = matmul(R.astype(np.float64), problem.H)
        left = _rounded(
            _solved(matmul(T, R.T.astype(np.float64)), matmul(T.astype(np.float32), A.T)),
            problem.books[0],
        )
        right = _rounded(_solved(*normal_equations(left.values, A, problem.rows)), problem.books[1])
        # Only the product of the scales of both is determined, and they may drift apart for ever.
        R = bring_into_range(right.values)[1]
        loss = problem.loss(A - product(left, right))
        if loss < least:
            least, best = loss, (left, right)
    assert best is not None
    return best


def _solved(G: np.ndarray, B: np.ndarray) -> np.ndarray:
    G = (G + G.T) / 2
    if not G.any():  # the other factor was rounded to zero
        return np.zeros(B.shape, np.float32)
    return solve(G + 1e-2 * GRAM_DAMPING * np.trace(G) / len(G) * np.eye(len(G)), B)


def _rounded(X: np.ndarray, book: Codebook) -> Factor:
    """The nearest points to X, at one scale that suits its root mean square."""
    scale = np.float32(np.sqrt(np.mean(np.square(X, dtype=np.float64))) * book.gaussian_scale)
    n = X.shape[1]
    codes = book.encode(_groups(X / max(scale, np.float32(1e-30)), book.group))
    values = book.decode(codes).reshape(len(X), -1)[:, :n] * scale
    return Factor(codes, np.full(len(X), scale, np.float32), np.ascontiguousarray(values))


def _groups(X: np.ndarray, group: int) -> np.ndarray:
    """The rows of X as (m, ceil(n / group), group), padded with zeros."""
    padded = np.pad(X, ((0, 0), (0, -X.shape[1] % group)))
    return padded.reshape(len(X), -1, group)


def quantize_blocks(
    X: np.ndarray,
    H: np.ndarray,
    factor: tuple[np.ndarray, np.ndarray],
    book: Codebook,
    scale: float,
    sweeps: int = _SWEEPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and values of X, float32 (n, d), by feedback over blocks of eight columns.

    The last block comes first; sweeps of coordinate descent follow. The codes have shape
    (n, ceil(d / group)); ``factor`` is the `block_ldl` of H. This is block LDLQ of QuIP# (Tseng
    et al., 2024), which CALDERA uses. The nearest point ignores the metric within a block, so a
    sweep may raise the loss of a row: such moves are not made.
    """
    n, d = X.shape
    size = d + -d % _GROUP
    L = factor[0].astype(np.float32)
    padded = np.eye(size)
    padded[:d, :d] = H
    H32 = padded.astype(np.float32)
    words = _GROUP // book.group
    codes = np.empty((n, size // book.group), book.dtype)
    Q = np.empty((n, d), np.float32)
    count = counter(n)

    def nearest(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = book.encode(np.ascontiguousarray(y / np.float32(scale)).reshape(len(y), words, -1))
        return c, book.decode(c).reshape(len(y), _GROUP) * np.float32(scale)

    def block(start: int, stop: int) -> None:
        x = np.pad(X[start:stop], ((0, 0), (0, size - d)))
        q, e = np.empty_like(x), np.zeros_like(x)
        for i in range(size - _GROUP, -1, -_GROUP):
            b, w = slice(i, i + _GROUP), slice(i // book.group, (i + _GROUP) // book.group)
            y = x[:, b] + e[:, i + _GROUP :] @ L[i + _GROUP :, b]
            codes[start:stop, w], q[:, b] = nearest(y)
            e[:, b] = x[:, b] - q[:, b]
        for _ in range(sweeps):
            for i in range(size - _GROUP, -1, -_GROUP):
                b, w = slice(i, i + _GROUP), slice(i // book.group, (i + _GROUP) // book.group)
                pull = e @ H32[:, b]
                c, new = nearest(
                    q[:, b] + np.linalg.solve(padded[b, b], pull.T).T.astype(np.float32)
                )
                move = new - q[:, b]
                change = np.einsum("ij,ij->i", move @ H32[b, b] - 2 * pull, move)
                better = change < 0
                codes[start:stop, w][better] = c[better]
                q[:, b] = np.where(better[:, None], new, q[:, b])
                e[:, b] = x[:, b] - q[:, b]
        Q[start:stop] = q[:, :d]
        count(stop - start)

    if scale > 0:
        run_blocks(block, n, _BLOCK)
        return codes[:, : -(-d // book.group)], Q
    codes[:], Q[:] = 0, 0
    return codes[:, : -(-d // book.group)], Q
