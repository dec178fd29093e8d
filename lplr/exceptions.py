"""Typed errors and warnings: every refusal of the package is one of these.

A message names the argument, says what was found and what to do about it.
"""


class LplrError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(LplrError, ValueError):
    """An argument is outside what the function accepts; the message names it."""


class BudgetError(InputError):
    """A bit budget is too small for anything that can be stored at that shape."""


class HessianError(LplrError, ValueError):
    """A Hessian is not a symmetric positive semi-definite matrix of the right size."""


class StorageError(LplrError, OSError):
    """A file could not be written; the previous file, if any, is intact."""


class CorruptFileError(LplrError, OSError):
    """A file is truncated, altered or not of this format."""


class UnsafeFileError(CorruptFileError):
    """A well-formed file that uses a feature which loading never follows."""


class MissingPackageError(LplrError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class LplrWarning(UserWarning):
    """Base of every warning of this package."""


class DampingWarning(LplrWarning):
    """A Hessian had to be damped before it could be factorized; the result records by how much."""
