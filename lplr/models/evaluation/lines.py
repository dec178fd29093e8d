"""Files with one example in each line."""

from __future__ import annotations

import os
from typing import Any

from lplr.exceptions import InputError
from lplr.memory import parse_json
from lplr.models.texts import read_text

__all__ = ["lines_of", "of_json"]


def lines_of(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The lines that are not empty, and before each the place that messages name.

    Raises
    ------
    InputError
        As `lplr.models.texts.read_text`.
    """
    lines = enumerate(read_text(path).split("\n"), 1)
    return [(f"{path}: line {i}", line.rstrip("\r")) for i, line in lines if line.strip()]


def of_json(where: str, line: str) -> Any:
    """What a line says in JSON.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return parse_json(line.encode())
    except ValueError as error:
        raise InputError(f"{where} is no JSON: {error}; write one object a line") from None
