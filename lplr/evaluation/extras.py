"""Packages that evaluation can use and does not need."""

from __future__ import annotations

import importlib
from types import ModuleType

from lplr.exceptions import MissingPackageError

__all__ = ["optional"]

# What pip calls a module's package; all of them are in the extra "bench".
_PACKAGES = {"faiss": "faiss-cpu", "skimage": "scikit-image"}


def optional(module: str, purpose: str) -> ModuleType:
    """A module of the extra ``bench``.

    Parameters
    ----------
    module : str
        Its full name, such as ``skimage.metrics``.
    purpose : str
        The argument or metric that needs it, for the message.

    Returns
    -------
    module

    Raises
    ------
    MissingPackageError
        If it is not installed.

    Examples
    --------
    >>> from lplr.evaluation.extras import optional
    >>> optional("no_such_module", "engine='none'")
    Traceback (most recent call last):
        ...
    lplr.exceptions.MissingPackageError: engine='none': needs no_such_module, which is not ...
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        package = _PACKAGES.get(name, name)
        raise MissingPackageError(
            f"{purpose}: needs {package}, which is not installed; run pip install 'lplr[bench]'"
        ) from None
