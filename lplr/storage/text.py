"""JSON and names as files hold them: strict, and equal for equal values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from lplr.exceptions import CorruptFileError, InputError
from lplr.memory import LOADING, json_nbytes

__all__ = ["check_name", "check_needed", "from_json", "to_json"]


def check_name(name: Any, where: str) -> str:
    """The name of an object, if it is text; any text is."""
    if not isinstance(name, str):
        raise InputError(f"{where}: a name must be text, found {name!r}; use str(name)")
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise InputError(f"{where}: the name {name!r} is not valid Unicode: {exc}") from exc
    return name


def to_json(value: Any, where: str) -> bytes:
    """A mapping as JSON text, equal for equal mappings; InputError names ``where``."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a dict, not {type(value).__name__}")
    try:
        text = json.dumps(dict(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"{where} must hold what JSON can express, numbers finite: {exc}") from exc
    return text.encode("ascii")


def from_json(text: bytes, where: str, stored: int = 0, *, finite: bool = True) -> dict[str, Any]:
    """The dict that a JSON text is, which belongs to a file or folder of ``stored`` bytes.

    CorruptFileError refuses what is no JSON in UTF-8, has an object with a name twice or, if it is
    to be ``finite``, NaN or an infinity, and what would take more memory than loading may.
    """
    check_needed(json_nbytes(text), where, max(stored, len(text)))
    try:
        value = json.loads(
            text.decode("utf-8"),
            parse_constant=_refuse if finite else None,
            parse_float=_finite,
            object_pairs_hook=_distinct,
        )
    except (ValueError, RecursionError) as exc:
        raise CorruptFileError(f"{where} is not valid JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise CorruptFileError(f"{where} is not a JSON object")
    return value


def check_needed(needed: int, where: str, stored: int) -> None:
    """CorruptFileError says that this takes more memory than loading may."""
    if needed > LOADING + stored:
        raise CorruptFileError(
            f"{where} would take {needed} bytes of memory, more than all that is stored and "
            f"{LOADING >> 20} MB"
        )


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object uses a name twice")
    return found
