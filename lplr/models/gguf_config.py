"""The config.json of a model and the metadata of its GGUF file, both ways from one table.

Llama 3 divides the frequencies of its rotation by factors. Its config has the formula's four
numbers; GGUF has the factors themselves, as a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.models.families.llama import Llama
from lplr.models.families.rotary import Rotary
from lplr.models.gguf_file import GGUFFile
from lplr.models.gguf_names import ROPE_FACTORS

__all__ = ["architecture_of", "config_from_gguf", "config_to_gguf", "rope_factors"]

# Keys of a config, and of the metadata below the name of the architecture.
_KEYS = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
_DECODER = _KEYS | {"rms_norm_eps": "attention.layer_norm_rms_epsilon"}
_ARCHITECTURES = {
    "llama": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "bert": _KEYS | {"layer_norm_eps": "attention.layer_norm_epsilon"},
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
_POOLINGS = ("none", "mean", "cls")  # by their number in the metadata
# In every published model with this scaling (Llama 3.1, 3.2 and 3.3).
_LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def config_from_gguf(file: GGUFFile) -> dict[str, Any]:
    """The config of a model.

    InputError says that its architecture or its rotation is not known, CorruptFileError that an
    entry is missing or of a wrong type.
    """
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in _ARCHITECTURES:
        raise InputError(
            f"{file.path}: the architecture {architecture!r:.80} is not known; those of GGUF files "
            f"that are: {', '.join(_ARCHITECTURES)}"
        )
    if _get(file, "split.count", int, 1, prefix=False) > 1:
        raise InputError(f"{file.path}: is one of several files; merge them with llama-gguf-split")
    embedding, types = (file.tensors.get(f"{t}.weight") for t in ("token_embd", "token_types"))
    if embedding is None or not embedding.shape:
        raise CorruptFileError(f"{file.path}: has no matrix 'token_embd.weight'")
    config: dict[str, Any] = {"model_type": architecture}
    for key, theirs in _ARCHITECTURES[architecture].items():
        config[key] = _get(file, theirs, float if "eps" in key else int)
    config["vocab_size"] = embedding.shape[0]
    tied = "output.weight" not in file.tensors
    if architecture == "bert":
        config["type_vocab_size"] = types.shape[0] if types and types.shape else 0
        config |= {"hidden_act": "gelu", "position_embedding_type": "absolute"}
    elif architecture == "gpt2":
        config |= {"activation_function": "gelu_new", "tie_word_embeddings": tied}
    else:
        config |= {"hidden_act": "silu", "tie_word_embeddings": tied}
        _add_attention(file, config)
    config["architectures"] = [_CLASSES[config["model_type"]]]
    for name in ("bos", "eos", "padding"):
        key = f"tokenizer.ggml.{name}_token_id"
        if key in file.metadata:
            config[f"{name[:3]}_token_id"] = _get(file, key, int, prefix=False)
    return config


def _get(file: GGUFFile, key: str, kind: type, default: Any = None, prefix: bool = True) -> Any:
    key = f"{file.metadata['general.architecture']}.{key}" if prefix else key
    found = file.metadata.get(key, default)
    if type(found) is not kind:
        raise CorruptFileError(
            f"{file.path}: its metadata has {key} = {found!r:.80}, where one {kind.__name__} "
            "belongs"
        )
    # The shortest decimal of the float32, which is what was meant: 1e-05, not 9.999999747e-06.
    with np.errstate(over="ignore"):  # an infinity is refused where it is used
        return float(str(np.float32(found))) if isinstance(found, float) else found


def _add_attention(file: GGUFFile, config: dict[str, Any]) -> None:
    """Heads, their width, biases, and the rotation of positions."""
    n_heads = config["num_attention_heads"]
    if n_heads < 1:
        raise CorruptFileError(f"{file.path}: its metadata has {n_heads} attention heads")
    width = _get(file, "rope.dimension_count", int, config["hidden_size"] // n_heads)
    config["head_dim"] = _get(file, "attention.key_length", int, width)
    config["num_key_value_heads"] = _get(file, "attention.head_count_kv", int, n_heads)
    config["rope_theta"] = _get(file, "rope.freq_base", float, 10000.0)
    if config["model_type"] == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
        config["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
        if "llama.attention.sliding_window" in file.metadata:
            config["model_type"] = "mistral"
            config["sliding_window"] = _get(file, "attention.sliding_window", int)
    kind = _get(file, "rope.scaling.type", str, "none")
    if ROPE_FACTORS in file.tensors:
        config["rope_scaling"] = _llama3(file, config)
    elif kind != "none":
        factor = _get(file, "rope.scaling.factor", float)
        config["rope_scaling"] = {"rope_type": kind, "factor": factor}


def _llama3(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """The scaling whose factors are those of the file.

    The largest factor is that of all slow frequencies. One between it and 1, of a frequency w,
    says how many turns fit in the context c of the first training: w c / 2 pi.
    """
    factors = file.read(ROPE_FACTORS).astype(np.float64)
    width = config["head_dim"]
    plain = Rotary({"rope_theta": config["rope_theta"]}, width).frequencies
    if factors.shape == plain.shape and np.isfinite(factors).all() and factors.min() >= 1:
        scaling = _LLAMA3 | {"factor": float(factors.max())}
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        between = (factors > 1) & (factors < factors.max())
        if between.any():
            i = int(between.argmax())
            share = (1 / factors[i] - 1 / factors.max()) / (1 - 1 / factors.max())
            context = 2 * np.pi / plain[i] * (low + share * (high - low))
            scaling["original_max_position_embeddings"] = max(1, round(float(context)))
        scaled = Rotary(config | {"rope_scaling": scaling}, width).frequencies
        if np.allclose(plain / scaled, factors, rtol=1e-5, atol=0):  # made in float32
            return scaling
    raise InputError(
        f"{file.path}: the factors {ROPE_FACTORS!r} are not those of Llama 3, and no others are "
        "read"
    )


def rope_factors(config: Mapping[str, Any]) -> np.ndarray | None:
    """What the scaling "llama3" divides the frequencies by, float32; None of other scalings."""
    theta, scaling = _rotation(config)
    if scaling["rope_type"] != "llama3":
        return None
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    plain, scaled = Rotary({"rope_theta": theta}, width), Rotary(config, width)
    return (plain.frequencies / scaled.frequencies).astype(np.float32)


def _rotation(config: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Base of the frequencies, and their scaling, in either of the forms that a config has."""
    scaling = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = float(scaling.pop("rope_theta", config.get("rope_theta", 10000.0)))
    return theta, {"rope_type": scaling.pop("type", "default")} | scaling


def architecture_of(config: Mapping[str, Any]) -> str:
    """What GGUF calls a model of this config; InputError lists those that can be written."""
    kind = config.get("model_type")
    if kind not in _CLASSES:
        raise InputError(
            f"config.json: model_type {kind!r} cannot be written as GGUF; these can: "
            f"{', '.join(_CLASSES)}"
        )
    return "llama" if kind == "mistral" else str(kind)


def config_to_gguf(config: Mapping[str, Any]) -> dict[str, int | float | str | bool]:
    """Metadata that `config_from_gguf` turns into the same config."""
    architecture = architecture_of(config)
    found: dict[str, int | float | str | bool] = {}
    for key, theirs in _ARCHITECTURES[architecture].items():
        value = config.get(key)
        if key == "n_inner" and value is None:
            value = 4 * config["n_embd"]
        if value is None:
            raise InputError(f"config.json: has no {key}, which a GGUF file needs")
        found[theirs] = float(value) if "eps" in key else value
    if architecture == "bert":
        found["attention.causal"] = False
        if "pooling" in config:
            found["pooling_type"] = _POOLINGS.index(config["pooling"])
    elif architecture != "gpt2":
        n_heads = config["num_attention_heads"]
        width = config.get("head_dim") or config["hidden_size"] // n_heads
        found["attention.head_count_kv"] = config.get("num_key_value_heads") or n_heads
        found |= {"attention.key_length": width, "attention.value_length": width}
        found |= {"rope.dimension_count": width, "vocab_size": config["vocab_size"]}
        if config.get("hidden_act", "silu") != "silu":
            raise InputError(
                f"config.json: hidden_act {config['hidden_act']!r} cannot be written as GGUF, "
                "which has silu"
            )
        found["rope.freq_base"], scaling = _rotation(config)
        if scaling["rope_type"] == "linear":
            found["rope.scaling.type"] = "linear"
            found["rope.scaling.factor"] = float(scaling["factor"])
        elif scaling["rope_type"] not in ("default", "llama3"):
            raise InputError(
                f"config.json: rope_scaling of type {scaling['rope_type']!r} cannot be written "
                "as GGUF; these can: default, linear, llama3"
            )
        windows = {window for window in Llama(config).windows if window is not None}
        if windows and config["model_type"] != "mistral":
            raise InputError(
                f"config.json: the attention windows {sorted(windows)} cannot be written as GGUF"
            )
        if windows:
            found["attention.sliding_window"] = windows.pop()
    return {f"{architecture}.{key}": value for key, value in found.items()}
