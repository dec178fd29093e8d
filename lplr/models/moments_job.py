"""The folder OUT.job of output moments: sums over the batches that are finished.

Beside what `lplr.storage.workplace` says it holds ``sums-0.bin`` and ``sums-1.bin`` (batch k adds
its products to the sums of the one and writes the other, so that a kill at any moment leaves one
of them as it was), ``weights.bin`` (of all tokens, each written by one batch) and ``done.json``
(batches and sequences that are finished, their loss, and the digests of the sums and of the weights
of these sequences), which is written last. If sums or weights have another one, all is formed anew.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import StorageError
from lplr.storage.digest import file_digest
from lplr.storage.sealed import read_sealed, write_sealed
from lplr.storage.workplace import Workplace

__all__ = ["MomentsJob"]

_DONE = "done.json"


class MomentsJob(Workplace):
    """Moments that are under way; use as a context manager, which holds its lock.

    Parameters
    ----------
    out : path
        The file that is being made.
    call : dict
        What every byte of it depends on, as JSON holds it.
    sums : sequence of mapping of str to (int, int)
        Shapes of the sums of each block.
    weights : (int, int, int)
        Layers, sequences and tokens.

    Raises
    ------
    InputError, StorageError
        As `Workplace`, or if there is no space.
    """

    ours = re.compile(r"sums-[01]\.bin|weights\.bin|done\.json")

    def __init__(
        self,
        out: Path,
        call: dict[str, Any],
        sums: Sequence[Mapping[str, tuple[int, int]]],
        weights: tuple[int, int, int],
    ) -> None:
        super().__init__(out, call)
        self._shapes = sums
        starts = np.cumsum([0, *(sum(map(prod, block.values())) for block in sums)])
        self._starts: list[int] = starts.tolist()
        try:
            for name in ("sums-0.bin", "sums-1.bin"):
                self._reserve(name, 4 * self._starts[-1])
            self._reserve("weights.bin", 4 * prod(weights))
        except BaseException:
            self._lock.close()
            raise
        self.weights: Any = None
        if prod(weights):
            path = self.folder / "weights.bin"
            self.weights = np.memmap(path, np.float32, "r+", shape=weights)
        self._most = weights[1]  # sequences
        self._seen = hashlib.sha256()  # the weights of the finished sequences
        self.batches, self.sequences, self.loss = 0, 0, 0.0
        self.batches, self.sequences, self.loss = self._done()

    def _reserve(self, name: str, nbytes: int) -> None:
        """A file of so many bytes; one of this size keeps what it has."""
        path = self.folder / name
        if not nbytes:
            return
        there = path.exists() and path.stat().st_size == nbytes
        try:
            with open(path, "rb+" if there else "wb") as file:
                # A full disk is noticed here, and not by the signal of a map; so are holes, which
                # some programs make of zeros when they copy.
                os.posix_fallocate(file.fileno(), 0, nbytes)
        except OSError as error:
            if not there:
                path.unlink(missing_ok=True)
            raise StorageError(
                f"{path}: {nbytes} bytes for sums cannot be had: {error.strerror}; free space and "
                "repeat the call"
            ) from None

    def _done(self) -> tuple[int, int, float]:
        """Batches and sequences that are finished, and the sum of their losses."""
        found = read_sealed(self.folder / _DONE) or {}
        match found:
            case {"batches": int(batches), "sequences": int(sequences), "loss": float(loss)}:
                known = type(batches) is type(sequences) is int and isfinite(loss)
                if not known or not 0 < batches <= sequences <= self._most:
                    return 0, 0, 0.0
                if found == self._said(batches, sequences, loss):
                    return batches, sequences, loss
                self._seen = hashlib.sha256()
        return 0, 0, 0.0

    def _said(self, batches: int, sequences: int, loss: float) -> dict[str, Any]:
        """What ``done.json`` says after so many; sequences are counted up, each is seen once."""
        if self.weights is not None:
            for s in range(self.sequences, sequences):
                self._seen.update(np.ascontiguousarray(self.weights[:, s]).data)
        return {
            "batches": batches,
            "sequences": sequences,
            "loss": loss,
            "sums": file_digest(self.folder / f"sums-{batches % 2}.bin"),
            "weights": self._seen.hexdigest(),
        }

    def sums(self, i: int, new: bool = False) -> dict[str, np.ndarray]:
        """The sums of block i over the finished batches; the mapped room for the new ones."""
        start, stop = self._starts[i : i + 2]
        flat: np.ndarray
        if self.batches == 0 and not new:
            flat = np.zeros(stop - start, np.float32)
        else:
            path = self.folder / f"sums-{(self.batches + new) % 2}.bin"
            flat = np.memmap(path, np.float32, "r+", offset=4 * start, shape=(stop - start,))
        found = {}
        at = 0
        for name, shape in self._shapes[i].items():
            found[name] = flat[at : at + prod(shape)].reshape(shape)
            at += prod(shape)
        return found

    def finish_batch(self, loss: float, sequences: int) -> None:
        """The new sums, and weights of so many sequences, are on disk; from here on they count."""
        if self.weights is not None:
            self.weights.flush()
        with open(self.folder / f"sums-{(self.batches + 1) % 2}.bin", "rb+") as file:
            os.fsync(file.fileno())
        done = self.batches + 1, sequences, self.loss + loss
        write_sealed(self.folder / _DONE, self._said(*done))
        self.batches, self.sequences, self.loss = done

    def discard(self) -> None:
        self.weights = None  # a map of a file there
        super().discard()
