"""Standard output and standard error, whatever they are connected to.

Commands print as if both streams always worked. Here alone it is known that a stream can be closed,
its disk full, its reader gone, or its encoding too small for a character. What a command prints on
standard output is collected and written when the command is over, so that a failing output never
keeps a result from its file; and no control character in it reaches a terminal. Standard error only
informs: what it cannot take is dropped.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = ["Output", "prepared"]

# What a file says, or a model, may have control characters, which a terminal obeys.
_CONTROL = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\t\n"}
_ASCII = {"±": "+-", "×": "x", "−": "-", "–": "-", "…": "..."}


class Output(io.StringIO):
    """What a command prints, until it is delivered to a stream.

    Parameters
    ----------
    stream : text file or None
        None: standard output is closed, and nobody waits for the text.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream

    def deliver(self) -> None:
        """Write all that was printed so far.

        Raises
        ------
        OSError
            If the stream does not take it; `BrokenPipeError` if its reader has gone.
        """
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        if not text or self.stream is None or self.stream.closed:
            return
        try:
            self.stream.write(_encodable(text.translate(_CONTROL), self.stream))
            self.stream.flush()
        except OSError:
            _disconnect(self.stream)
            raise


class _Notices(io.TextIOBase):
    """Standard error, without its failures."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = None if stream is None or stream.closed else stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(_encodable(text, self._stream))
                self._stream.flush()
            except OSError:
                _disconnect(self._stream)
                self._stream = None
        return len(text)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()


@contextmanager
def prepared() -> Iterator[Output]:
    """Collect standard output, and let standard error never fail.

    Yields
    ------
    Output
        What is printed meanwhile; to be delivered by the caller.
    """
    _occupy_standard_descriptors()
    streams = sys.stdout, sys.stderr
    output = Output(sys.stdout)
    sys.stdout, sys.stderr = output, _Notices(sys.stderr)
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = streams


def _occupy_standard_descriptors() -> None:
    """Connect closed ones of the descriptors 0, 1 and 2 to nothing.

    The next file that is opened would get their numbers, and with them whatever a library writes
    to its standard output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _disconnect(stream: TextIO) -> None:
    """Let what is left in the buffer of a stream go nowhere when Python flushes it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _encodable(text: str, stream: TextIO) -> str:
    """The text with the characters replaced that the encoding of a stream lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "lplr-plain").decode(encoding)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded by ASCII; a byte of a file name becomes ``\\xff``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_ASCII.get(char) or _escaped(char) for char in found), error.end


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("ascii", "backslashreplace").decode()


codecs.register_error("lplr-plain", _plain)
