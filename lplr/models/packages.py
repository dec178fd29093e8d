"""Packages that models can use and that only some need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lplr.exceptions import MissingPackageError

__all__ = ["optional"]


def optional(module: str, purpose: str) -> ModuleType:
    """A module of the extra ``models``; MissingPackageError names what needs it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingPackageError(
            f"{purpose}: needs {module}, which is not installed; run pip install 'lplr[models]'"
        ) from None
