"""The folder OUT.parts: what is finished of a long command, so that the same command goes on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, MissingFileError, StorageError
from lplr.planning.curves import Curve
from lplr.storage.atomic import write_atomic

__all__ = ["Parts", "digest"]

_CALL = "call.json"
_OURS = re.compile(r"call\.json|\d{5,}\.(json|h5)|\.lplr-[0-9a-f]{32}\.tmp")


class Parts:
    """Finished parts of an output, by number: the curve and then the packed matrix of each.

    Every file is complete and verified, or it is not there. `lplr.storage.atomic` sees to it.

    Parameters
    ----------
    output : str
        The file that is being made.
    call : dict
        What the parts depend on, as JSON holds it.

    Raises
    ------
    InputError
        If the folder holds the parts of another call.
    StorageError
        If it cannot be made.
    """

    def __init__(self, output: str, call: dict[str, Any]) -> None:
        self.folder = Path(f"{output}.parts")
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be made: {error.strerror}; name another output"
            ) from None
        before = self._read(_CALL)
        if before is None:
            self._refuse_strangers()
            self._delete()  # parts of an unknown call
            self._write(_CALL, call)
        elif before != call:
            differs = [key for key in call if before.get(key) != call[key]]
            raise InputError(
                f"{self.folder}: holds what another call has finished (it differs in "
                f"{', '.join(differs) or 'its form'}); repeat that call, or delete the folder"
            )

    def _refuse_strangers(self) -> None:
        if any(not _OURS.fullmatch(path.name) for path in self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: holds files of others and is needed for unfinished parts; move "
                "them, or name another output"
            )

    def curves(self, names: Sequence[str]) -> dict[str, Curve]:
        """The curves that are there, for parts that are called so in their order."""
        found = {name: self._read(f"{i:05}.json") for i, name in enumerate(names)}
        return {
            name: Curve(np.array(curve["nbytes"]), np.array(curve["loss"]))
            for name, curve in found.items()
            if curve is not None
        }

    def add_curve(self, i: int, curve: Curve) -> None:
        """Keep the curve of a part."""
        content = {"nbytes": curve.nbytes.tolist(), "loss": curve.loss.tolist()}
        self._write(f"{i:05}.json", content)

    def has_packed(self, i: int) -> bool:
        """Whether a part is finished."""
        return (self.folder / f"{i:05}.h5").is_file()

    def packed(self, i: int) -> tuple[Any, dict[str, Any]] | None:
        """The packed matrix of a part with its attributes; None if it is not there whole."""
        import lplr

        path = self.folder / f"{i:05}.h5"
        try:
            return lplr.load(path), lplr.inspect(path)["attrs"]
        except (MissingFileError, CorruptFileError):
            return None

    def add_packed(self, i: int, packed: Any, attrs: dict[str, Any]) -> None:
        """Keep the packed matrix of a part."""
        import lplr

        lplr.save(self.folder / f"{i:05}.h5", packed, overwrite=True, attrs=attrs)

    def remove(self) -> None:
        """Delete what was kept, and the folder if nothing else is in it."""
        self._delete()
        with suppress(OSError):
            self.folder.rmdir()

    def _delete(self) -> None:
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # not there, or damaged
            return None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, sort_keys=True)
        write_atomic(self.folder / name, [text.encode()], overwrite=True)


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
