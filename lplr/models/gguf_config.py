"""The metadata of a GGUF file as the config.json of the same model."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.models.gguf_file import GGUFFile
from lplr.models.gguf_names import ROPE_FACTORS

__all__ = ["config_from_gguf"]

# Keys of a config, and of the metadata below the name of the architecture.
_DECODER = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_KEYS = {
    "llama": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "bert": {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "layer_norm_eps": "attention.layer_norm_epsilon",
    },
    "gpt2": {
        "n_embd": "embedding_length",
        "n_inner": "feed_forward_length",
        "n_layer": "block_count",
        "n_head": "attention.head_count",
        "n_positions": "context_length",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
}
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "bert": "BertModel",
    "gpt2": "GPT2LMHeadModel",
}


def config_from_gguf(file: GGUFFile) -> dict[str, Any]:
    """The config of a model, `InputError` if its architecture is not known."""
    architecture = file.metadata.get("general.architecture")
    if architecture not in _KEYS:
        raise InputError(
            f"{file.path}: the architecture {architecture!r} is not known; those of GGUF files "
            f"that are: {', '.join(_KEYS)}"
        )
    config: dict[str, Any] = {"model_type": architecture}
    for key, theirs in _KEYS[architecture].items():
        config[key] = _get(file, theirs, float if "eps" in key else int)
    if ROPE_FACTORS in file.tensors or f"{architecture}.rope.scaling.type" in file.metadata:
        raise InputError(f"{file.path}: scaled rotations of a GGUF file are not read yet")
    if "token_embd.weight" not in file.tensors:
        raise CorruptFileError(f"{file.path}: has no tensor 'token_embd.weight'")
    config["vocab_size"] = file.tensors["token_embd.weight"].shape[0]
    tied = "output.weight" not in file.tensors
    if architecture == "bert":
        types = file.tensors.get("token_types.weight")
        config["type_vocab_size"] = types.shape[0] if types else 0
        config |= {"hidden_act": "gelu", "position_embedding_type": "absolute"}
    elif architecture == "gpt2":
        config |= {"activation_function": "gelu_new", "tie_word_embeddings": tied}
    else:
        config |= {"hidden_act": "silu", "tie_word_embeddings": tied, **_attention(file, config)}
    config["architectures"] = [_CLASSES[config["model_type"]]]
    for name in ("bos", "eos", "padding"):
        key = f"tokenizer.ggml.{name}_token_id"
        if key in file.metadata:
            config[f"{name[:3]}_token_id"] = file.metadata[key]
    return config


def _get(file: GGUFFile, key: str, kind: type, default: Any = None) -> Any:
    key = f"{file.metadata['general.architecture']}.{key}"
    found = file.metadata.get(key, default)
    if type(found) is not kind:
        raise CorruptFileError(
            f"{file.path}: its metadata has {key} = {found!r}, where one {kind.__name__} belongs"
        )
    # The shortest decimal of the float32, which is what was meant: 1e-05, not 9.999999747e-06.
    return float(str(np.float32(found))) if isinstance(found, float) else found


def _attention(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """Heads, their width, and the rotation of their positions."""
    n_heads = config["num_attention_heads"]
    if n_heads < 1:
        raise CorruptFileError(f"{file.path}: its metadata has {n_heads} attention heads")
    width = _get(file, "attention.key_length", int, config["hidden_size"] // n_heads)
    found = {
        "num_key_value_heads": _get(file, "attention.head_count_kv", int, n_heads),
        "head_dim": width,
        "rope_theta": _get(file, "rope.freq_base", float, 10000.0),
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
    }
    return found
