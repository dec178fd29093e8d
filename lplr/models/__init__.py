"""Whole models: checkpoints, networks in NumPy, and their compression.

Names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Public name -> module that defines it.
_PUBLIC = {
    "export": "lplr.models.exporting",
    "load": "lplr.models.opening",
    "open_checkpoint": "lplr.models.checkpoint",
    "open_network": "lplr.models.opening",
}

__all__ = ["export", "load", "open_checkpoint", "open_network"]

if TYPE_CHECKING:
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.exporting import export
    from lplr.models.opening import load, open_network


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lplr.models' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
