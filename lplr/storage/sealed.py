"""JSON objects that know their own digest: what a job keeps to go on from.

The last member of such an object, ``sha256``, is the SHA-256 of the others as JSON text in ASCII
with sorted names and no spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lplr.exceptions import CorruptFileError
from lplr.storage.atomic import write_atomic
from lplr.storage.text import from_json

__all__ = ["read_sealed", "sealed", "unsealed", "write_sealed"]


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with its digest; what JSON cannot express is as Python shows it.

    >>> [unsealed(json.dumps(each).encode()) for each in (sealed({"n": 1}), {"n": 1})]
    [{'n': 1}, None]
    """
    plain = json.loads(json.dumps(value, default=repr))
    return {**plain, "sha256": _digest(plain)}


def unsealed(text: bytes) -> dict[str, Any] | None:
    """The object of a text; None if it is damaged."""
    try:
        found = from_json(text, "text", finite=False)
    except CorruptFileError:
        return None
    digest = found.pop("sha256", None)
    return found if digest == _digest(found) else None


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, in the place of one that is there."""
    write_atomic(path, [json.dumps(sealed(value), indent=1).encode()], overwrite=True)


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The object of a file; None if it is not there, or damaged."""
    try:
        return unsealed(path.read_bytes())
    except FileNotFoundError:
        return None


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
