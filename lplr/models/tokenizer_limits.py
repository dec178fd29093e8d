"""What a tokenizer.json declares, before the package ``tokenizers`` sees it.

That package ends the process where it gets no memory, so that what it would take must be known
before: three things in such a file take far more than their own bytes.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any

from lplr.exceptions import CorruptFileError, InputError
from lplr.memory import available_memory
from lplr.storage.text import from_json

__all__ = ["check_limits"]

# Bytes, measured for release 0.23 and rounded up: for a byte of the file, and for a byte of a piece
# of a unigram model, which becomes a node of a tree.
_EACH, _NODE = 80, 350
# Letters of all regular expressions: a published tokenizer has a few hundred. Some cost their
# square in time, and thousands of times their length in memory.
_PATTERNS = 1 << 14


def check_limits(data: bytes) -> None:
    """Refuse a tokenizer.json that is no JSON, lies about a length, or takes too much memory."""
    found = from_json(data, "tokenizer.json", available_memory())
    model = found.pop("model", None)
    found.pop("added_tokens", None)
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    needed = _EACH * len(data)
    if isinstance(vocabulary, list):
        needed += _NODE * sum(map(_letters, vocabulary))
    if needed > available_memory():
        raise InputError(
            f"tokenizer.json: takes up to {needed} bytes of memory, more than is available"
        )
    patterns = 0
    for key, value in _members(found):
        if key == "precompiled_charsmap":
            _check_charsmap(value)
        elif key == "Regex":
            patterns += _letters([value])
    if patterns > _PATTERNS:
        raise InputError(
            f"tokenizer.json: has regular expressions of {patterns} bytes; at most {_PATTERNS} are "
            "read"
        )


def _members(found: Any) -> Iterator[tuple[str, Any]]:
    """The members of all objects in a value, however deep."""
    pending = [found]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield from value.items()
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _letters(entry: Any) -> int:
    """The bytes of the text that an entry begins with."""
    if isinstance(entry, list) and entry and isinstance(entry[0], str):
        return len(entry[0].encode("utf-8", "surrogatepass"))
    return 0


def _check_charsmap(value: Any) -> None:
    """A table begins with the length of a part of it, for which room is taken before it is read."""
    try:
        table = binascii.a2b_base64(value, strict_mode=True)
    except (TypeError, ValueError) as error:
        raise CorruptFileError(f"tokenizer.json: its precompiled_charsmap: {error}") from None
    if len(table) < 4 or int.from_bytes(table[:4], "little") > len(table) - 4:
        raise CorruptFileError("tokenizer.json: its precompiled_charsmap declares more than it has")
