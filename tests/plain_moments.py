"""Output moments of a tiny network, and the gradients that they are sums of, by plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import TOKENS

from lplr.models.block import Context
from lplr.models.moments import output_moments
from lplr.models.moments_file import OutputMoments
from lplr.models.network import Network
from lplr.models.texts import shortest_first, token_windows

IDS = np.array(TOKENS)
IDS[2, 11:] = IDS[5, 7:] = -1
SEED = 4
LAYERS = [
    f"model.layers.{i}.{name}"
    for i in range(2)
    for name in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )
]  # fmt: skip


def moments_of(source: Path) -> OutputMoments:
    """By both estimators, over sequences of different lengths."""
    out = source.parent / "moments.safetensors"
    return output_moments(source, IDS, out, estimator="both", rng=SEED)


def rows() -> list[np.ndarray]:
    """The sequences in the order of the moments, without padding."""
    return [row[row >= 0] for row in shortest_first(token_windows(IDS))]


def drawn(logits: np.ndarray, uniform: np.ndarray) -> list[int]:
    """A token of each row by the inverse of its distribution function, float64."""
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return [
        int(np.searchsorted(np.cumsum(row) / row.sum(), u, side="right"))
        for row, u in zip(p, uniform, strict=True)
    ]


def gradients(network: Network) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Of each sequence and layer the inputs and the gradients at the outputs, float64."""
    found = []
    for s, row in enumerate(rows()):
        states = [network.embed(row[None])]
        for i in range(2):
            states.append(network.block(i)(states[-1]))
        logits = network.head(states[2])[0].astype(np.float64)
        labels = drawn(logits, np.random.default_rng([SEED, s]).random(len(row)))
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(row)), labels] -= 1
        dlogits = p.astype(np.float32)
        _, dh, _ = network.head_back(states[2][0], lambda z, part, d=dlogits: (0.0, d[part]))
        of: dict[str, Any] = {}
        dh = dh[None]
        for i in (1, 0):

            def see(name: str, u: np.ndarray, dy: np.ndarray, i: int = i, of: Any = of) -> None:
                of[f"model.layers.{i}.{name}"] = u[0].astype(float), dy[0].astype(float)

            dh, _ = network.block(i).backward(states[i], dh, Context(), see)
        found.append(of)
    return found
