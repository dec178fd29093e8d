"""What networks refuse: configurations that are none, and inputs outside of theirs."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from test_families import config_of, network

from lplr.exceptions import BadIndexError, CorruptFileError, InputError
from lplr.models.families import family_of
from lplr.models.families.rotary import Rotary
from lplr.models.families.sentence import sentence_settings

LLAMA3 = config_of("llama-llama3")["rope_parameters"]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"model_type": "mamba"}, "model_type 'mamba'.* llama, mistral, .*bert, gpt2"),
        ("llama", {"model_type": None}, "model_type None"),
        ("llama", {"model_type": ["llama"]}, "model_type"),
        ("llama", {"hidden_size": 0}, "hidden_size .* found 0"),
        ("llama", {"hidden_size": 32.0}, "hidden_size .*whole number"),
        ("llama", {"hidden_size": "32"}, "hidden_size"),
        ("llama", {"vocab_size": True}, "vocab_size"),
        ("llama", {"vocab_size": None}, "vocab_size"),
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers .*10,000"),
        ("llama", {"num_key_value_heads": 3}, "num_attention_heads 4 .*num_key_value_heads 3"),
        ("llama", {"head_dim": None, "hidden_size": 34}, "hidden_size 34 .*num_attention_heads 4"),
        ("llama", {"head_dim": 7}, "head_dim 7 must be even"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ("llama", {"hidden_act": "swiglu"}, "hidden_act 'swiglu' is unknown; there are silu"),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ("llama", {"attention_bias": 1}, "attention_bias"),
        ("llama", {"rope_parameters": [1]}, "rope_parameters must be an object"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "'yarn' is unknown; there are default, linear, llama3",
        ),
        (
            "llama",
            {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope_scaling of type 'dynamic'",
        ),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "factor must be .*found None"),
        ("llama", {"rope_parameters": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor"),
        ("llama", {"rope_parameters": {"full_attention": {}}}, "several kinds of layers"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"rope_parameters": {"rope_theta": -1.0}}, "rope_theta"),
        ("mistral", {"sliding_window": 0}, "sliding_window"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types must name 2 of"),
        ("qwen2", {"layer_types": ["full_attention", "linear_attention"]}, "layer_types"),
        ("qwen2", {"layer_types": None, "max_window_layers": -1}, "max_window_layers"),
        ("gpt2", {"n_head": 5}, "n_embd 32 must be a multiple of n_head 5"),
        ("gpt2", {"activation_function": "mish"}, "activation_function 'mish'"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"n_positions": None}, "n_positions"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"num_attention_heads": 5}, "hidden_size 32 .*num_attention_heads 5"),
        ("bert", {"pooling": "max"}, "pooling 'max' is unknown; there are mean, cls"),
    ],
)
def test_a_configuration_that_is_none(name: str, changes: dict[str, Any], message: str) -> None:
    config = {**config_of(name), **changes}
    with pytest.raises(InputError, match=message) as caught:
        family_of(config)
    assert str(caught.value).startswith("config.json: ")
    assert "\n" not in str(caught.value)


def test_a_base_of_rotation_for_a_million_tokens() -> None:
    """It is above 2^31 in checkpoints that were trained on so many."""
    config = config_of("llama") | {"rope_theta": 3580165449.0}
    assert np.isfinite(Rotary(config, 128).frequencies).all()


def test_windows_of_blocks() -> None:
    plain = {**config_of("qwen2"), "layer_types": None, "num_hidden_layers": 3}
    assert family_of({**plain, "max_window_layers": 2}).windows == [None, None, 8]  # type: ignore[attr-defined]
    assert family_of({**plain, "max_window_layers": 0}).windows == [8, 8, 8]  # type: ignore[attr-defined]
    assert family_of({**plain, "use_sliding_window": False}).windows == [None] * 3  # type: ignore[attr-defined]
    mistral = config_of("mistral")
    assert family_of({**mistral, "sliding_window": None}).windows == [None] * 2  # type: ignore[attr-defined]
    del mistral["sliding_window"]
    assert family_of(mistral).windows == [4096] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2], [3, 96]], r"ids: has token 96 at \(1, 1\), and the vocabulary has 96: 0 to 95"),
        ([[1, -1]], r"ids: has token -1 at \(0, 1\)"),
        ([1, 2], r"ids: must be whole numbers of shape \(sequences, tokens\), .*\(2,\)"),
        ([[1.0, 2.0]], "ids: .*float64"),
        ([["a", "b"]], "ids"),
        ([[1], [2, 3]], "ids"),
        (np.zeros((0, 4), int), r"ids: .*\(0, 4\)"),
    ],
)
def test_token_ids_that_are_none(ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        network("llama").logits(ids)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_sequence_longer_than_the_positions(name: str) -> None:
    network(name).hidden(np.zeros((1, 128), int))
    with pytest.raises(InputError, match="reaches position 129, and this network has learned 128"):
        network(name).hidden(np.zeros((1, 129), int))


@pytest.mark.parametrize("mask", [[[1]], [[1, 2, 0]], [["a", "b", "c"]]])
def test_a_mask_that_is_none(mask: Any) -> None:
    with pytest.raises(InputError, match="mask"):
        network("bert").embeddings([[1, 2, 3]], mask)  # type: ignore[arg-type]


def test_what_a_network_is_not_for() -> None:
    with pytest.raises(InputError, match="encoder"):
        network("bert").logits(np.array([[1, 2]]))
    with pytest.raises(InputError, match="encoder"):
        network("llama").embeddings(np.array([[1, 2]]))
    for i in (-1, 2):
        with pytest.raises(BadIndexError, match=f"no block {i}; they are 0 to 1"):
            network("llama").block(i)


# --- the files of the sentence-transformers --------------------------------------------------

MINILM = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Norm", "type": "sentence_transformers.models.Normalize"},
]
MEAN = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}
NEITHER = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}


def files(modules: Any, pooling: Any = None, **more: Any) -> dict[str, bytes]:
    found = {"modules.json": modules, "1_Pooling/config.json": pooling, **more}
    return {name: json.dumps(value).encode() for name, value in found.items() if value is not None}


def test_settings_of_sentences() -> None:
    assert sentence_settings({}) == {}
    mean = {"pooling": "mean", "normalize": True}
    assert sentence_settings(files(MINILM, MEAN)) == mean
    longest = {"sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False}}
    assert sentence_settings(files(MINILM, MEAN, **longest)) == {**mean, "max_seq_length": 256}
    cls = {**NEITHER, "pooling_mode_cls_token": True}
    assert sentence_settings(files(MINILM[:2], cls)) == {"pooling": "cls", "normalize": False}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (files(MINILM, {**NEITHER, "pooling_mode_max_tokens": True}), InputError, "max_tokens"),
        (files(MINILM, NEITHER), InputError, "1_Pooling/config.json"),
        (files(MINILM, {**MEAN, "pooling_mode_cls_token": True}), InputError, "cls_token"),
        (files(MINILM), InputError, "names 1_Pooling/config.json, which is not there"),
        (files([{"type": "models.Dense"}]), InputError, "Dense"),
        (files([3]), InputError, "3"),
        (files({"a": 1}), CorruptFileError, "modules.json"),
        (files(MINILM, [1]), CorruptFileError, "1_Pooling/config.json"),
        ({"modules.json": b"\xff["}, CorruptFileError, "modules.json"),
    ],
)
def test_settings_of_sentences_that_are_none(
    given: dict[str, bytes], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        sentence_settings(given)
