"""What a hostile file is: how it is made, who reads it, and the error that it deserves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lplr.exceptions import LplrError

__all__ = ["TRAP", "Hostile", "Maker"]

TRAP = "exploded"  # what a file makes that is executed

# Makes what is read in an empty folder.
Maker: TypeAlias = Callable[[Path], Path]


@dataclass(frozen=True)
class Hostile:
    """A file, who reads it, and the class of its error; a slow one takes seconds to make."""

    make: Maker
    reader: str
    error: type[LplrError]
    slow: bool = False
