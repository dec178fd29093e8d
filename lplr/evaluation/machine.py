"""What times and errors depend on beside the code: the machine and the versions of packages."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lplr.parallel import n_threads

__all__ = ["machine", "package_versions"]

_PACKAGES = ("numpy", "scipy", "numba", "sklearn", "faiss", "skimage", "dask")


def machine() -> dict[str, Any]:
    """The system, the processor, its cores, and the threads in use.

    Examples
    --------
    >>> from lplr.evaluation.machine import machine
    >>> sorted(machine())
    ['cores', 'processor', 'system', 'threads']
    """
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": n_threads(),
    }


def package_versions() -> dict[str, str]:
    """Versions of this package, of Python, and of those packages that are installed.

    Examples
    --------
    >>> from lplr.evaluation.machine import package_versions
    >>> list(package_versions())[:3]
    ['lplr', 'python', 'numpy']
    """
    import lplr

    versions = {name: import_module(name).__version__ for name in _PACKAGES if find_spec(name)}
    return {"lplr": lplr.__version__, "python": platform.python_version(), **versions}


def _processor() -> str:
    """The processor's name, where the system tells it."""
    names = []
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
