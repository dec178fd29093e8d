"""Small models for tests, as checkpoints and compressed, without the work of compression."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import lplr
from lplr.models.families import family_of
from lplr.models.network import Network
from lplr.models.store import finish, write_layer, write_rest

FIXTURES = Path(__file__).parent / "fixtures" / "models"
IDS = np.arange(24).reshape(2, 12) * 5 % 60


def in_bfloat16(family: str, folder: Path) -> Path:
    """The checkpoint of a family with all tensors in bfloat16."""
    lplr.models.export(FIXTURES / family, folder, dtype="bfloat16")
    return folder


def compressed(
    source: Path, folder: Path, bits: float = 8, embedding_bits: int | None = None
) -> Path:
    """The folder of a model whose layers are rounded one by one."""
    checkpoint = lplr.models.open_checkpoint(source)
    family = family_of(checkpoint.config)
    network = Network(family, checkpoint)
    write_rest(folder, checkpoint, family, embedding_bits)
    number = 0
    for i in range(family.n_blocks):
        for name, linear in network.block(i).linears.items():
            packed = lplr.quantize(linear.weight, bits=bits, granularity="row")
            write_layer(folder, number, family.prefix(i) + name, packed, {"relative_error": 0.25})
            number += 1
    finish(folder, {"method": "quantize"}, {family.prefix(0) + "none": {"seconds": 1.5}})
    return folder


def outputs(network: Network) -> np.ndarray:
    """What a network says of `IDS`: logits, or the last hidden states of an encoder."""
    return network.logits(IDS) if network.family.causal else network.hidden(IDS)
