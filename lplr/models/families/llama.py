"""Llama and what is built like it: Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Qwen2, Qwen3.

Pre-norm blocks of grouped-query attention with rotary positions, and a gated MLP. Qwen2 adds
biases to query, key and value; Qwen3 norms of queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.block import Block, Context, Linear, Stage, State
from lplr.models.families.base import Family, number
from lplr.models.families.rotary import Rotary
from lplr.models.ops import ACTIVATIONS, attention, rms_norm, rotate

__all__ = ["Llama"]

_QUERY, _KEY, _VALUE = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
_OUT = "self_attn.o_proj"
_GATE, _UP, _DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"


class Llama(Family):
    """A network of the Llama family."""

    model_types = ("llama", "mistral", "qwen2", "qwen3")

    def __init__(self, config: Mapping[str, Any]) -> None:
        kind = config.get("model_type")
        self.n_blocks = number(config, "num_hidden_layers")
        self.width = number(config, "hidden_size")
        self.vocabulary = number(config, "vocab_size")
        self.hidden = number(config, "intermediate_size")
        self.heads = number(config, "num_attention_heads")
        self.shared = number(config, "num_key_value_heads", self.heads)
        if self.heads % self.shared:
            raise InputError(
                f"config.json: num_attention_heads {self.heads} must be a multiple of "
                f"num_key_value_heads {self.shared}"
            )
        self.head_width = number(config, "head_dim", self.width // self.heads)
        self.eps = number(config, "rms_norm_eps", 1e-6, float)
        self.tied = bool(config.get("tie_word_embeddings", False))
        qwen2 = kind == "qwen2"
        self.qkv_bias = bool(config.get("attention_bias", qwen2)) or qwen2
        self.out_bias = bool(config.get("attention_bias", False)) and not qwen2
        self.mlp_bias = bool(config.get("mlp_bias", False))
        self.head_norms = kind == "qwen3"
        sliding = config.get("sliding_window") if config.get("use_sliding_window", True) else None
        self.window = sliding if kind == "mistral" else None
        self.activation = ACTIVATIONS[config.get("hidden_act", "silu")]
        self.rotary = Rotary(config, self.head_width)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.width)
        }
        for i in range(self.n_blocks):
            for name, shape in self._of_block().items():
                shapes[self.prefix(i) + name] = shape
        shapes["model.norm.weight"] = (self.width,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocabulary, self.width)
        return shapes

    def _of_block(self) -> dict[str, tuple[int, ...]]:
        q, kv = self.heads * self.head_width, self.shared * self.head_width
        shapes: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (self.width,)}
        for name, n, d, bias in (
            (_QUERY, q, self.width, self.qkv_bias),
            (_KEY, kv, self.width, self.qkv_bias),
            (_VALUE, kv, self.width, self.qkv_bias),
            (_OUT, self.width, q, self.out_bias),
            (_GATE, self.hidden, self.width, self.mlp_bias),
            (_UP, self.hidden, self.width, self.mlp_bias),
            (_DOWN, self.width, self.hidden, self.mlp_bias),
        ):
            shapes[f"{name}.weight"] = (n, d)
            if bias:
                shapes[f"{name}.bias"] = (n,)
        if self.head_norms:
            shapes["self_attn.q_norm.weight"] = (self.head_width,)
            shapes["self_attn.k_norm.weight"] = (self.head_width,)
        shapes["post_attention_layernorm.weight"] = (self.width,)
        return shapes

    def ignored(self, name: str) -> bool:
        return name.endswith("rotary_emb.inv_freq") or (self.tied and name == "lm_head.weight")

    def prefix(self, i: int) -> str:
        return f"model.layers.{i}."

    def block(self, tensors: Mapping[str, Any], i: int) -> Block:
        at = self.prefix(i)
        before = tensors[f"{at}input_layernorm.weight"]
        between = tensors[f"{at}post_attention_layernorm.weight"]
        norms = [
            tensors[f"{at}self_attn.{side}_norm.weight"] if self.head_norms else None
            for side in "qk"
        ]

        def attend(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            return h, self._attend(outputs, norms, context)

        def gated(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            gate, up = outputs
            return h, self.activation(gate) * up

        def add(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            return h + outputs[0], None

        stages = (
            Stage((_QUERY, _KEY, _VALUE), lambda h, x: rms_norm(h, before, self.eps), attend),
            Stage((_OUT,), lambda h, x: x, add, adds=True),
            Stage((_GATE, _UP), lambda h, x: rms_norm(h, between, self.eps), gated),
            Stage((_DOWN,), lambda h, x: x, add, adds=True),
        )
        names = [name for stage in stages for name in stage.linears]
        return Block(stages, {name: self.linear(tensors, at + name) for name in names})

    def _attend(
        self, outputs: list[np.ndarray], norms: list[np.ndarray | None], context: Context
    ) -> np.ndarray:
        q, k, v = (np.swapaxes(y.reshape(*y.shape[:2], -1, self.head_width), 1, 2) for y in outputs)
        if norms[0] is not None and norms[1] is not None:
            q, k = rms_norm(q, norms[0], self.eps), rms_norm(k, norms[1], self.eps)
        cos, sin = self.rotary.tables(context.start, context.start + q.shape[2])
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if context.cache is not None:
            k, v = context.cache.extend(k, v)
        return attention(
            q,
            k,
            v,
            scale=self.head_width**-0.5,
            causal=True,
            mask=context.mask,
            window=self.window,
        )

    def embed(self, tensors: Mapping[str, Any], ids: np.ndarray, context: Context) -> np.ndarray:
        return np.asarray(tensors["model.embed_tokens.weight"][ids], np.float32)

    def head(self, tensors: Mapping[str, Any], h: np.ndarray) -> np.ndarray:
        name = "model.embed_tokens.weight" if self.tied else "lm_head.weight"
        h = rms_norm(h, tensors["model.norm.weight"], self.eps)
        return Linear(tensors[name])(h)
