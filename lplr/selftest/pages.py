"""Codes and scales between pages of memory that nobody may read.

Kernels do not test their indices, so a table of sizes that is wrong by one reads what belongs to
others, and nobody notices. Here it is noticed: the process dies of it. Codes are drawn at random,
so that they are any that a file can hold.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.progress import counter
from lplr.quantizers.base import QUANTIZERS, get_codebook
from lplr.quantizers.trellis_codebook import TrellisCodebook
from lplr.selftest.guarded import Attempt, attempts
from lplr.selftest.trials import Scale, Trial, described

__all__ = ["attempt", "beyond", "campaign"]

_WHAT = "kernels at the edge of memory"
_SIZES = (1, 2, 3, 5, 7, 8, 9, 16, 31, 33, 40, 63, 64, 65, 100, 129, 300, 513, 700, 1030)
_CODES = [(name, bits) for name, (offered, _) in QUANTIZERS.items() for bits in offered]


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Decode and multiply matrices of random codes, and read one byte too many to see it fail."""
    if os.name == "nt":  # which has other names for it
        yield Trial("G6", f"{_WHAT}: left out on this system")
        return
    code = "from lplr.selftest.pages import beyond; beyond()"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    seen = "" if child.returncode < 0 else "a byte beyond the last one could be read"
    yield Trial("G6", f"{_WHAT}: a byte too many is noticed", seen)
    count = scale.count(1_000, 24)
    tell = counter(count)
    for what, failure in attempts(f"{__name__}:attempt", folder, count, scale, seed=scale.seed):
        tell(1)
        yield Trial("G6", what, failure and f"{failure} (seed {scale.seed})")


def attempt(folder: str, seed: int) -> Attempt:
    """Decode a matrix of any codebook and any shape, and multiply by it in all ways."""

    def tried(i: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, i])
        name, bits = _CODES[int(rng.integers(len(_CODES)))]
        n, d = map(int, rng.choice(_SIZES, 2))
        said = f"attempt {i}: {name} {bits} bits, {n} x {d}"
        try:
            with np.errstate(over="ignore"):  # floats of 16 bits may be as large as they like
                wrong = _used(_drawn(name, bits, (n, d), rng), rng)
        except Exception as error:  # whatever it is
            wrong = described(error)
        return _WHAT, wrong and f"{said}: {wrong}"

    return tried


def _used(f: Quantized, rng: np.random.Generator) -> str:
    """What is wrong with rows of the matrix; products only have to come back."""
    n, d = f.shape
    for x in ((d,), (d, 3), (d, 17)):
        for dtype in (np.float32, np.float64):
            f @ np.ones(x, dtype)
    for y in ((n,), (n, 3)):
        f.T @ np.ones(y, np.float32)
    f.times(np.ones(d, np.float32))
    stack = Stacked((f, f), axis=int(rng.integers(2)))
    stack.times(np.ones(stack.shape[1], np.float32))
    start = int(rng.integers(n))
    stop = int(rng.integers(start, n)) + 1
    dense = f.to_dense()
    same = np.array_equal(dense[start:stop], f[start:stop])
    return "" if same else f"rows {start} to {stop} are not those of the whole"


def _drawn(name: str, bits: float, shape: tuple[int, int], rng: np.random.Generator) -> Quantized:
    """A matrix of random codes, whose bytes end or begin where memory does."""
    n, d = shape
    axis, book = int(rng.integers(2)), get_codebook(name, bits)
    words = [n, d]
    words[axis] = -(-words[axis] // book.group)
    if isinstance(book, TrellisCodebook):  # symbols of a vector have four widths in turn
        widths = np.resize(book.trellis.widths, words[axis])
    else:
        widths = np.array([bits * book.group], np.int64)
    drawn = rng.integers(0, 1 << np.expand_dims(widths, 1 - axis), words)
    if bits == 16:
        drawn &= 0xFBFF  # no exponent of all ones, which no number has
    codes = book.pack(drawn.astype(book.dtype), axis)
    scale = np.ones(((1, 1), (n, 1), (1, d))[int(rng.integers(3))], np.float32)
    codes, scale = (_guarded(array, bool(rng.integers(2))) for array in (codes, scale))
    return Quantized(shape, name, bits, codes, scale, axis=axis)


def _guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy in pages of its own, which nobody can write; those around them nobody can read."""
    page, nbytes = mmap.PAGESIZE, array.nbytes
    size = -(-nbytes // page) * page
    whole = np.frombuffer(mmap.mmap(-1, size + 2 * page), np.uint8)
    start = page + (size - nbytes if at_end else 0)
    inside = whole[start : start + nbytes]
    inside[:] = array.reshape(-1).view(np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for place in (0, page + size):
        address = ctypes.c_void_p(whole.ctypes.data + place)
        if protect(address, ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "a page cannot be protected")
    inside.setflags(write=False)
    return inside.view(array.dtype).reshape(array.shape)


def beyond() -> None:
    """Read the byte after the last one; the process does not survive it."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    last = _guarded(np.zeros(5, np.uint8), at_end=True)[-1:]
    ctypes.string_at(last.ctypes.data, 2)
