"""Where corrections start: at what compressed layers miss of the original, where it counts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lplr.linalg.hessian import regularize
from lplr.linalg.least_squares import rank_constrained
from lplr.models.adaptation.ranks import MOST, felt_ranks
from lplr.models.adaptation.student import Factors, Student, factors_of
from lplr.models.calibration import second_moments
from lplr.models.moments_file import OutputMoments
from lplr.models.network import Network

__all__ = ["balanced", "best_correction", "corrections", "random_start", "stored_factors"]


def corrections(
    model: Network,
    original: Network,
    ids: np.ndarray,
    mask: np.ndarray | None,
    moments: OutputMoments | None,
    ranks: Mapping[str, int],
    bits: int,
) -> dict[str, Factors]:
    """L and R of the best corrections of all layers for some inputs.

    With E the error of the weight, H the second moment of the inputs that the layer has in the
    model and G that of the gradients by its outputs, or the identity,
    ``tr(G (E - L R) H (E - L R)^T)`` is least (CALDERA, Lemma 4.2, for ``G^(1/2) E``). Where G is
    known, components of different layers can be compared, and `felt_ranks` says how many each
    layer gets.

    Parameters
    ----------
    model, original : Network
    ids : ndarray of int of shape (sequences, tokens)
    mask : ndarray of bool of shape (sequences, tokens), optional
        Which tokens are no padding.
    moments : OutputMoments, optional
    ranks : mapping of str to int
        Columns of L of every layer, before any of them are moved between layers.
    bits : int
        Of an entry of L or R in the end.
    """
    found: dict[str, Factors] = {}
    felt: dict[str, np.ndarray] = {}
    shapes: dict[str, tuple[int, int]] = {}
    family = model.family
    blocks = {family.prefix(i): i for i in range(family.n_blocks)}
    for names, H, _ in second_moments(model, ids, mask):
        at = next(prefix for prefix in blocks if names[0].startswith(prefix))
        ours, theirs = (network.block(blocks[at]).linears for network in (model, original))
        for name in names:
            short = name.removeprefix(at)
            E = np.asarray(theirs[short].weight) - ours[short].weight
            G, most = None, ranks[name]
            if moments is not None:
                G, most = moments.output_moment(name), min(MOST * most, *E.shape)
            L, R = best_correction(E, H, G, most)
            if G is not None:
                # L has columns that are orthonormal under G over its mean diagonal, damped.
                felt[name] = np.mean(np.diagonal(G)) * np.einsum("ij,ij->i", R @ H, R)
                shapes[name] = E.shape
            L, R = balanced(L, R)
            found[name] = L.astype(np.float32), R.astype(np.float32)
    if felt:
        ranks = felt_ranks(felt, shapes, ranks, bits)
    return {name: (L[:, : ranks[name]], R[: ranks[name]]) for name, (L, R) in found.items()}


def best_correction(
    E: np.ndarray, H: np.ndarray, G: np.ndarray | None, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """L and R for which ``tr(G (E - L R) H (E - L R)^T)`` is least."""
    if G is None:
        return rank_constrained(E, H, rank)
    from scipy.linalg import cholesky, solve_triangular

    C = cholesky(regularize(G)[0], lower=True, check_finite=False)
    U, V = rank_constrained(C.T @ E, H, rank)
    return solve_triangular(C, U, lower=True, trans=1, check_finite=False), V


def balanced(L: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product of a column of L and a row of R, both of the same length."""
    ratio = np.sqrt(np.linalg.norm(L, axis=0) * np.linalg.norm(R, axis=1))

    def to_length(X: np.ndarray, axis: int) -> np.ndarray:
        norm = np.linalg.norm(X, axis=axis)
        return np.divide(ratio, norm, out=np.zeros_like(norm), where=norm > 0)

    return L * to_length(L, 0), R * to_length(R, 1)[:, None]


def stored_factors(model: Mapping[str, Any], names: Iterable[str]) -> dict[str, Factors]:
    """The balanced low-rank factors of those layers that have any.

    As they are stored, their entries may be 50 times apart: a step that suits the larger factor
    would throw the other one over.
    """
    found = {}
    for name in names:
        factors = factors_of(model[f"{name}.weight"])
        if factors is not None:
            L, R = balanced(*factors)
            found[name] = L.astype(np.float32), R.astype(np.float32)
    return found


def random_start(student: Student, seed: int) -> None:
    """Where L is zero, set R to normal numbers of variance 1/inputs: the correction stays zero.

    So does LoRA (Hu et al., ICLR 2022), section 4.1. A component whose L and R are both zero would
    have no gradient.
    """
    for name, R in student.values.items():
        if not name.endswith(".R"):
            continue
        L = student.values[f"{name.removesuffix('.R')}.L"]
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        drawn = rng.standard_normal(R.shape, np.float32) / np.float32(np.sqrt(R.shape[1]))
        zero = ~(L.any(axis=0) & R.any(axis=1))
        L[:, zero], R[zero] = 0, drawn[zero]
