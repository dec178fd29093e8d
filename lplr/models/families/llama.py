"""Llama and what is built like it: Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Qwen2, Qwen3.

Pre-norm blocks of grouped-query attention with rotary positions, and a gated MLP. Qwen2 adds
biases to query, key and value; Qwen3 norms of queries and keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.block import Block, Context, Gains, Stage, State, StateBack
from lplr.models.families.base import Family, added, rows_of
from lplr.models.families.config import MAX_BLOCKS, choice, flag, multiple, number
from lplr.models.families.norm import Norm
from lplr.models.families.rotary import Rotary
from lplr.models.ops import ACTIVATIONS, attention, merge_heads, rms_norm, rotate, split_heads
from lplr.models.ops_backward import attention_back, gated_back, rms_norm_back, rotate_back

__all__ = ["Llama"]

_QUERY, _KEY, _VALUE = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
_OUT = "self_attn.o_proj"
_NORMS = ("input_layernorm", "post_attention_layernorm")
_HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_TOKENS, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm", "lm_head.weight"
_GATE, _UP, _DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"


class Llama(Family):
    """A network of the Llama family."""

    model_types = ("llama", "mistral", "qwen2", "qwen3")

    def __init__(self, config: Mapping[str, Any]) -> None:
        kind = config.get("model_type")
        self.n_blocks = number(config, "num_hidden_layers", most=MAX_BLOCKS)
        self.width = number(config, "hidden_size")
        self.vocabulary = number(config, "vocab_size")
        self.hidden = number(config, "intermediate_size")
        self.heads = number(config, "num_attention_heads")
        self.shared = number(config, "num_key_value_heads", self.heads)
        multiple(self.heads, self.shared, "num_attention_heads", "num_key_value_heads")
        if config.get("head_dim") is None:
            self.head_width = multiple(self.width, self.heads, "hidden_size", "num_attention_heads")
        else:
            self.head_width = number(config, "head_dim")
        if self.head_width % 2:
            raise InputError(f"config.json: head_dim {self.head_width} must be even")
        self.eps = number(config, "rms_norm_eps", 1e-6, float)
        self.tied = flag(config, "tie_word_embeddings", False)
        self.tied_tensors = (_HEAD, _TOKENS) if self.tied else None
        bias = kind in ("llama", "qwen3") and flag(config, "attention_bias", False)
        self.qkv_bias, self.out_bias = bias or kind == "qwen2", bias
        self.mlp_bias = kind == "llama" and flag(config, "mlp_bias", False)
        self.head_norms = kind == "qwen3"
        self.windows = _windows(config, self.n_blocks)
        self.activation = choice(config, "hidden_act", ACTIVATIONS, "silu")
        self.rotary = Rotary(config, self.head_width)

    @classmethod
    def canonical(cls, name: str) -> str:
        return f"model.{name}" if name.startswith(("layers.", "embed_tokens.", "norm.")) else name

    def tensors(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {_TOKENS: (self.vocabulary, self.width)}
        for i in range(self.n_blocks):
            for name, shape in self._of_block().items():
                shapes[self.prefix(i) + name] = shape
        shapes[f"{_NORM}.weight"] = (self.width,)
        if not self.tied:
            shapes[_HEAD] = (self.vocabulary, self.width)
        return shapes

    def _of_block(self) -> dict[str, tuple[int, ...]]:
        q, kv = self.heads * self.head_width, self.shared * self.head_width
        shapes: dict[str, tuple[int, ...]] = {f"{_NORMS[0]}.weight": (self.width,)}
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
            shapes |= dict.fromkeys(_HEAD_NORMS, (self.head_width,))
        shapes[f"{_NORMS[1]}.weight"] = (self.width,)
        return shapes

    def ignored(self, name: str) -> bool:
        return name.endswith("rotary_emb.inv_freq") or (self.tied and name == _HEAD)

    def prefix(self, i: int) -> str:
        return f"model.layers.{i}."

    def block(self, tensors: Mapping[str, Any], i: int) -> Block:
        at = self.prefix(i)
        before, between = (Norm.of(tensors, at, name, self.eps, bias=False) for name in _NORMS)
        norms = [tensors[at + name] if self.head_norms else None for name in _HEAD_NORMS]
        options: dict[str, Any] = {
            "scale": self.head_width**-0.5,
            "causal": True,
            "window": self.windows[i],
        }

        def attend(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            q, k, v = self._heads(outputs, norms, context)
            if context.cache is not None:
                k, v = context.cache.extend(k, v)
            return h, attention(q, k, v, mask=context.mask, **options)

        def attend_back(
            h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context, dh: Any, dx: Any
        ) -> StateBack:
            q, k, v = self._heads(outputs, norms, context)
            found = attention_back(q, k, v, dx, mask=context.mask, **options)
            return dh, None, *self._heads_back(outputs, norms, context, found)

        def gate(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            x = ACTIVATIONS[self.activation](outputs[0])
            x *= outputs[1]
            return h, x

        def gate_back(
            h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context, dh: Any, dx: Any
        ) -> StateBack:
            return dh, None, list(gated_back(self.activation, outputs[0], outputs[1], dx)), {}

        stages = (
            Stage((_QUERY, _KEY, _VALUE), before.inputs, attend, before.inputs_back, attend_back),
            added(_OUT),
            Stage((_GATE, _UP), between.inputs, gate, between.inputs_back, gate_back),
            added(_DOWN),
        )
        return self.of_stages(tensors, i, stages)

    def _heads(
        self, outputs: list[np.ndarray], norms: list[Any], context: Context
    ) -> list[np.ndarray]:
        """Queries, keys and values, (sequences, heads, tokens, width), of the outputs of layers."""
        heads = [split_heads(y, self.head_width) for y in outputs]
        cos, sin = self.rotary.tables(context.start, context.start + heads[0].shape[2])
        for i, gain in enumerate(norms):
            if gain is not None:
                heads[i] = rms_norm(heads[i], gain, self.eps)
            heads[i] = rotate(heads[i], cos, sin)
        return heads

    def _heads_back(
        self,
        outputs: list[np.ndarray],
        norms: list[Any],
        context: Context,
        dheads: Sequence[np.ndarray],
    ) -> tuple[list[np.ndarray], Gains]:
        """Gradients by the outputs, and of the gains, from those by queries, keys and values."""
        dheads, gains = list(dheads), {}
        cos, sin = self.rotary.tables(context.start, context.start + dheads[0].shape[2])
        for i, (name, gain) in enumerate(zip(_HEAD_NORMS, norms, strict=True)):
            dheads[i] = rotate_back(dheads[i], cos, sin)
            if gain is not None:
                x = split_heads(outputs[i], self.head_width)
                dheads[i], gains[name] = rms_norm_back(x, gain, self.eps, dheads[i])
        return [merge_heads(d) for d in dheads], gains

    def embed(self, tensors: Mapping[str, Any], ids: np.ndarray, context: Context) -> np.ndarray:
        return rows_of(tensors[_TOKENS], ids)

    def last(self, tensors: Mapping[str, Any]) -> tuple[Norm, Any]:
        norm = Norm.of(tensors, "", _NORM, self.eps, bias=False)
        return norm, tensors[_TOKENS if self.tied else _HEAD]


def _windows(config: Mapping[str, Any], n_blocks: int) -> list[int | None]:
    """How many tokens back each block sees; None where it sees all."""
    kind = config["model_type"]
    if kind == "mistral" and config.get("sliding_window", 4096) is not None:
        return [number(config, "sliding_window", 4096)] * n_blocks
    if not kind.startswith("qwen") or not flag(config, "use_sliding_window", False):
        return [None] * n_blocks
    window = number(config, "sliding_window", 4096)
    kinds = config.get("layer_types")
    if kinds is None:
        full = config.get("max_window_layers")
        full = full if full == 0 else number(config, "max_window_layers", 28)
        return [None if i < full else window for i in range(n_blocks)]
    known = {"full_attention": None, "sliding_attention": window}
    if (
        not isinstance(kinds, list)
        or len(kinds) != n_blocks
        or any(kind not in list(known) for kind in kinds)
    ):
        raise InputError(
            f"config.json: layer_types must name {n_blocks} of {', '.join(known)}, found "
            f"{kinds!r:.80}"
        )
    return [known[kind] for kind in kinds]
