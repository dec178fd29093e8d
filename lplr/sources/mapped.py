"""Arrays that are mapped from a file, read so that they neither fill the memory nor crash."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError
from lplr.sources.base import Source

__all__ = ["MappedSource"]

_AROUND = 1 << 21  # bytes beside a page that the system may map with it: a huge page


class MappedSource(Source):
    """Rows of an `numpy.memmap`, copied out of it; the pages of a block are then let go.

    A process that touches a page beyond the end of a file dies (SIGBUS): before each block the
    file is compared with what the map needs.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from lplr.sources import open_source
    >>> path = os.path.join(tempfile.mkdtemp(), "A.bin")
    >>> np.arange(6, dtype=np.float32).tofile(path)
    >>> open_source(np.memmap(path, np.float32, "r", shape=(3, 2)), "A").rows(1, 2)
    array([[2., 3.]], dtype=float32)
    """

    _data: np.memmap

    def __getstate__(self) -> dict[str, Any]:
        if not self.is_elsewhere:
            raise InputError(
                f"{self.name}: is a private map, or one of a file without a name, which no other "
                "process can open; pass a copy of it, numpy.array(...)"
            )
        return super().__getstate__()

    def _read(self, start: int, stop: int) -> np.ndarray:
        view = self._data[start:stop]
        file: mmap.mmap = self._data._mmap  # type: ignore[attr-defined]
        first = np.frombuffer(file, np.uint8).ctypes.data
        low, high = (int(end) - first for end in np.lib.array_utils.byte_bounds(view))
        skipped = self._data.offset % mmap.ALLOCATIONGRANULARITY
        size = file.size() - (self._data.offset - skipped)
        if high > size:
            raise CorruptFileError(
                f"{self.name}: the file is {high - size} bytes too short for the rows {start} to "
                f"{stop}: it was cut after it was opened; write it again"
            )
        block = np.array(view, order="C", subok=False)
        # Of a private map ("c"), these would be the caller's changes.
        if self._data.mode != "c" and hasattr(file, "madvise"):
            # A page that is touched brings others with it, of earlier rows too, which nobody would
            # drop again.
            low = max(0, low - low % mmap.PAGESIZE - _AROUND)
            file.madvise(mmap.MADV_DONTNEED, low, min(high + _AROUND, len(file)) - low)
        return block
