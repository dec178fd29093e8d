"""Packages that a part of the package can use and the rest does not need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lplr.exceptions import MissingPackageError

__all__ = ["optional"]

# Of a module: what pip calls its package, and the extra that brings it.
_PACKAGES = {
    "faiss": ("faiss-cpu", "bench"),
    "skimage": ("scikit-image", "bench"),
    "gguf": ("gguf", "models"),
    "tokenizers": ("tokenizers", "models"),
    "pyarrow": ("pyarrow", "scale"),
    "dask": ("dask", "scale"),
    "distributed": ("distributed", "distributed"),
}


def optional(module: str, purpose: str) -> ModuleType:
    """A module of an extra, for an argument, a metric or a file that the message names.

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        package, extra = _PACKAGES[module.partition(".")[0]]
        raise MissingPackageError(
            f"{purpose}: needs {package}, which is not installed; run pip install 'lplr[{extra}]'"
        ) from None
