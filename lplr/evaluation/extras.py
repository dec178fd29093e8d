"""Packages that evaluation can use and does not need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lplr.exceptions import MissingPackageError

__all__ = ["optional"]

# What pip calls a module's package; all of them are in the extra "bench".
_PACKAGES = {"faiss": "faiss-cpu", "skimage": "scikit-image"}


def optional(module: str, purpose: str) -> ModuleType:
    """A module of the extra ``bench``, for an argument or metric that the message names.

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise MissingPackageError(
            f"{purpose}: needs {_PACKAGES.get(name, name)}, which is not installed; run pip "
            "install 'lplr[bench]'"
        ) from None
