"""Typed errors and warnings: every refusal of the package is one of these.

A message names the argument, says what was found and what to do about it. An error about the
place of a file is also the exception that Python's own functions raise there, so that
``except FileNotFoundError`` catches `MissingFileError`.
"""

from __future__ import annotations

import errno


def spelled_out(text: str) -> str:
    """A text whose control characters, of a name say, are written as Python writes them.

    A byte that is no UTF-8 stays: the stream that is printed on knows what to do.
    """
    return "".join(
        c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in text
    )


class LplrError(Exception):
    """Base of every error that this package raises on purpose; its message is one line."""

    def __str__(self) -> str:
        return spelled_out(super().__str__())


class InputError(LplrError, ValueError):
    """An argument is outside what the function accepts; the message names it."""


class BadIndexError(InputError, IndexError):
    """There are no such rows or columns."""


class BudgetError(InputError):
    """A bit budget is too small for anything that can be stored at that shape."""


class _FileError(InputError, OSError):
    """An `InputError` about a file, with the ``errno`` and ``filename`` of the `OSError` it is."""

    _errno = 0

    def __init__(self, message: str, filename: str | None = None) -> None:
        super().__init__(message)
        self.errno, self.strerror, self.filename = self._errno, message, filename

    def __str__(self) -> str:
        return spelled_out(str(self.strerror))

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        return type(self), (str(self), self.filename)


class MissingFileError(_FileError, FileNotFoundError):
    """There is no file or folder of the name that was given."""

    _errno = errno.ENOENT


class ExistingFileError(_FileError, FileExistsError):
    """A file would be replaced, and nobody said that it may be."""

    _errno = errno.EEXIST


class FolderError(_FileError, IsADirectoryError):
    """There is a folder where a file belongs."""

    _errno = errno.EISDIR


class FilePermissionError(_FileError, PermissionError):
    """The permissions of a file or folder do not allow what was asked."""

    _errno = errno.EACCES


class HessianError(LplrError, ValueError):
    """A Hessian is not a symmetric positive semi-definite matrix of the right size."""


class StorageError(LplrError, OSError):
    """A file could not be written; the previous file, if any, is intact."""


class CorruptFileError(LplrError, OSError):
    """A file is truncated, altered or not of this format."""


class UnsafeFileError(CorruptFileError):
    """A well-formed file that uses a feature which loading never follows."""


class ClusterError(LplrError, OSError):
    """Workers or their scheduler are lost, or cannot do what is asked of them."""


class MissingPackageError(LplrError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class LplrWarning(UserWarning):
    """Base of every warning of this package."""


class AdaptationWarning(LplrWarning):
    """Training ended early, or gained nothing; what was best is kept."""


class BudgetWarning(LplrWarning):
    """A budget of bits is not below what the matrix already takes, so that nothing is gained."""


class DampingWarning(LplrWarning):
    """A Hessian had to be damped before it could be factorized; the result records by how much."""
