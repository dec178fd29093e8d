"""Netpbm pictures, PGM and PPM, read to the value: other readers round to 8 or 16 bits.

The format [1]_: ``P2`` or ``P5`` for grey, ``P3`` or ``P6`` for colours; width, height and the
largest value, at most 65535, as decimal text; then the samples, as text (``P2``, ``P3``) or in one
byte each, two, the high one first, where the largest value is above 255.

References
----------
.. [1] https://netpbm.sourceforge.net/doc/pgm.html and ppm.html
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lplr.exceptions import CorruptFileError, InputError

__all__ = ["is_netpbm", "read_samples"]

# White space and comments; possessive, as what may be given back is kept in memory.
_GAP = rb"(?:\s++|#[^\r\n]*+[\r\n])++"
_HEADER = re.compile(
    rb"P(?P<kind>\d)" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s"
)
_SPACE = b" \t\n\r\x0b\x0c"
_LONGEST = 9  # digits of a sample: the largest has 5
_PIECE = 1 << 20  # bytes of text at a time
_CHANNELS = {b"2": 1, b"3": 3, b"5": 1, b"6": 3}


def is_netpbm(head: bytes) -> bool:
    """Whether a file that begins like this is of this family, PBM, PAM and PFM included."""
    return re.match(rb"P[1-7fF]\s", head) is not None


def read_samples(path: str) -> tuple[np.ndarray, int]:
    """Samples, of shape (height, width, channels), and the largest value that they may have."""
    data = Path(path).read_bytes()
    if data[1:2] not in _CHANNELS:
        raise InputError(
            f"{path}: is a {data[:2].decode()} picture; P2, P3, P5 and P6 (PGM, PPM) are read, so "
            "save it as one of them or as .npy"
        )
    header = _HEADER.match(data)
    if header is None:
        raise CorruptFileError(
            f"{path}: is damaged: its header is not that of a PGM or PPM picture"
        )
    width, height, largest = (int(text) for text in header.groups()[1:])
    shape = (height, width, _CHANNELS[header["kind"]])
    count = height * width * shape[2]
    body = memoryview(data)[header.end() :]
    if header["kind"] in b"23":
        samples = _from_text(body, path)
        found = samples.size
    else:
        dtype = np.dtype("u1" if largest < 256 else ">u2")
        size = count * dtype.itemsize
        found = -1 if len(body) < size else count + len(bytes(body[size:]).strip())
        samples = np.frombuffer(body[:size], dtype) if found == count else np.empty(0)
    if found != count:
        what = "is truncated" if found < count else "has more after its first picture"
        raise CorruptFileError(f"{path}: {what}; save one picture of {width} x {height} in a file")
    if not 0 < largest < 65536 or (count and not 0 <= samples.min() <= samples.max() <= largest):
        raise CorruptFileError(f"{path}: is damaged: it has values outside 0 to {largest}")
    return samples.astype(np.uint16).reshape(shape), largest


def _from_text(body: memoryview, path: str) -> np.ndarray:
    """The numbers of a text, a piece at a time, since Python's own numbers take far more room."""
    pieces: list[np.ndarray] = [np.empty(0, np.uint32)]
    rest = b""
    for start in range(0, len(body), _PIECE):
        words = (rest + bytes(body[start : start + _PIECE])).split()
        # The last word may go on in the next piece.
        ended = start + _PIECE >= len(body) or not words or body[start + _PIECE - 1] in _SPACE
        rest = b"" if ended else words.pop()
        if any(len(word) > _LONGEST or not word.isdigit() for word in words) or len(rest) > _PIECE:
            raise CorruptFileError(f"{path}: is damaged: a sample is no number of the format")
        pieces.append(np.array(list(map(int, words)), np.uint32))
    return np.concatenate(pieces)
