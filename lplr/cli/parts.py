"""The folder OUT.job of many matrices: which of them are planned and compressed so far.

Beside what `lplr.storage.workplace` says it holds ``I.json`` (the curve of matrix I) and ``I.h5``
(its packed form). Each file is complete and verified, or not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, MissingFileError
from lplr.planning.curves import Curve
from lplr.storage.sealed import read_sealed, write_sealed
from lplr.storage.workplace import Workplace

__all__ = ["Parts"]


class Parts(Workplace):
    """Matrices of an output that are under way, by number; see `Workplace`."""

    ours = re.compile(r"\d{5,}\.(json|h5)")

    def curves(self, names: Sequence[str]) -> dict[str, Curve]:
        """The curves that are there, for parts that are called so in their order."""
        found = {name: self._curve(i) for i, name in enumerate(names)}
        return {name: curve for name, curve in found.items() if curve is not None}

    def _curve(self, i: int) -> Curve | None:
        found = read_sealed(self.folder / f"{i:05}.json")
        if found is None:
            return None
        return Curve(np.array(found["nbytes"]), np.array(found["loss"]))

    def add_curve(self, i: int, curve: Curve) -> None:
        """Keep the curve of a part."""
        said = {"nbytes": curve.nbytes.tolist(), "loss": curve.loss.tolist()}
        write_sealed(self.folder / f"{i:05}.json", said)

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
