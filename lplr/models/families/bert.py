"""BERT (Devlin et al., 2019) and the sentence encoders that are built like it: MiniLM, BGE.

Post-norm blocks that see both sides, after embeddings of tokens, positions and the type 0. An
embedding of a text is the mean of its last hidden states or the first of them, of length one if
the configuration says so (Reimers and Gurevych, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.models.block import Block, Context, InputsBack, Stage, State, StateBack
from lplr.models.families.base import Family, activated, added, rows_of
from lplr.models.families.config import MAX_BLOCKS, choice, flag, multiple, number, refuse
from lplr.models.families.norm import Norm
from lplr.models.ops import ACTIVATIONS, attention, merge_heads, split_heads
from lplr.models.ops_backward import attention_back

__all__ = ["Bert"]

_QUERY, _KEY, _VALUE = (f"attention.self.{name}" for name in ("query", "key", "value"))
_OUT = "attention.output.dense"
_UP, _DOWN = "intermediate.dense", "output.dense"
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
_TOKENS, _POSITIONS, _TYPES = (
    f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")
)
_NORM = "embeddings.LayerNorm"


class Bert(Family):
    """A network of the BERT family, without the pooler and the heads of its training.

    Beside the keys of config.json, these say what an embedding of a text is: ``pooling``, "mean"
    or "cls", ``normalize``, and ``max_seq_length``, to which texts are cut;
    `lplr.models.families.sentence` reads them from the files of the sentence-transformers.
    """

    model_types = ("bert",)
    causal = False

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.n_blocks = number(config, "num_hidden_layers", most=MAX_BLOCKS)
        self.width = number(config, "hidden_size")
        self.vocabulary = number(config, "vocab_size")
        self.max_tokens = number(config, "max_position_embeddings")
        self.longest_text = min(self.max_tokens, number(config, "max_seq_length", self.max_tokens))
        self.types = number(config, "type_vocab_size", 2)
        self.hidden = number(config, "intermediate_size")
        self.heads = number(config, "num_attention_heads")
        self.head_width = multiple(self.width, self.heads, "hidden_size", "num_attention_heads")
        self.eps = number(config, "layer_norm_eps", 1e-12, float)
        self.activation = choice(config, "hidden_act", ACTIVATIONS, "gelu")
        choice(config, "position_embedding_type", ["absolute"], "absolute")
        refuse(config, "is_decoder", "add_cross_attention")
        self.pooling = choice(config, "pooling", ["mean", "cls"], "mean")
        self.normalize = flag(config, "normalize", False)

    @classmethod
    def canonical(cls, name: str) -> str:
        name = name.removeprefix("bert.")
        for old, new in (
            ("LayerNorm.gamma", "LayerNorm.weight"),
            ("LayerNorm.beta", "LayerNorm.bias"),
        ):
            name = name.replace(old, new)
        return name

    def tensors(self) -> dict[str, tuple[int, ...]]:
        width = self.width
        shapes: dict[str, tuple[int, ...]] = {
            _TOKENS: (self.vocabulary, width),
            _POSITIONS: (self.max_tokens or 0, width),
            _TYPES: (self.types, width),
            f"{_NORM}.weight": (width,),
            f"{_NORM}.bias": (width,),
        }
        for i in range(self.n_blocks):
            at = self.prefix(i)
            for name, n, d in (
                (_QUERY, width, width),
                (_KEY, width, width),
                (_VALUE, width, width),
                (_OUT, width, width),
                (_UP, self.hidden, width),
                (_DOWN, width, self.hidden),
            ):
                shapes[f"{at}{name}.weight"] = (n, d)
                shapes[f"{at}{name}.bias"] = (n,)
            for norm in _NORMS:
                shapes[f"{at}{norm}.weight"] = shapes[f"{at}{norm}.bias"] = (width,)
        return shapes

    def ignored(self, name: str) -> bool:
        return name.startswith(("pooler.", "cls.")) or name == "embeddings.position_ids"

    def carried(self, name: str) -> bool:
        return name.startswith("pooler.")  # transformers would begin a new one at random

    def prefix(self, i: int) -> str:
        return f"encoder.layer.{i}."

    def block(self, tensors: Mapping[str, Any], i: int) -> Block:
        at = self.prefix(i)
        between, after = (Norm.of(tensors, at, name, self.eps, bias=True) for name in _NORMS)
        options: dict[str, Any] = {"scale": self.head_width**-0.5, "causal": False}

        def heads(outputs: list[np.ndarray]) -> list[np.ndarray]:
            return [split_heads(y, self.head_width) for y in outputs]

        def attend(h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context) -> State:
            q, k, v = heads(outputs)
            return h, attention(q, k, v, mask=context.mask, **options)

        def attend_back(
            h: np.ndarray, x: Any, outputs: list[np.ndarray], context: Context, dh: Any, dx: Any
        ) -> StateBack:
            q, k, v = heads(outputs)
            found = attention_back(q, k, v, dx, mask=context.mask, **options)
            return dh, None, [merge_heads(d) for d in found], {}

        def same(h: np.ndarray, x: Any) -> np.ndarray:
            return h

        def same_back(h: np.ndarray, x: Any, du: np.ndarray) -> InputsBack:
            return du, None, {}

        activate, activate_back = activated(self.activation)
        stages = (
            Stage((_QUERY, _KEY, _VALUE), same, attend, same_back, attend_back),
            added(_OUT, between),
            Stage((_UP,), same, activate, same_back, activate_back),
            added(_DOWN, after),
        )
        return self.of_stages(tensors, i, stages)

    def embed(self, tensors: Mapping[str, Any], ids: np.ndarray, context: Context) -> np.ndarray:
        places = slice(context.start, context.start + ids.shape[1])
        h = rows_of(tensors[_TOKENS], ids)
        h += tensors[_POSITIONS][places] + tensors[_TYPES][0]
        return Norm.of(tensors, "", _NORM, self.eps, bias=True)(h)

    def pool(self, h: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if self.pooling == "cls":
            found = h[:, 0].copy()
        else:
            weights = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
            found = np.einsum("nt,ntd->nd", weights.astype(np.float32), h)
        if self.normalize:
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found
