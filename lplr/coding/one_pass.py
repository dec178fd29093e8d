"""CALDERA's problem in one pass: low-rank factors first, then the backbone, then a refit.

The alternation of the paper fits L R to what Q leaves and Q to what L R leave. Here Q comes once,
after the factors, and is rounded under a Hessian in which errors that L can still correct are
nearly free; then L and R are refitted to what Q left, and Q polished, a few times.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lplr.coding.alternation import factor_pair
from lplr.coding.caldera import CalderaProblem, Candidate, Trace
from lplr.coding.factor import (
    Factor,
    damped,
    normal_equations,
    quantize_factor,
    quantize_right,
    weighted_gram,
)
from lplr.coding.feedback import descent_matrix, matched_scale, polish, quantize_feedback
from lplr.coding.row_feedback import RowFeedback
from lplr.linalg.copies import copied
from lplr.linalg.ldl import min_pivot_ldl
from lplr.linalg.svd import short_svd
from lplr.linalg.triangular import lower_inverse
from lplr.parallel import matmul
from lplr.progress import parts, until
from lplr.quantizers.base import Codebook
from lplr.quantizers.scalar import ScalarCodebook

__all__ = ["one_pass"]

# Share of the weight that is left on errors in the row space of R while Q is quantized: a refit
# of L removes them, but makes L larger, and a code that is coarse beside that of Q then loses
# more. With Q at two bits and L at four the result is flat from 0.03 to 0.1; with L at two bits,
# or Q at four, 1, plain feedback, is best; between them it depends on the layer: both are tried.
_SHARES = (0.05, 1.0)
# If the mean squared error of the code of L is below this times that of Q, the first of `_SHARES`
# is taken untried. So it is for errors in the column space of L under G, which a refit of R removes
# where the code of R is as fine; where it is not they keep their weight, since they lost 3 to 5 %.
_FINE = 0.2
# Added to the diagonal of the downdated H, about 1: what a difference of float64 products needs
# to stay positive definite, and far below the usual damping.
_FLOOR = 1e-6
_START = 2  # passes of the alternation that quantizes the first factors
_SWEEPS = 2  # of coordinate descent after the feedback pass of Q
_SWEEPS_ALONE = 10  # where no refit follows
# Candidate scales of Q over the matched one, which is good unless H is nearly singular: then large
# errors are fed back to entries that hardly count, and steps down to smaller scales are better.
_FACTORS = (0.85, 0.95, 1.0, 1.05, 1.1)
_STEP = 0.7
_SAMPLE = 32  # groups of eight rows of W on which they are compared


def one_pass(problem: CalderaProblem, trace: Trace, n_iter: int, rng: np.random.Generator) -> None:
    """Solve by one pass and ``n_iter`` rounds of refitting; the trace keeps the best candidate.

    The rounds end early when the error no longer falls. When Q comes last the loss is about
    ``n s^2 c sum(D)``: s^2 the mean square of what Q rounds, c the error of its code on a normal
    distribution, D the pivots of H. H enters L R only through s^2, so the first factors come from
    the unweighted SVD of W. Under G as well, the sum of its pivots takes the place of n, which
    leaves them as they are: the factors under both weights are those without a Q to come. Of the
    errors of Q refits of L and R leave the part outside the row space of R, under H, and outside
    the column space of L, under G; its weight is that of the downdated H and G.
    """
    W, H = problem.W, problem.H
    if not problem.rank:
        trace.add("Q", 0, _backbone(problem, None, None, _SWEEPS_ALONE))
        return
    with until(0.02, "singular vectors"):
        svd = short_svd(W, problem.rank, rng=rng)
    with until(0.06, "factors"):
        left, right = factor_pair(W, svd, problem.books, rng, _START)
    if not n_iter:
        trace.add("Q", 0, _backbone(problem, left, right, _SWEEPS_ALONE))
        return
    with until(0.36, "backbone"):
        candidate, corrected = _first_backbone(problem, left, right)
    error = trace.add("Q", 0, candidate)
    for iteration in parts(range(1, n_iter + 1), what=lambda i: f"round {i}"):
        E = problem.error(candidate)
        with until(0.3):
            new = _refit_left(problem, candidate)
            assert candidate.left is not None
            assert candidate.right is not None
            U, V = new.values - candidate.left.values, candidate.right.values
        candidate = replace(candidate, left=new)
        after_left = trace.add("L", iteration, candidate, problem.loss_after(trace.loss, E, U, V))
        E -= matmul(U.T, V)
        # R is kept even where it is worse, as a short R may be: the next L gains from it.
        with until(0.7):
            refitted = _refit_right(problem, candidate)
            U, V = new.values, refitted.values - V
        candidate = replace(candidate, right=refitted)
        after_right = trace.add("R", iteration, candidate, problem.loss_after(trace.loss, E, U, V))
        del E
        if min(after_left, after_right) >= error:
            # Near full rank, factors that are quantized again may lose more than they correct:
            # then the best Q is that of the first factors, under H and G themselves.
            if corrected != (1.0, 1.0):
                trace.add("Q", iteration, _backbone(problem, left, right, _SWEEPS))
            break
        error = min(after_left, after_right)
        if iteration < n_iter and problem.rows is None:
            weights = descent_matrix(_downdated(H, refitted, corrected[0]))
            candidate = _polished(problem, candidate, weights)
            del weights
            trace.add("Q", iteration, candidate)
    if problem.rows is not None:  # polishing one block of rows at a time gains nothing
        return
    assert trace.best is not None
    # Nothing corrects the errors of Q after this, so it is polished under H itself.
    trace.add("Q", iteration, _polished(problem, trace.best, descent_matrix(H)))


def _first_backbone(
    problem: CalderaProblem, left: Factor, right: Factor
) -> tuple[Candidate, tuple[float, float]]:
    """Q under the downdated H, and G where R is fine, and the shares of weight of H and of G."""
    fine = [book.gaussian_mse < _FINE * problem.q_book.gaussian_mse for book in problem.books]
    first, of_rows = problem, 1.0
    if problem.rows is not None and fine[1]:
        of_rows = _SHARES[0]
        rows = RowFeedback(_downdated(problem.rows.G, left, of_rows))
        first = replace(problem, rows=rows)
    best: tuple[float, Candidate, float] | None = None
    for share in parts(_SHARES[:1] if fine[0] else _SHARES):
        weights = _downdated(problem.H, right, share)
        candidate = _backbone(first, left, right, _SWEEPS, weights)
        if fine[0]:
            return candidate, (share, of_rows)
        refitted = _refit_left(problem, candidate)
        loss = problem.loss(problem.error(replace(candidate, left=refitted)))
        if best is None or loss < best[0]:
            best = loss, candidate, share
    assert best is not None
    return best[1], (best[2], of_rows)


def _downdated(H: np.ndarray, factor: Factor, share: float) -> np.ndarray:
    """``H - (1 - share) T (R H R^T)^-1 T^T``, T = H R^T: errors that L can correct weigh little.

    So do those that R can correct, with G in place of H and L^T in place of R.
    """
    from scipy.linalg import cholesky, solve_triangular

    T, A = weighted_gram(factor.values, H)
    C = cholesky(damped(A), lower=True, check_finite=False)
    M = solve_triangular(C, T.T, lower=True, check_finite=False)
    weights = matmul(M.T, M)
    weights *= share - 1.0
    weights += H
    weights[np.diag_indices_from(weights)] += _FLOOR
    return weights


def _transposed(X: np.ndarray, group: int) -> np.ndarray:
    """X^T, float32, its rows padded with zeros to whole groups."""
    T, rest = copied(X.T), -X.shape[0] % group
    return np.pad(T, ((0, 0), (0, rest))) if rest else T


def _backbone(
    problem: CalderaProblem,
    left: Factor | None,
    right: Factor | None,
    sweeps: int,
    weights: np.ndarray | None = None,
) -> Candidate:
    """Q for what the factors leave of W, under H or other weights, at the best of a few scales."""
    book = problem.q_book
    columns = _transposed(problem.without(left, right), book.group)
    if weights is None:
        weights = problem.H
        order, L, D = problem.factorization
    else:
        order, L, D = min_pivot_ldl(weights, np.float32)
    factor = order, L, D
    inverse = lower_inverse(L)
    scale = _mean_scale(columns[order], inverse, book)
    grown = 1.0
    if problem.rows is not None and scale:
        grown = _mean_scale(columns[order], inverse, book, problem.rows) / scale
    del inverse
    groups = columns.reshape(len(columns), -1, 8 if columns.shape[1] % 8 == 0 else 1)
    at = np.unique(np.linspace(0, groups.shape[1] - 1, _SAMPLE).astype(int))
    sample = np.ascontiguousarray(groups[:, at].reshape(len(columns), -1))

    def loss(scale: float) -> float:
        scales = np.full(len(columns), scale, np.float32)
        _, _, e = quantize_feedback(sample, weights, book, scales, factor=factor)
        return float(np.vdot(e, matmul(weights.astype(np.float32), e)))

    least = loss(scale)
    while (lower := loss(_STEP * scale)) < least:
        scale, least = _STEP * scale, lower
    scale = min((f * scale for f in _FACTORS), key=loss) * grown
    codes, _, error = quantize_feedback(
        columns,
        weights,
        book,
        np.full(len(columns), scale, np.float32),
        sweeps=sweeps,
        factor=factor,
        rows=problem.rows,
    )
    columns -= error
    return _candidate(problem, codes, columns, scale, left, right)


def _mean_scale(
    columns: np.ndarray, inverse: np.ndarray, book: Codebook, rows: RowFeedback | None = None
) -> float:
    """The root mean square of the matched scales."""
    return float(np.sqrt(np.mean(matched_scale(columns, inverse, book, rows) ** 2)))


def _candidate(
    problem: CalderaProblem,
    codes: np.ndarray,
    columns: np.ndarray,
    scale: float,
    left: Factor | None,
    right: Factor | None,
) -> Candidate:
    """A candidate from Q^T, padding included."""
    Q = copied(columns.T[: len(problem.W)])
    return Candidate(Q, copied(codes.T), scale, 0, left, right)


def _polished(problem: CalderaProblem, candidate: Candidate, descent: np.ndarray) -> Candidate:
    """A coordinate-descent sweep of Q for the current factors, with a `descent_matrix`."""
    book = problem.q_book
    left, right = candidate.left, candidate.right
    columns = _transposed(problem.without(left, right), book.group)
    codes = copied(candidate.q_codes.T)
    values = book.decode(codes).reshape(columns.shape) * np.float32(candidate.q_scale)
    scale = np.full(len(columns), candidate.q_scale, np.float32)
    np.subtract(columns, values, out=values)
    codes, error = polish(columns, descent, book, scale, codes, values)
    columns -= error
    return _candidate(problem, codes, columns, candidate.q_scale, left, right)


def _refit_left(problem: CalderaProblem, candidate: Candidate) -> Factor:
    """L for W - Q and the given R, quantized by feedback under G x R H R^T.

    The best real L does not depend on G.
    """
    assert candidate.right is not None
    T, A = weighted_gram(candidate.right.values, problem.H)
    rest = problem.W - candidate.Q
    B = matmul(T.T.astype(np.float32), rest.T)
    return quantize_factor(B, damped(A), problem.books[0], rows=problem.rows)


def _refit_right(problem: CalderaProblem, candidate: Candidate) -> Factor:
    """R for W - Q and the given L, quantized by feedback under (L^T G L) x H."""
    assert candidate.left is not None
    book = problem.books[1]
    M, B = normal_equations(candidate.left.values, problem.W - candidate.Q, problem.rows)
    if isinstance(book, ScalarCodebook):
        return quantize_right(B, M, problem.factorization, book)
    return quantize_factor(B, M, book)
