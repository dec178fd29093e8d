"""Files of tokenizers that lie, swell, or make the package that reads them panic."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from lplr.exceptions import CorruptFileError, InputError
from lplr.selftest.hostile_file import Hostile, Maker
from lplr.selftest.specimens import tokenizer

__all__ = ["TOKENIZERS"]


def _written(data: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "tokenizer.json").write_bytes(data)
        return folder / "tokenizer.json"

    return make


def _charsmap(table: bytes) -> dict[str, Any]:
    said = base64.b64encode(table).decode()
    return {"type": "Precompiled", "precompiled_charsmap": said}


def _split(pattern: str) -> dict[str, Any]:
    how = {"behavior": "Isolated", "invert": False}
    return {"type": "Split", "pattern": {"Regex": pattern}, **how}


def _template(first: Any) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": [first], "pair": [], "special_tokens": {}}


def _pieces(length: int) -> dict[str, Any]:
    """A unigram model whose tree has as many nodes as its pieces have letters."""
    pieces = [[f"{i:x}" * length, 0.0] for i in range(10)]
    return {"type": "Unigram", "unk_id": 0, "vocab": pieces}


_LIE = _charsmap(b"\xff" * 4 + bytes(4))
_PREFIX = {
    "type": "BPE", "continuing_subword_prefix": "####", "merges": ["a b"],
    "vocab": {"a": 0, "b": 1, "ab": 2},
}  # fmt: skip

_CORRUPT = {
    "no JSON": b"{",
    "a text that is none": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "a name twice": b'{"model": {}, "model": {}}',
    "1e400": b'{"version": 1e400}',
    "no model": b"{}",
    "a table of 4 GB": tokenizer(normalizer=_LIE),
    "a table of 4 GB, by another spelling": tokenizer(normalizer=_LIE).replace(
        b"precompiled", b"\\u0070recompiled"
    ),
    "a table of 4 GB, further in": tokenizer(
        normalizer={"type": "Sequence", "normalizers": [_LIE]}
    ),
    "a table without a length": tokenizer(normalizer=_charsmap(b"\0\0")),
    "a table of a text": tokenizer(normalizer={**_LIE, "precompiled_charsmap": "!"}),
    "a table that is a number": tokenizer(normalizer={**_LIE, "precompiled_charsmap": 1}),
    "a prefix longer than its token": tokenizer(model=_PREFIX),
    "a pattern that is none": tokenizer(pre_tokenizer=_split("(")),
    "a pattern that is deep": tokenizer(pre_tokenizer=_split("(" * 5000)),
    "a template of an unknown token": tokenizer(
        post_processor=_template({"SpecialToken": {"id": "?", "type_id": 0}})
    ),
    "a template of a second text": tokenizer(
        post_processor=_template({"Sequence": {"id": "B", "type_id": 0}})
    ),
    "a table that points out of itself": tokenizer(
        normalizer=_charsmap(b"\4\0\0\0" + b"\xff" * 4 + b"\0")
    ),
    "a pattern that never ends": tokenizer(pre_tokenizer=_split("(!+)+$")),
    "pieces of no length": tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}),
}
_REFUSED = {
    "patterns that swell": tokenizer(pre_tokenizer=_split(r"\p{L}" * 50_000)),
    "a pattern of quadratic time": tokenizer(pre_tokenizer=_split("(?i)" + "k" * 100_000)),
    "a tree of a million nodes": tokenizer(model=_pieces(100_000)),
}
TOKENIZERS = {
    **{name: Hostile(_written(v), "tokenizer", CorruptFileError) for name, v in _CORRUPT.items()},
    **{name: Hostile(_written(v), "tokenizer", InputError) for name, v in _REFUSED.items()},
}
