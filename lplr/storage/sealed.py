"""Small JSON files that know their own digest: what a job keeps to go on from.

Such a file is an object whose last member, ``sha256``, is the SHA-256 of the others as JSON text in
ASCII with sorted names and no spaces. Those of earlier releases have none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lplr.storage.atomic import write_atomic

__all__ = ["read_sealed", "write_sealed"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, in the place of one that is there.

    What JSON cannot express is written as Python shows it.
    """
    plain = json.loads(json.dumps(value, default=repr))
    text = json.dumps({**plain, "sha256": _digest(plain)}, indent=1)
    write_atomic(path, [text.encode()], overwrite=True)


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The object of a file; None if it is not there, or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    # Damage to the name of the last member does not make it one of an earlier release.
    name, last = list(found.items())[-1] if found else ("", None)
    if not (isinstance(last, str) and _DIGEST.fullmatch(last)):
        return found
    del found[name]
    return found if name == "sha256" and last == _digest(found) else None


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
