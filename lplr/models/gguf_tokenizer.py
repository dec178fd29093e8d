"""The tokenizer in the metadata of a GGUF file as tokenizer.json and what goes beside it.

Three kinds: "gpt2", byte-level BPE, where ``tokenizer.ggml.pre`` names how text is split first;
"llama", the BPE of SentencePiece with bytes as a last resort, whose merges follow from the scores
of its tokens; "bert", WordPiece, where tokens that begin a word, not those that go on, are marked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lplr.exceptions import CorruptFileError, InputError

__all__ = [
    "BYTE", "CONTROL", "NORMAL", "SPLITTERS", "UNKNOWN", "UNUSED", "USER", "WORD",
    "tokenizer_files",
]  # fmt: skip

# Values of tokenizer.ggml.token_type.
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
WORD = "\u2581"  # begins a word


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
        "use_regex": use_regex,
    }  # fmt: skip


def _split_by(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return {
        "type": "Sequence",
        "pretokenizers": [split | {"invert": False}, _byte_level(use_regex=False)],
    }


def _words(digits: str) -> str:
    """Contractions, words, digits, signs, line ends, blanks, as Llama 3 and Qwen split them."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_LLAMA3 = _split_by(_words(r"\p{N}{1,3}"))
# Values of tokenizer.ggml.pre, each with the pre-tokenizer of tokenizer.json.
SPLITTERS: dict[str, dict[str, Any]] = {
    "gpt-2": _byte_level(use_regex=True),
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            _byte_level(use_regex=True),
        ],
    },
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _split_by(_words(r"\p{N}")),
}


def tokenizer_files(where: str, metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """The files by name; none if the metadata has no tokenizer.

    InputError says that the kind is not known, CorruptFileError that the metadata is not valid.
    """
    if "tokenizer.ggml.model" not in metadata:
        return {}
    try:
        vocabulary = _Vocabulary(metadata)
        whole = metadata.get("tokenizer.huggingface.json")
        text = whole if isinstance(whole, str) else json.dumps(_tokenizer(vocabulary))
        special = vocabulary.special()
        tokenizer = special | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        }
        architecture = metadata.get("general.architecture")
        if f"{architecture}.context_length" in metadata:
            tokenizer["model_max_length"] = metadata[f"{architecture}.context_length"]
        if "tokenizer.chat_template" in metadata:
            tokenizer["chat_template"] = metadata["tokenizer.chat_template"]
        found = {
            "tokenizer.json": text,
            "tokenizer_config.json": json.dumps(tokenizer, indent=2),
            "special_tokens_map.json": json.dumps(special, indent=2),
        }
        if architecture == "bert":
            return {name: text.encode() for name, text in (found | _pooling(metadata)).items()}
        ends = {f"{name[:3]}_token_id": vocabulary.id(name) for name in ("bos", "eos", "padding")}
        ends = {name: i for name, i in ends.items() if i is not None}
        found["generation_config.json"] = json.dumps(ends, indent=2)
        return {name: text.encode() for name, text in found.items()}
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{where}: its tokenizer is not valid: {error}") from None


class _Vocabulary:
    """Tokens, their types and scores; ValueError if they are not what they should be."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.kind = metadata["tokenizer.ggml.model"]
        self.tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        if not self.tokens or not all(isinstance(token, str) for token in self.tokens):
            raise ValueError("tokenizer.ggml.tokens are no texts")
        size = len(self.tokens)
        self.types: list[int] = metadata.get("tokenizer.ggml.token_type", [NORMAL] * size)
        self.scores: list[float] = metadata.get("tokenizer.ggml.scores", [0.0] * size)
        if len(self.types) != size or len(self.scores) != size:
            raise ValueError(
                f"{size} tokens, {len(self.types)} types and {len(self.scores)} scores"
            )
        if self.kind == "bert":
            self.tokens = [
                token if kind in (CONTROL, UNUSED) or re.fullmatch(r"\[.*\]", token)
                else token[1:] if token.startswith(WORD)
                else "##" + token
                for token, kind in zip(self.tokens, self.types, strict=True)
            ]  # fmt: skip
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != size:
            raise ValueError(f"{size} tokens, of which {len(self.ids)} are different")

    def id(self, name: str) -> int | None:
        """The id of a special token; None if there is none."""
        found = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if found is not None and not 0 <= found < len(self.tokens):
            raise ValueError(f"the {name} token is {found}, and there are {len(self.tokens)}")
        return found

    def token(self, name: str) -> str | None:
        i = self.id(name)
        return None if i is None else self.tokens[i]

    def special(self) -> dict[str, str]:
        """Entries of special_tokens_map.json."""
        names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
        found = {f"{name}_token": self.token(theirs) for name, theirs in names.items()}
        if self.kind == "bert":
            found = {
                f"{name}_token": f"[{name.upper()}]"
                for name in ("unk", "sep", "pad", "cls", "mask")
                if f"[{name.upper()}]" in self.ids
            }
        return {name: token for name, token in found.items() if token is not None}

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.metadata.get(f"tokenizer.ggml.{name}", default))


def _tokenizer(vocabulary: _Vocabulary) -> dict[str, Any]:
    """tokenizer.json as an object."""
    kinds = {"gpt2": _byte_level_bpe, "llama": _sentence_piece, "bert": _word_piece}
    if vocabulary.kind not in kinds:
        raise InputError(
            f"the kind of tokenizer {vocabulary.kind!r} is not known; these are: "
            f"{', '.join(kinds)}; token ids can be given instead of texts"
        )
    added = [
        {
            "id": i, "content": vocabulary.tokens[i], "special": kind != USER,
            "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        }
        for i, kind in enumerate(vocabulary.types)
        if kind in (CONTROL, USER, UNKNOWN)
    ]  # fmt: skip
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    return head | kinds[vocabulary.kind](vocabulary)


def _byte_level_bpe(vocabulary: _Vocabulary) -> dict[str, Any]:
    pre = vocabulary.metadata.get("tokenizer.ggml.pre", "gpt-2")
    if pre not in SPLITTERS:
        raise InputError(
            f"tokenizer.ggml.pre {pre!r} is not known; these are: {', '.join(SPLITTERS)}; token "
            "ids can be given instead of texts"
        )
    llama3 = SPLITTERS[pre] is _LLAMA3
    return {
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": SPLITTERS[pre],
        "post_processor": _template(vocabulary, begin=llama3),
        "decoder": _byte_level(use_regex=True),
        "model": _bpe(vocabulary, vocabulary.metadata["tokenizer.ggml.merges"])
        | {"ignore_merges": llama3},
    }


def _bpe(vocabulary: _Vocabulary, merges: list[str]) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "vocab": vocabulary.ids, "merges": merges,
    }  # fmt: skip


def _sentence_piece(vocabulary: _Vocabulary) -> dict[str, Any]:
    """As SentencePiece merges: always the neighbours whose token has the highest score."""
    score = {
        token: vocabulary.scores[i]
        for token, i in vocabulary.ids.items()
        if vocabulary.types[i] == NORMAL
    }
    lengths = {len(token) for token in score}
    ranked = sorted(
        (-score[token], vocabulary.ids[token[:k]], vocabulary.ids[token[k:]], token, k)
        for token in score
        for k in lengths  # not all up to its own: a token may be as long as the file
        if 0 < k < len(token) and token[:k] in score and token[k:] in score
    )
    merges = [f"{token[:k]} {token[k:]}" for *_, token, k in ranked]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": WORD}
    back = {"type": "Replace", "pattern": {"String": WORD}, "content": " "}
    decoders: list[dict[str, Any]] = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    normalizers = [replace]
    if vocabulary.flag("add_space_prefix", True):
        normalizers = [{"type": "Prepend", "prepend": WORD}, replace]
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": _template(vocabulary, begin=True),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(vocabulary, merges)
        | {"unk_token": vocabulary.token("unknown"), "fuse_unk": True, "byte_fallback": True},
    }


def _word_piece(vocabulary: _Vocabulary) -> dict[str, Any]:
    special = vocabulary.special()
    begin, end = special["cls_token"], special["sep_token"]
    plain = (
        t for t, kind in zip(vocabulary.tokens, vocabulary.types, strict=True) if kind == NORMAL
    )
    return {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": None,
            # Not in the metadata: a vocabulary without capital letters is of a model without.
            "lowercase": not any(re.search("[A-Z]", t) and t[0] != "[" for t in plain),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _around(vocabulary, begin, end),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": special["unk_token"],
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary.ids,
        },
    }  # fmt: skip


def _template(vocabulary: _Vocabulary, begin: bool) -> dict[str, Any] | None:
    first = vocabulary.token("bos") if vocabulary.flag("add_bos_token", begin) else None
    last = vocabulary.token("eos") if vocabulary.flag("add_eos_token", False) else None
    return _around(vocabulary, first, last)


def _around(vocabulary: _Vocabulary, first: str | None, last: str | None) -> dict[str, Any] | None:
    """What is put around a text, or around each of two."""
    if first is None and last is None:
        return None

    def around(name: str, type_id: int, first: str | None) -> list[dict[str, Any]]:
        parts = [(first, "SpecialToken"), (name, "Sequence"), (last, "SpecialToken")]
        return [{kind: {"id": part, "type_id": type_id}} for part, kind in parts if part]

    # BERT begins once; decoders begin each text.
    second = None if vocabulary.kind == "bert" else first
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0, first),
        "pair": around("A", 0, first) + around("B", 1, second),
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary.ids[token]], "tokens": [token]}
            for token in (first, last)
            if token
        },
    }


def _pooling(metadata: Mapping[str, Any]) -> dict[str, str]:
    """How sentence-transformers makes one embedding of an encoder's outputs."""
    kind = metadata.get("bert.pooling_type")
    if kind not in (1, 2):  # mean, the first token
        return {}
    pooling = {"pooling_mode_mean_tokens": kind == 1, "pooling_mode_cls_token": kind == 2}
    pooling |= {"word_embedding_dimension": metadata["bert.embedding_length"]}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(
            [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        )
    ]
    return {
        "1_Pooling/config.json": json.dumps(pooling, indent=2),
        "modules.json": json.dumps(modules, indent=2),
    }
