"""A tokenizer.json as metadata of a GGUF file; the inverse of `lplr.models.gguf_tokenizer`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lplr.exceptions import CorruptFileError, InputError
from lplr.memory import available_memory
from lplr.models.gguf_tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    SPLITTERS,
    UNKNOWN,
    UNUSED,
    USER,
    WORD,
)
from lplr.storage.text import from_json

__all__ = ["tokenizer_to_gguf"]


def tokenizer_to_gguf(config: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The metadata by key, the whole tokenizer.json among it.

    InputError says that there is none, or that GGUF has no name for its kind.
    """
    if "tokenizer.json" not in files:
        raise InputError("a GGUF file needs a tokenizer, and the model has no tokenizer.json")
    text, whole = _object(files, "tokenizer.json")
    settings = _object(files, "tokenizer_config.json")[1]
    try:
        return _metadata(whole, settings, config) | {"tokenizer.huggingface.json": text}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise CorruptFileError(f"tokenizer.json is not valid: {error!r}") from None


def _object(files: Mapping[str, bytes], name: str) -> tuple[str, dict[str, Any]]:
    data = files.get(name, b"{}")
    found = from_json(data, name, available_memory())
    return data.decode("utf-8"), found


def _metadata(
    whole: dict[str, Any], settings: dict[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    model = whole["model"]
    added = whole.get("added_tokens") or []
    if model["type"] not in ("BPE", "WordPiece"):
        raise InputError(f"tokenizer.json: the kind {model['type']!r} has no name in GGUF")
    ids = dict(model["vocab"]) | {token["content"]: token["id"] for token in added}
    size = config["vocab_size"]
    tokens = [f"[PAD{i}]" for i in range(size)]  # readers ask for a token for each row
    types = [UNUSED] * size
    for token, i in ids.items():
        if not 0 <= i < size:
            raise InputError(
                f"the tokenizer has a token {i} and the embedding {size} rows; it is the "
                "tokenizer of another model"
            )
        tokens[i], types[i] = token, NORMAL
    for token in added:
        types[token["id"]] = CONTROL if token["special"] else USER
    found: dict[str, Any] = {}
    if model["type"] == "WordPiece":
        found["model"] = "bert"
        tokens = [_marked(*pair) for pair in zip(tokens, types, strict=True)]
        found["token_type_count"] = config.get("type_vocab_size", 2)
    elif model.get("byte_fallback"):
        found["model"] = "llama"
        if model.get("unk_token") in ids:
            types[ids[model["unk_token"]]] = UNKNOWN
        for i, token in enumerate(tokens):
            if re.fullmatch("<0x[0-9A-F]{2}>", token):
                types[i] = BYTE
        found["scores"] = _scores(tokens, _merges(model))
        prepends = '"Prepend"' in json.dumps(whole["normalizer"])
        found["add_space_prefix"] = prepends
    else:
        found["model"] = "gpt2"
        found["pre"] = _splitter(whole["pre_tokenizer"])
        found["merges"] = [f"{a} {b}" for a, b in _merges(model)]
    special = {name: ids.get(_content(settings.get(f"{name}_token"))) for name in _SPECIAL}
    special = {n: config.get(f"{n}_token_id") if i is None else i for n, i in special.items()}
    around = _around(whole.get("post_processor"))
    found["add_bos_token"] = around[0] is not None
    found["add_eos_token"] = around[1] is not None and found["model"] != "bert"
    special["bos"] = special["bos"] if around[0] is None else ids[around[0]]
    found |= {f"{_SPECIAL[n]}_token_id": i for n, i in special.items() if type(i) is int}
    found |= {"tokens": tokens, "token_type": types}
    result = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    if isinstance(settings.get("chat_template"), str):
        result["tokenizer.chat_template"] = settings["chat_template"]
    return result


# Names of the special tokens in a config, and in the metadata, where one is spelt so.
_SPECIAL = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "sep": "seperator",
    "mask": "mask", "cls": "cls",
}  # fmt: skip


def _content(token: Any) -> Any:
    """The text of a special token, which may be an object."""
    return token.get("content") if isinstance(token, dict) else token


def _marked(token: str, kind: int) -> str:
    if kind in (CONTROL, UNUSED):
        return token
    return token[2:] if token.startswith("##") else WORD + token


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs, whichever of its two forms the file has."""
    pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
    return [(a, b) for a, b in pairs]


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> list[float]:
    """Scores by which the merges come in the same order; the lowest for what none makes."""
    rank: dict[str, int] = {}
    for i, (a, b) in enumerate(merges):
        rank.setdefault(a + b, i)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _splitter(pre_tokenizer: Any) -> str:
    """What GGUF calls this way to split text."""
    plain = _without_offsets(pre_tokenizer)
    for name, known in SPLITTERS.items():
        if _without_offsets(known) == plain:
            return name
    raise InputError(
        f"tokenizer.json: its pre_tokenizer is none that has a known name in GGUF; these are: "
        f"{', '.join(SPLITTERS)}"
    )


def _without_offsets(part: Any) -> Any:
    """Without what does not change ids, and with what is meant where nothing is said."""
    if isinstance(part, list):
        return [_without_offsets(p) for p in part]
    if not isinstance(part, dict):
        return part
    plain = {key: _without_offsets(value) for key, value in part.items() if key != "trim_offsets"}
    return {"use_regex": True} | plain if part.get("type") == "ByteLevel" else plain


def _around(post_processor: Any) -> tuple[str | None, str | None]:
    """The special tokens that go before and after a text."""
    if not post_processor:
        return None, None
    if post_processor["type"] == "Sequence":
        found = [_around(part) for part in post_processor["processors"]]
        return next((pair for pair in found if pair != (None, None)), (None, None))
    if post_processor["type"] == "BertProcessing":
        return post_processor["cls"][0], post_processor["sep"][0]
    if post_processor["type"] != "TemplateProcessing":
        return None, None
    parts = post_processor["single"]
    before = parts[0].get("SpecialToken", {}).get("id")
    return before, parts[-1].get("SpecialToken", {}).get("id")
