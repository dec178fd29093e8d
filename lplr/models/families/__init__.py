"""Families of networks: the names of their tensors, their configuration and their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.exceptions import InputError
from lplr.models.families.base import Family
from lplr.models.families.bert import Bert
from lplr.models.families.gpt2 import GPT2
from lplr.models.families.llama import Llama

__all__ = ["Family", "class_of", "family_of"]

_FAMILIES: dict[str, type[Family]] = {
    model_type: family for family in (Llama, Bert, GPT2) for model_type in family.model_types
}


def class_of(config: Mapping[str, Any]) -> type[Family]:
    """The class of the family that a configuration is of, by its ``model_type``.

    Parameters
    ----------
    config : mapping
        As in config.json.

    Returns
    -------
    type

    Raises
    ------
    InputError
        If the model type is missing or unknown; the message lists those that are known.

    Examples
    --------
    >>> from lplr.models.families import class_of
    >>> class_of({"model_type": "bert"}).canonical("bert.pooler.dense.bias")
    'pooler.dense.bias'
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise InputError(
            f"config.json: model_type {kind!r} is unknown; there are {', '.join(_FAMILIES)}"
        )
    return _FAMILIES[kind]


def family_of(config: Mapping[str, Any]) -> Family:
    """The network that a configuration describes: its tensors, sizes and blocks.

    Parameters
    ----------
    config : mapping
        As in config.json.

    Returns
    -------
    Family

    Raises
    ------
    InputError
        If the model type is unknown, or a value is missing, of the wrong kind, or contradicts
        another; the message names its key.

    Examples
    --------
    >>> from lplr.models.families import family_of
    >>> family = family_of({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
    ...                     "n_positions": 16, "vocab_size": 50})
    >>> for name, shape in family.linears(0).items():
    ...     print(name, shape)
    transformer.h.0.attn.c_attn (24, 8)
    transformer.h.0.attn.c_proj (8, 8)
    transformer.h.0.mlp.c_fc (32, 8)
    transformer.h.0.mlp.c_proj (8, 32)
    """
    return class_of(config)(config)
