"""How much longer a tokenizer may make a text: its steps are named by its file.

Ten replacements of "a" by ten of them make 10^10 letters of one, and the package ``tokenizers``
ends the process that has no room for them.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from lplr.exceptions import CorruptFileError

__all__ = ["check_growth"]

_MOST = 1000  # times; those of published models are below 150
_PARTS = ("normalizers", "pretokenizers", "processors", "decoders")


def check_growth(tokenizer: Any) -> None:
    """CorruptFileError says that texts may become far longer, by what is done before or after."""
    before = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.post_processor)
    for steps in (before, (tokenizer.decoder,)):
        growth = math.prod(_growth(json.loads(s.__getstate__())) for s in steps if s is not None)
        if growth > _MOST:
            raise CorruptFileError(
                f"tokenizer.json: makes texts up to {growth:.1e} times as long, which no tokenizer "
                "of a network does"
            )


def _growth(step: dict[str, Any]) -> float:
    """How many times as long a text of one step or more is, at most, in bytes."""
    kind = step["type"]
    if kind == "Sequence":
        return math.prod(_growth(part) for name in _PARTS for part in step.get(name, ()))
    if kind == "Replace":
        pattern, new = step["pattern"], len(step["content"].encode())
        if old := len(pattern.get("String", "").encode()):
            return max(1.0, new / old)
        return 1.0 + new  # between all letters, where an expression matches nothing
    if kind == "Prepend":
        return 1.0 + len(step["prepend"].encode())
    if kind == "Metaspace":
        return 1.0 + len(step["replacement"].encode())
    if kind == "ByteLevel":
        return 2.0
    if kind == "Precompiled":
        return _longest_text(base64.b64decode(step["precompiled_charsmap"]))
    if kind == "TemplateProcessing":
        return max(1, sum("Sequence" in part for part in step["single"]))
    return 1.0


def _longest_text(charsmap: bytes) -> float:
    """The longest of what letters are replaced by, behind a tree whose length comes first."""
    texts = charsmap[4 + int.from_bytes(charsmap[:4], "little") :]
    return float(max(map(len, texts.split(b"\0")), default=1))
