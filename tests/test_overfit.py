"""Calibration overfit is that of plain feedback quantization, no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lplr

Fit = Callable[[np.ndarray, np.ndarray, int], Any]
SEEDS = 3  # the ratio of the errors spreads by 0.001 to 0.003


def overfit(W: np.ndarray, X: np.ndarray, fit: Fit) -> tuple[float, float]:
    """Errors under the second moments of two halves of the inputs, W compressed for the first.

    They are means over a few seeds.
    """
    order = np.random.default_rng(0).permutation(len(X))
    halves = [X[np.sort(part)].astype(np.float64) for part in np.array_split(order, 2)]
    H, other = (part.T @ part / len(part) for part in halves)
    found = [fit(W.astype(np.float32), H, seed) for seed in range(SEEDS)]
    first, second = ([f.relative_error(W, M) for f in found] for M in (H, other))
    return float(np.mean(first)), float(np.mean(second))


def ratio(errors: tuple[float, float]) -> float:
    return errors[1] / errors[0]


def tokens(H: np.ndarray, m: int) -> np.ndarray:
    """Heavy-tailed inputs of a given second moment: the inputs of the layers are not at hand."""
    w, V = np.linalg.eigh(H.astype(np.float64))
    z = np.random.default_rng(0).standard_t(5, (m, len(H))) / np.sqrt(5 / 3)
    return z @ (V * np.sqrt(np.maximum(w, 0))).T


def problem(which: str) -> tuple[np.ndarray, np.ndarray]:
    """A layer with many inputs; one with few for its width; real embeddings, few as well."""
    if which == "embeddings":
        return lplr.datasets.layer("minilm_l2_query").W[:128], (
            lplr.datasets.text_embeddings().embeddings
        )
    _, W, H = lplr.datasets.layer("minilm_l3_output" if which == "few" else "minilm_l2_query")
    if which == "few":
        return W[:160, :400], tokens(H[:400, :400], 3200)
    return W[:128], tokens(H, 12000)


@pytest.mark.parametrize("bits", [2.5, 0.6])
@pytest.mark.parametrize("which", ["many", "few", "embeddings"])
def test_no_more_than_plain_feedback(which: str, bits: float) -> None:
    """At most 1 % more than feedback quantization without low rank, at either damping."""
    W, X = problem(which)
    found = overfit(
        W, X, lambda W, H, seed: lplr.compress(W, hessian=H, bits_per_entry=bits, rng=seed)
    )
    for damping in (0.01, 0.03):
        plain = overfit(
            W,
            X,
            lambda W, H, seed, share=damping: lplr.caldera(
                W,
                hessian=H,
                rank=0,
                q_bits=max(bits, 1),
                damping=share,
                quantizer="trellis-10",
                rng=seed,
            ),
        )
        slack = 0.01 if damping == 0.01 else 0.02  # compress is asked for the error at 0.01
        assert ratio(found) <= ratio(plain) + slack
        if bits > 1:
            assert found[1] < plain[1]  # it is this that counts


def test_more_inputs_less_overfit() -> None:
    _, W, H = lplr.datasets.layer("minilm_l2_query")
    W, X = W[:64, :200], tokens(H[:200, :200], 8000)
    ratios = [
        ratio(
            overfit(
                W, X[:m], lambda W, H, seed: lplr.caldera(W, hessian=H, rank=0, q_bits=3, rng=0)
            )
        )
        for m in (800, 8000)
    ]
    assert ratios[0] > ratios[1] > 1
