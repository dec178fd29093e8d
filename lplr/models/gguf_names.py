"""Names and rows of tensors: those of GGUF and those of Hugging Face, both ways from one table.

The rows of query and key of the architecture "llama" are stored in the order that rotates
neighbours, (pair, half of the head); Hugging Face rotates halves, (half, pair). Qwen's are not
permuted. GPT-2's matrices are stored as (outputs, inputs), and Hugging Face has (inputs, outputs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError

__all__ = [
    "ROPE_FACTORS",
    "from_gguf",
    "is_transposed",
    "rows_from_gguf",
    "rows_to_gguf",
    "to_gguf",
]

ROPE_FACTORS = "rope_freqs.weight"  # a tensor of the file, an entry of the config
_DECODER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.N.attn_norm": "model.layers.N.input_layernorm",
    "blk.N.attn_q": "model.layers.N.self_attn.q_proj",
    "blk.N.attn_k": "model.layers.N.self_attn.k_proj",
    "blk.N.attn_v": "model.layers.N.self_attn.v_proj",
    "blk.N.attn_q_norm": "model.layers.N.self_attn.q_norm",
    "blk.N.attn_k_norm": "model.layers.N.self_attn.k_norm",
    "blk.N.attn_output": "model.layers.N.self_attn.o_proj",
    "blk.N.ffn_norm": "model.layers.N.post_attention_layernorm",
    "blk.N.ffn_gate": "model.layers.N.mlp.gate_proj",
    "blk.N.ffn_up": "model.layers.N.mlp.up_proj",
    "blk.N.ffn_down": "model.layers.N.mlp.down_proj",
}
_NAMES = {
    "llama": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "gpt2": {
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "blk.N.attn_norm": "transformer.h.N.ln_1",
        "blk.N.attn_qkv": "transformer.h.N.attn.c_attn",
        "blk.N.attn_output": "transformer.h.N.attn.c_proj",
        "blk.N.ffn_norm": "transformer.h.N.ln_2",
        "blk.N.ffn_up": "transformer.h.N.mlp.c_fc",
        "blk.N.ffn_down": "transformer.h.N.mlp.c_proj",
    },
    "bert": {
        "token_embd": "embeddings.word_embeddings",
        "position_embd": "embeddings.position_embeddings",
        "token_types": "embeddings.token_type_embeddings",
        "token_embd_norm": "embeddings.LayerNorm",
        "blk.N.attn_q": "encoder.layer.N.attention.self.query",
        "blk.N.attn_k": "encoder.layer.N.attention.self.key",
        "blk.N.attn_v": "encoder.layer.N.attention.self.value",
        "blk.N.attn_output": "encoder.layer.N.attention.output.dense",
        "blk.N.attn_output_norm": "encoder.layer.N.attention.output.LayerNorm",
        "blk.N.ffn_up": "encoder.layer.N.intermediate.dense",
        "blk.N.ffn_down": "encoder.layer.N.output.dense",
        "blk.N.layer_output_norm": "encoder.layer.N.output.LayerNorm",
    },
}
_BACK = {
    architecture: {theirs: ours for ours, theirs in names.items()}
    for architecture, names in _NAMES.items()
}
# Made from the config, or of a task that GGUF's encoders do not have.
_LEFT_OUT = (
    r"(\.position_ids|\.rotary_emb\.inv_freq|\.attn\.bias|\.attn\.masked_bias)$|(^|\.)pooler\."
)
_TRANSPOSED = r"blk\.\d+\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight"


def from_gguf(architecture: str, name: str) -> str:
    """The name in Hugging Face's form; an unknown one stays as it is."""
    return _translated(_NAMES[architecture], name)


def to_gguf(architecture: str, name: str) -> str:
    """The name in GGUF's form: empty for what GGUF leaves out; InputError of an unknown one."""
    if re.search(_LEFT_OUT, name):
        return ""
    whole = name.removeprefix("bert.")
    if architecture == "gpt2" and not name.startswith(("transformer.", "lm_head.")):
        whole = "transformer." + name
    found = _translated(_BACK[architecture], whole)
    if found == whole:
        raise InputError(
            f"the tensor {name!r} has no place in a GGUF file of the architecture {architecture!r}"
        )
    return found


def _translated(names: dict[str, str], name: str) -> str:
    stem, dot, kind = name.rpartition(".")
    number = re.search(r"\.(\d+)\.", stem)
    if number is not None:
        stem = f"{stem[: number.start()]}.N.{stem[number.end() :]}"
    if stem not in names:
        return name
    return names[stem].replace(".N.", f".{number[1]}." if number else "") + dot + kind


def is_transposed(architecture: str, name: str) -> bool:
    """Whether the tensor of this name in GGUF's form is (outputs, inputs) there and not here."""
    return architecture == "gpt2" and re.fullmatch(_TRANSPOSED, name) is not None


def rows_from_gguf(
    architecture: str, config: Mapping[str, Any], name: str, tensor: np.ndarray
) -> np.ndarray:
    """The tensor as Hugging Face has it; ``name`` is that of GGUF."""
    return _rows(architecture, config, name, tensor, (-1, 2))


def rows_to_gguf(
    architecture: str, config: Mapping[str, Any], name: str, tensor: np.ndarray
) -> np.ndarray:
    """The inverse of `rows_from_gguf`; ``name`` is that of GGUF."""
    return _rows(architecture, config, name, tensor, (2, -1))


def _rows(
    architecture: str,
    config: Mapping[str, Any],
    name: str,
    tensor: np.ndarray,
    lie: tuple[int, int],
) -> np.ndarray:
    """The rows of a head, which ``lie`` as pairs or as halves, the other way; or the transpose."""
    if is_transposed(architecture, name):
        return np.ascontiguousarray(tensor.T)
    n_heads = permuted_heads(architecture, config, name)
    if not n_heads:
        return tensor
    heads = tensor.reshape(n_heads, *lie, *tensor.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(tensor.shape)


def permuted_heads(architecture: str, config: Mapping[str, Any], name: str) -> int:
    """In how many heads the rows of this tensor, by its name in GGUF, are permuted; 0 if not."""
    if architecture == "llama" and ".attn_q." in name:
        return config["num_attention_heads"]
    if architecture == "llama" and ".attn_k." in name:
        return config.get("num_key_value_heads") or config["num_attention_heads"]
    return 0
