"""Low-rank and low-precision compression of matrices on a CPU.

LPLR (Saha, Srivastava, Pilanci, NeurIPS 2023) and CALDERA (Saha, Sagan, Srivastava, Goldsmith,
Pilanci, NeurIPS 2024), with factors stored as real, packed bits. Names are imported on first
use, so that importing the package is quick and compiles nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that defines it; a module itself where both are equal.
_PUBLIC = {
    "LPLR": "lplr.estimator",
    "LowRank": "lplr.factors",
    "QPlusLowRank": "lplr.decomposition",
    "Quantized": "lplr.quantized",
    "allocate": "lplr.algorithms.allocate",
    "caldera": "lplr.algorithms.caldera",
    "compress": "lplr.algorithms.compress",
    "datasets": "lplr.datasets",
    "exceptions": "lplr.exceptions",
    "factorize": "lplr.algorithms.factorize",
    "load": "lplr.storage.container",
    "quantize": "lplr.algorithms.rounding",
    "save": "lplr.storage.container",
    "theory": "lplr.theory",
}

__all__ = [
    "LPLR",
    "LowRank",
    "QPlusLowRank",
    "Quantized",
    "allocate",
    "caldera",
    "compress",
    "datasets",
    "exceptions",
    "factorize",
    "load",
    "quantize",
    "save",
    "theory",
]

if TYPE_CHECKING:
    from lplr import datasets, exceptions, theory
    from lplr.algorithms.allocate import allocate
    from lplr.algorithms.caldera import caldera
    from lplr.algorithms.compress import compress
    from lplr.algorithms.factorize import factorize
    from lplr.algorithms.rounding import quantize
    from lplr.decomposition import QPlusLowRank
    from lplr.estimator import LPLR
    from lplr.factors import LowRank
    from lplr.quantized import Quantized
    from lplr.storage.container import load, save


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lplr' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    value = module if _PUBLIC[name] == f"lplr.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
