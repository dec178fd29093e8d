"""What a computation in passes has finished: kept in memory, or in files from which it goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from lplr.exceptions import BudgetError, CorruptFileError, MissingFileError, StorageError
from lplr.matrices.base import PackedMatrix
from lplr.matrices.row_parts import RowParts
from lplr.progress import parts as in_parts
from lplr.progress import unheard, until
from lplr.storage.container import load, save
from lplr.storage.folder import Folder, PartFile
from lplr.storage.folder_writer import give_name, write_part
from lplr.storage.workplace import Workplace
from lplr.streaming.part_rows import part_rows, part_slices
from lplr.streaming.passes import Passes

__all__ = ["FolderResults", "Kept", "Results", "results_of"]

Kept: TypeAlias = dict[str, Any]  # arrays and packed matrices by name
Assemble: TypeAlias = Callable[[slice, Kept], PackedMatrix]

_RESULT = "result"


class Results:
    """A result that is made in memory, as one part.

    Attributes
    ----------
    advice : str
        What to do where the data change.
    """

    advice = "start again when nothing writes to the data"

    def __init__(self) -> None:
        self._whole: Kept = {}

    def rows(self, shape: tuple[int, int], nbytes: float) -> int:
        """Rows of a part of a result that takes ``nbytes``."""
        return shape[0]

    def held(self, shape: tuple[int, int], nbytes: float) -> int:
        """Bytes that are in memory at a time."""
        return int(nbytes)

    def once(self, name: str, make: Callable[[], Kept]) -> Kept:
        """What ``make`` gives, or gave before the computation was interrupted."""
        return make()

    def read_once(self, name: str, passes: Passes, make: Callable[[], Kept]) -> Kept:
        """The same of a pass over all rows; later passes must read what it read."""
        return make()

    def coded(self, parts: Sequence[slice], code: Callable[[slice], Kept]) -> Iterator[Kept]:
        """What each part consists of, in their order."""
        for i, part in enumerate(in_parts(parts, [part.stop - part.start for part in parts])):
            self._whole = self.once(_name(i), partial(code, part))
            yield self._whole

    def joined(
        self, parts: Sequence[slice], assemble: Assemble, meta: Mapping[str, Any] | None = None
    ) -> PackedMatrix:
        """The result, from what the parts consist of."""
        return _with(assemble(parts[0], self._whole), meta)


class FolderResults(Workplace, Results):
    """A result in parts that becomes the folder OUT; see `Workplace` for what its job holds.

    Beside that there are ``NAME.h5`` for what passes have found, ``part-I.h5`` for what part I
    consists of, and ``result``, which becomes OUT.
    """

    _files: list[PartFile]
    ours = re.compile(r"[a-z]+\.h5|part-\d{5,}\.h5|result")

    def _path(self, name: str) -> Any:
        return self.folder / f"{name}.h5"

    @property
    def advice(self) -> str:  # type: ignore[override]
        return f"delete {self.folder} and start again when nothing writes to the data"

    def rows(self, shape: tuple[int, int], nbytes: float) -> int:
        return part_rows(shape, nbytes)

    def held(self, shape: tuple[int, int], nbytes: float) -> int:
        last = part_slices(shape[0], self.rows(shape, nbytes))[-1]
        # Of the largest part, and of what is written of it.
        return int(2 * nbytes * (last.stop - last.start) / shape[0])

    def seed(self) -> int:
        """A seed that is drawn in the first run."""
        draw = np.random.default_rng().integers(2**63, size=1)
        return int(self.once("seed", lambda: {"seed": draw})["seed"][0])

    def once(self, name: str, make: Callable[[], Kept]) -> Kept:
        before = self._kept(name)
        if before is not None:
            return before
        kept = make()
        with unheard():
            save(self._path(name), kept, overwrite=True)
        return kept

    def _kept(self, name: str) -> Kept | None:
        """What is there whole."""
        try:
            with unheard():
                return load(self._path(name))
        except (MissingFileError, CorruptFileError):
            return None

    def _coded(self, part: int) -> Kept:
        """What `coded` has kept of a part; nothing of a matrix that needs no coding."""
        kept, path = self._kept(_name(part)), self._path(_name(part))
        if kept is None and path.exists():
            raise StorageError(f"{path}: is damaged; repeat the call")
        return kept or {}

    def read_once(self, name: str, passes: Passes, make: Callable[[], Kept]) -> Kept:
        before = self._kept(name)
        if before is not None:
            passes.expect(before["fingerprints"])
            return before
        return self.once(name, lambda: {**make(), "fingerprints": passes.fingerprints})

    def coded(self, parts: Sequence[slice], code: Callable[[slice], Kept]) -> Iterator[Kept]:
        with until(0.95):
            for i, part in enumerate(in_parts(parts, [part.stop - part.start for part in parts])):
                yield self.once(_name(i), partial(code, part))

    def joined(
        self, parts: Sequence[slice], assemble: Assemble, meta: Mapping[str, Any] | None = None
    ) -> PackedMatrix:
        folder = self.folder / _RESULT
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make {folder}: {error.strerror}; check the free space and repeat the call"
            ) from None
        self._files = []
        for i, part in enumerate(in_parts(parts, what="writing")):
            with unheard():
                # Without a name, so that it is gone before the next one is there.
                self._files.append(write_part(folder, i, assemble(part, self._coded(i))))
        return _with(RowParts(tuple(self._files)), meta)

    def finish(self, f: PackedMatrix, attrs: Mapping[str, Any], overwrite: bool) -> None:
        """Give the result, which was joined and may have got a record, the name OUT."""
        files = tuple(self._files)
        Folder(self.folder / _RESULT, f.shape[1], files, f.meta, attrs).write(overwrite=True)
        try:
            give_name(self.folder / _RESULT, self.out, overwrite)
        except OSError as error:
            raise StorageError(
                f"cannot rename {self.folder / _RESULT} to {self.out}: {error.strerror}; move what "
                "is there, and repeat the call"
            ) from None
        self.discard()

    def __exit__(self, *error: Any) -> None:
        if isinstance(error[1], BudgetError) or (
            error[1] is not None and {path.stem for path in self.folder.glob("*.h5")} <= {"seed"}
        ):
            self.discard()  # nothing is finished, or goes on
        super().__exit__(*error)


def results_of(out: Any) -> Results:
    """What keeps a result: that which `lplr.algorithms.in_parts` has passed, or memory."""
    return out if isinstance(out, Results) else Results()


def _name(part: int) -> str:
    return f"part-{part:05}"


def _with(packed: Any, meta: Mapping[str, Any] | None) -> Any:
    return packed if meta is None else replace(packed, meta=meta)
