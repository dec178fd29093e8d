"""GPT-2 (Radford et al., 2019): pre-norm blocks with learned positions.

Its linear layers lie as (inputs, outputs) on disk, and one of them makes query, key and value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.models.block import Block, Context, Stage, State, StateBack
from lplr.models.families.base import Family, activated, added, rows_of
from lplr.models.families.config import MAX_BLOCKS, choice, flag, multiple, number, refuse
from lplr.models.families.norm import Norm
from lplr.models.ops import ACTIVATIONS, attention, merge_heads, split_heads
from lplr.models.ops_backward import attention_back

__all__ = ["GPT2"]

_QKV, _OUT = "attn.c_attn", "attn.c_proj"
_NORMS = ("ln_1", "ln_2")
_UP, _DOWN = "mlp.c_fc", "mlp.c_proj"
_TOKENS, _POSITIONS = "transformer.wte.weight", "transformer.wpe.weight"
_NORM, _HEAD = "transformer.ln_f", "lm_head.weight"


class GPT2(Family):
    """A network of the GPT-2 family."""

    model_types = ("gpt2",)
    transposed = True

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.n_blocks = number(config, "n_layer", most=MAX_BLOCKS)
        self.width = number(config, "n_embd")
        self.vocabulary = number(config, "vocab_size")
        self.max_tokens = number(config, "n_positions")
        self.hidden = number(config, "n_inner", 4 * self.width)
        self.heads = number(config, "n_head")
        self.head_width = multiple(self.width, self.heads, "n_embd", "n_head")
        self.eps = number(config, "layer_norm_epsilon", 1e-5, float)
        self.tied = flag(config, "tie_word_embeddings", True)
        self.tied_tensors = (_HEAD, _TOKENS) if self.tied else None
        self.scaled = flag(config, "scale_attn_weights", True)
        self.scaled_by_depth = flag(config, "scale_attn_by_inverse_layer_idx", False)
        self.activation = choice(config, "activation_function", ACTIVATIONS, "gelu_new")
        refuse(config, "add_cross_attention")

    @classmethod
    def canonical(cls, name: str) -> str:
        return f"transformer.{name}" if name.startswith(("h.", "wte.", "wpe.", "ln_f.")) else name

    def tensors(self) -> dict[str, tuple[int, ...]]:
        width = self.width
        shapes: dict[str, tuple[int, ...]] = {
            _TOKENS: (self.vocabulary, width),
            _POSITIONS: (self.max_tokens or 0, width),
        }
        for i in range(self.n_blocks):
            at = self.prefix(i)
            for name, d, n in (
                (_QKV, width, 3 * width),
                (_OUT, width, width),
                (_UP, width, self.hidden),
                (_DOWN, self.hidden, width),
            ):
                shapes[f"{at}{name}.weight"] = (d, n)
                shapes[f"{at}{name}.bias"] = (n,)
            for norm in _NORMS:
                shapes[f"{at}{norm}.weight"] = shapes[f"{at}{norm}.bias"] = (width,)
        shapes[f"{_NORM}.weight"] = shapes[f"{_NORM}.bias"] = (width,)
        if not self.tied:
            shapes[_HEAD] = (self.vocabulary, width)
        return shapes

    def ignored(self, name: str) -> bool:
        # The first two are constants: which keys a query may see.
        return name.endswith((".attn.bias", ".attn.masked_bias")) or (self.tied and name == _HEAD)

    def prefix(self, i: int) -> str:
        return f"transformer.h.{i}."

    def block(self, tensors: Mapping[str, Any], i: int) -> Block:
        at = self.prefix(i)
        before, between = (Norm.of(tensors, at, name, self.eps, bias=True) for name in _NORMS)
        scale = self.head_width**-0.5 if self.scaled else 1.0
        if self.scaled_by_depth:
            scale /= i + 1

        def heads(outputs: list[np.ndarray]) -> list[np.ndarray]:
            return [split_heads(y, self.head_width) for y in np.split(outputs[0], 3, axis=-1)]

        def attend(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            q, k, v = heads(outputs)
            if context.cache is not None:
                k, v = context.cache.extend(k, v)
            return h, attention(q, k, v, scale=scale, causal=True, mask=context.mask)

        def attend_back(
            h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context, dh: Any, dx: Any
        ) -> StateBack:
            q, k, v = heads(outputs)
            found = attention_back(q, k, v, dx, scale=scale, causal=True, mask=context.mask)
            return dh, None, [np.concatenate([merge_heads(d) for d in found], axis=-1)], {}

        activate, activate_back = activated(self.activation)
        stages = (
            Stage((_QKV,), before.inputs, attend, before.inputs_back, attend_back),
            added(_OUT),
            Stage((_UP,), between.inputs, activate, between.inputs_back, activate_back),
            added(_DOWN),
        )
        return self.of_stages(tensors, i, stages)

    def embed(self, tensors: Mapping[str, Any], ids: np.ndarray, context: Context) -> np.ndarray:
        places = slice(context.start, context.start + ids.shape[1])
        return rows_of(tensors[_TOKENS], ids) + np.asarray(tensors[_POSITIONS][places], np.float32)

    def last(self, tensors: Mapping[str, Any]) -> tuple[Norm, Any]:
        norm = Norm.of(tensors, "", _NORM, self.eps, bias=True)
        return norm, tensors[_TOKENS if self.tied else _HEAD]
