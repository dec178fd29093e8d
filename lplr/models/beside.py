"""Small files that go beside the tensors of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.exceptions import CorruptFileError, InputError
from lplr.memory import parse_json

__all__ = ["json_beside"]


def json_beside(files: Mapping[str, bytes], name: str, kind: type) -> Any:
    """What a JSON file beside the tensors says, an object or a list as ``kind`` asks."""
    try:
        found = parse_json(files[name])
        if not isinstance(found, kind):
            raise ValueError(f"it is no {kind.__name__}")
    except KeyError:
        raise InputError(f"modules.json: names {name}, which is not there") from None
    except ValueError as error:
        raise CorruptFileError(f"{name}: is not valid JSON: {error}") from None
    return found
