"""Files of networks that lie: GGUF, configs, tokenizers, moments, questions and answers."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

from lplr.exceptions import CorruptFileError, InputError
from lplr.selftest.hostile_file import Hostile, Maker

__all__ = ["NETWORKS"]


def _file(name: str, content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


# --- GGUF ------------------------------------------------------------------------------------
# --- GGUF ------------------------------------------------------------------------------------


def _gguf(n_tensors: int, n_metadata: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_metadata) + rest


def _text(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


_GGUF = {
    "tensors beyond number": _gguf(2**63, 0, b""),
    "metadata beyond number": _gguf(0, 2**63, _text(b"a") + struct.pack("<IB", 0, 1)),
    "a text longer than the file": _gguf(0, 1, _text(b"a", 2**63)),
    "a list longer than the file": _gguf(0, 1, _text(b"a") + struct.pack("<IIQ", 9, 0, 2**61)),
    "a list of a list": _gguf(0, 1, _text(b"a") + struct.pack("<IIQ", 9, 9, 1)),
    "a list of bytes": _gguf(
        0, 1, _text(b"a") + struct.pack("<IIQ", 9, 0, 8 << 20) + bytes(8 << 20)
    ),
    "a list of empty texts": _gguf(
        0, 1, _text(b"a") + struct.pack("<IIQ", 9, 8, 1 << 20) + bytes(8 << 20)
    ),
    "a value of no type": _gguf(0, 1, _text(b"a") + struct.pack("<I", 99)),
    "a key twice": _gguf(0, 2, 2 * (_text(b"a") + struct.pack("<IB", 0, 1))),
    "a text that is none": _gguf(0, 1, _text(b"\xff\xfe") + struct.pack("<IB", 0, 1)),
    "a tensor of many dimensions": _gguf(1, 0, _text(b"t") + struct.pack("<I", 2**32 - 1)),
    "a tensor that overflows": _gguf(
        1, 0, _text(b"t") + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0)
    ),
    "a tensor beyond the file": _gguf(1, 0, _text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2**62)),
    "another version": b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
    "no GGUF": b"hello",
    "nothing": b"",
}


def _value(value: Any) -> bytes:
    """A value of the metadata behind its type: a text, a whole number, or a list of texts."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value.encode())
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_text(t.encode()) for t in value)


def _llama(tensors: dict[str, tuple[int, ...]], **more: Any) -> bytes:
    """A GGUF file of a network without blocks, its tensors of zeros."""
    keys = ("embedding_length", "feed_forward_length", "block_count", "context_length")
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        **{f"llama.{key}": 1 for key in keys},
    }
    metadata |= {
        "llama.attention.head_count": 1,
        **{k.replace("__", "."): v for k, v in more.items()},
    }
    rest = b"".join(_text(key.encode()) + _value(value) for key, value in metadata.items())
    rest += _text(b"llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)
    for i, (name, shape) in enumerate(tensors.items()):
        rest += _text(name.encode()) + struct.pack("<I", len(shape))
        rest += struct.pack(f"<{len(shape)}QIQ", *shape[::-1], 0, 32 * i)
    found = _gguf(len(tensors), len(metadata) + 1, rest)
    return found + bytes(-len(found) % 32 + 32 * len(tensors))


_EMBEDDING: dict[str, tuple[int, ...]] = {"token_embd.weight": (2, 2)}
_GGUF |= {
    "an embedding that is a number": _llama({"token_embd.weight": ()}),
    "a token as long as the file": _llama(
        _EMBEDDING,
        tokenizer__ggml__model="llama",
        tokenizer__ggml__tokens=["a" * (4 << 20), "b"],
        tokenizer__ggml__padding_token_id=9,
    ),
}
_GGUF_NOT_READ = {
    "an architecture that is a list": _llama(_EMBEDDING, general__architecture=["llama"]),
    "heads beyond memory": _llama(
        _EMBEDDING | {"rope_freqs.weight": (1,)}, llama__attention__key_length=2**31 - 2
    ),
}


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.gguf")
    return folder / "a.gguf"


# --- folders ---------------------------------------------------------------------------------


def _checkpoint(config: dict[str, Any], dtype: str = "F32", **files: bytes) -> Maker:
    """A folder with one tensor and other files, whose names end in .json."""

    def make(folder: Path) -> Path:
        size = {"F32": 4, "C64": 8}[dtype]
        header = json.dumps({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}})
        tensors = struct.pack("<Q", len(header)) + header.encode() + bytes(size)
        (folder / "model.safetensors").write_bytes(tensors)
        (folder / "config.json").write_text(json.dumps(config))
        for name, content in files.items():
            (folder / f"{name}.json").write_bytes(content)
        return folder

    return make


_QWEN: dict[str, Any] = {
    "model_type": "qwen2", "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8,
    "num_attention_heads": 1, "vocab_size": 8,
}  # fmt: skip
_CONFIGS: dict[str, dict[str, Any]] = {
    "heads beyond memory": {"head_dim": 2**31 - 2},
    "a width beyond memory": {"hidden_size": 2**30},
    "layers of no name": {"use_sliding_window": True, "layer_types": [{}]},
    "a number beyond a float": {"rms_norm_eps": 10**400},
    "a number that cannot be divided by": {
        "rope_scaling": {"rope_type": "linear", "factor": 1e-320}
    },
}
_SWOLLEN = b"[" + b"[]," * 1_000_000 + b"[]]"

# --- tokenizers ------------------------------------------------------------------------------


def _tokenizer(**parts: Any) -> Maker:
    """A tokenizer of the letters a to c with other parts."""
    whole: dict[str, Any] = {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []},
    }  # fmt: skip
    return _file("tokenizer.json", json.dumps(whole | parts).encode())


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return split | {"invert": False}


_TENFOLD = 9 * [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}]
_FROM_NOTHING = 3 * [{"type": "Replace", "pattern": {"Regex": ""}, "content": "a" * 1000}]
_TOKENIZERS = {
    "an expression that tries all ways": _tokenizer(pre_tokenizer=_split("(a+)+$")),
    "an expression that is none": _tokenizer(pre_tokenizer=_split("(")),
    "a billion letters of one": _tokenizer(
        normalizer={"type": "Sequence", "normalizers": _TENFOLD}
    ),
    "a billion letters of nothing": _tokenizer(
        normalizer={"type": "Sequence", "normalizers": _FROM_NOTHING}
    ),
    "a billion letters of one token": _tokenizer(
        decoder={"type": "Sequence", "decoders": _TENFOLD}
    ),
    "a text a billion times": _tokenizer(
        post_processor={
            "type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": 2000 * [{"Sequence": {"id": "A", "type_id": 0}}],
        }
    ),
    "a token that is not there": _tokenizer(
        post_processor={
            "type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": [{"SpecialToken": {"id": "X", "type_id": 0}}],
        }
    ),
    "an unknown token that is unknown": _tokenizer(
        model={"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]",
               "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}
    ),
    "deep": _file("tokenizer.json", b"[" * 100_000),
}  # fmt: skip

# --- moments, documents, questions -----------------------------------------------------------


def _moments(**facts: Any) -> Maker:
    """Output moments of nothing, whose description has the right digest and wrong facts."""
    right = {
        "format": 1, "estimators": ["token"], "rng": 0, "checkpoint": "", "loss": 1.0,
        "calibration": {"shape": [1, 2], "sha256": ""}, "versions": {}, "sha256": {},
    }  # fmt: skip
    text = json.dumps(right | facts)
    said = {"output_moments": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    header = json.dumps({"__metadata__": said}).encode()
    return _file("m.safetensors", struct.pack("<Q", len(header)) + header)


_MOMENTS = {
    "of no estimator": _moments(estimators=[]),
    "of an unknown estimator": _moments(estimators=[[]]),
    "of a calibration that is a list": _moments(calibration=[1, 2]),
    "of digests that are a list": _moments(sha256=[]),
}


def _document(value: str) -> bytes:
    numbers = f'{{"numbers": {{"a": {{"value": {value}, "standard_error": 0}}}}'
    about = '"kind": "", "source": ""}], "model": "", "method": ""'
    totals = '"totals": {"layers": {"bits_per_weight": 1}}'
    return (
        f'{{"format": "lplr model evaluate 1", "results": [{numbers}, {about}, {totals}}}'.encode()
    )


_DOCUMENTS = {
    "a number that is a text": _document('"x"'),
    "a number beyond a float": _document("1" + 400 * "0"),
    "deep": b"[" * 100_000,
    "empty lists": _SWOLLEN,
}

NETWORKS = {
    **{
        f"GGUF: {k}": Hostile(_file("a.gguf", v), "checkpoint", CorruptFileError)
        for k, v in _GGUF.items()
    },
    **{
        f"GGUF: {k}": Hostile(_file("a.gguf", v), "checkpoint", InputError)
        for k, v in _GGUF_NOT_READ.items()
    },
    "GGUF: a pipe": Hostile(_pipe, "checkpoint", InputError),
    **{
        f"config: {k}": Hostile(_checkpoint(_QWEN | v), "network", InputError)
        for k, v in _CONFIGS.items()
    },
    "checkpoint: complex numbers": Hostile(_checkpoint(_QWEN, "C64"), "checkpoint", InputError),
    "checkpoint: modules of empty lists": Hostile(
        _checkpoint({"model_type": "bert"}, modules=_SWOLLEN), "checkpoint", CorruptFileError
    ),
    **{
        f"tokenizer: {k}": Hostile(v, "tokenizer", CorruptFileError) for k, v in _TOKENIZERS.items()
    },
    **{f"moments: {k}": Hostile(v, "moments", CorruptFileError) for k, v in _MOMENTS.items()},
    **{
        f"{reader}: {k}": Hostile(_file("a.jsonl", v), reader, InputError)
        for reader in ("document", "questions")
        for k, v in _DOCUMENTS.items()
    },
}
