"""The folder OUT.job: what a call that makes a model has finished, so that the same call goes on.

Beside what `lplr.storage.workplace` says it holds ``model/`` (what becomes OUT), ``states-I.npy``
(the hidden states before block I, of the original network and behind the compressed blocks, and
their SHA-256), ``log.jsonl`` (times and errors, each line with its own SHA-256) and, where they are
formed first, ``moments.safetensors``; of an adaptation ``training.safetensors``, which was an .npz
in earlier releases: such a training begins anew. Each file is complete, or not there; a line of the
log that a kill has cut off, or that is damaged, is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, MissingFileError, StorageError
from lplr.matrices.base import PackedMatrix
from lplr.models.calibration import States
from lplr.models.store import layer_file, write_layer
from lplr.progress import unheard
from lplr.storage.atomic import write_atomic
from lplr.storage.names import rename_folder, sync_folder
from lplr.storage.sealed import sealed, unsealed
from lplr.storage.workplace import Workplace, folder_of

__all__ = ["Job", "progress_of"]

_LOG, _MODEL, _WORK, _MOMENTS = "log.jsonl", "model", "work.npy", "moments.safetensors"
_DIGEST = hashlib.sha256().digest_size
_PIECE = 1 << 24  # bytes read at a time
_STATES = re.compile(r"states-(\d{5})\.npy")


def progress_of(out: str | os.PathLike[str]) -> int:
    """How many layers of a model are finished that is not."""
    return len(list((folder_of(out) / _MODEL / "layers").glob("*.h5")))


class Job(Workplace):
    """A model that is being made; use as a context manager, which holds its lock.

    Parameters
    ----------
    out : path
        The folder that is being made.
    call : dict
        What every byte of it depends on, as JSON holds it.

    Raises
    ------
    InputError
        If another process works on it, or the folder holds the parts of another call, or files of
        others.
    StorageError
        If the folder cannot be made.
    """

    ours = re.compile(
        r"log\.jsonl|model|work\.npy|states-\d{5}\.npy|moments\.safetensors(\.job)?"
        r"|training\.(safetensors|npz)"
    )

    def _adopt(self, call: dict[str, Any]) -> None:
        super()._adopt(call)
        self.model.mkdir(exist_ok=True)

    @property
    def model(self) -> Path:
        """What becomes OUT."""
        return self.folder / _MODEL

    @property
    def moments(self) -> Path:
        """Output moments, where this call forms them."""
        return self.folder / _MOMENTS

    @property
    def training(self) -> Path:
        """Where an adaptation is."""
        return self.folder / "training.safetensors"

    # --- layers ---

    def packed(self, number: int) -> PackedMatrix | None:
        """A finished layer; None if it is not there whole."""
        from lplr.storage.container import load

        try:
            with unheard():
                return load(layer_file(self.model, number))
        except (MissingFileError, CorruptFileError):
            return None

    def keep(self, number: int, name: str, packed: PackedMatrix, record: dict[str, Any]) -> None:
        """Write a layer."""
        write_layer(self.model, number, name, packed, record)

    # --- hidden states ---

    def states(self, shape: tuple[int, ...]) -> tuple[int, States | None]:
        """The hidden states that were kept last, and the block that comes next; else 0, None."""
        for i in sorted(self._generations(), reverse=True):
            header = _npy_header((2, *shape))
            if _is_whole(self._states(i), len(header) + 8 * prod(shape), header):
                both = np.memmap(self._states(i), "<f4", "r", len(header), (2, *shape))
                return i, States(both[0], both[1])
        return 0, None

    def keep_states(self, i: int, states: States) -> None:
        """Write the hidden states before block i, then delete those before earlier blocks."""
        shape = (2, *states.original.shape)
        header = _npy_header(shape)
        arrays = (np.ascontiguousarray(h) for h in (states.original, states.compressed))
        pieces: list[bytes | memoryview] = [header]
        pieces += [h.reshape(-1).view(np.uint8).data for h in arrays]
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        write_atomic(self._states(i), [*pieces, digest.digest()], overwrite=True)
        self.forget_states(before=i)

    def forget_states(self, before: int | None = None) -> None:
        """Delete hidden states before earlier blocks, or all."""
        for j in self._generations():
            if before is None or j < before:
                self._states(j).unlink(missing_ok=True)

    def room(self, shape: tuple[int, ...], on_disk: bool) -> States:
        """Arrays for the hidden states, in memory or in a file that is mapped."""
        if not on_disk:
            return States(np.empty(shape, np.float32), np.empty(shape, np.float32))
        path = self.folder / _WORK
        nbytes = 8 * int(np.prod(shape))
        try:
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, nbytes)  # a full disk is noticed here
        except OSError as error:
            raise StorageError(
                f"{path}: {nbytes} bytes for hidden states cannot be had: {error.strerror}; free "
                "space and repeat the call"
            ) from None
        both = np.memmap(path, np.float32, "r+", shape=(2, *shape))
        return States(both[0], both[1])

    def _states(self, i: int) -> Path:
        return self.folder / f"states-{i:05}.npy"

    def _generations(self) -> list[int]:
        found = (_STATES.fullmatch(path.name) for path in self.folder.iterdir())
        return [int(match[1]) for match in found if match]

    # --- what is told at the end ---

    def log(self, **record: Any) -> None:
        """Add a line to the log; it is durable before what it is about."""
        line = (
            f"\n{json.dumps(sealed(record))}\n"  # apart from what a power cut leaves on either side
        )
        try:
            with open(self.folder / _LOG, "a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(
                f"cannot write {self.folder / _LOG}: {error.strerror}; check the free space and "
                "repeat the call"
            ) from None

    def logged(self) -> Iterator[dict[str, Any]]:
        """The whole lines of the log."""
        with suppress(FileNotFoundError):
            for line in (self.folder / _LOG).read_bytes().splitlines():
                if (record := unsealed(line)) is not None:
                    yield record

    def finish(self) -> None:
        """Give ``model/`` the name OUT; nothing else is left."""
        self.forget_states()
        try:
            rename_folder(self.model, self.out)
        except OSError as error:
            raise StorageError(
                f"cannot rename {self.model} to {self.out}: {error.strerror}; rename it yourself"
            ) from None
        self.discard()


def _is_whole(path: Path, size: int, header: bytes) -> bool:
    """Whether a file begins with this header and is what was written, as its last 32 bytes say."""
    with suppress(OSError), open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size + _DIGEST or file.read(len(header)) != header:
            return False
        digest, left = hashlib.sha256(header), size - len(header)
        while part := file.read(min(left, _PIECE)):
            digest.update(part)
            left -= len(part)
        return not left and file.read() == digest.digest()
    return False


def _npy_header(shape: tuple[int, ...]) -> bytes:
    import io

    file = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()
