"""Tiny networks with random weights, and a tokenizer that needs no file."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.models.families.bert import Bert
from lplr.models.families.llama import Llama
from lplr.models.network import Network

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 150,
    "tie_word_embeddings": True,
}


def llama(seed: int = 0, **changes: Any) -> Network:
    """A network whose predictions are far from uniform."""
    return _random(Llama({**CONFIG, **changes}), seed)


def bert(seed: int = 0, **changes: Any) -> Network:
    """An encoder whose embeddings are means of states, of length one."""
    config = {
        "model_type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "vocab_size": 256,
        "max_position_embeddings": 24,
        "normalize": True,
    }
    return _random(Bert({**config, **changes}), seed)


def _random(family: Any, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    tensors = {
        name: 0.3 * rng.standard_normal(shape, np.float32)
        for name, shape in family.tensors().items()
    }
    return Network(family, tensors)


def nudged(network: Network, by: float, seed: int = 1) -> Network:
    """The same with other weights nearby."""
    rng = np.random.default_rng(seed)
    tensors = {
        name: tensor + np.float32(by) * rng.standard_normal(tensor.shape, np.float32)
        for name, tensor in network.tensors.items()
    }
    return Network(network.family, tensors)


class Bytes:
    """Each byte is a token."""

    vocabulary_size = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())
