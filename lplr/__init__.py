"""Low-rank and low-precision compression of matrices on a CPU.

LPLR (Saha, Srivastava, Pilanci, NeurIPS 2023) and CALDERA (Saha, Sagan, Srivastava, Goldsmith,
Pilanci, NeurIPS 2024), with factors stored as real, packed bits. Names are imported on first
use, so that importing the package is quick and compiles nothing.
"""

# SciPy needs this module, which Python refuses to import once the main thread has ended. With it
# here, an atexit hook or a thread that lives on can be the first to call this package.
import concurrent.futures.thread as _thread  # noqa: F401
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lplr._version import __version__ as __version__

# Public name -> module that defines it; a module itself where both are equal.
_PUBLIC = {
    "Allocation": "lplr.algorithms.allocate",
    "KNeighborsClassifier": "lplr.estimator",
    "LPLR": "lplr.estimator",
    "LowRank": "lplr.matrices.low_rank",
    "PackedMatrix": "lplr.matrices.base",
    "QPlusLowRank": "lplr.matrices.q_plus_low_rank",
    "Quantized": "lplr.matrices.quantized",
    "RandomizedTransform": "lplr.linalg.transforms",
    "RowParts": "lplr.matrices.row_parts",
    "Stacked": "lplr.matrices.stacked",
    "allocate": "lplr.algorithms.allocate",
    "append": "lplr.algorithms.append",
    "caldera": "lplr.algorithms.caldera",
    "compress": "lplr.algorithms.compress",
    "compress_all": "lplr.algorithms.compress_all",
    "compress_many": "lplr.algorithms.compress_many",
    "datasets": "lplr.datasets",
    "encode": "lplr.algorithms.encode",
    "exceptions": "lplr.exceptions",
    "factorize": "lplr.algorithms.factorize",
    "inspect": "lplr.storage.container",
    "load": "lplr.storage.container",
    "models": "lplr.models",
    "predictions": "lplr.algorithms.compress",
    "quantize": "lplr.algorithms.quantize",
    "regularize": "lplr.linalg.hessian",
    "save": "lplr.storage.container",
    "search": "lplr.neighbours.search",
    "theory": "lplr.theory",
    "verify": "lplr.storage.container",
}

__all__ = [
    "LPLR",
    "Allocation",
    "KNeighborsClassifier",
    "LowRank",
    "PackedMatrix",
    "QPlusLowRank",
    "Quantized",
    "RandomizedTransform",
    "RowParts",
    "Stacked",
    "allocate",
    "append",
    "caldera",
    "compress",
    "compress_all",
    "compress_many",
    "datasets",
    "encode",
    "exceptions",
    "factorize",
    "inspect",
    "load",
    "models",
    "predictions",
    "quantize",
    "regularize",
    "save",
    "search",
    "theory",
    "verify",
]

if TYPE_CHECKING:
    from lplr import datasets, exceptions, models, theory
    from lplr.algorithms.allocate import Allocation, allocate
    from lplr.algorithms.append import append
    from lplr.algorithms.caldera import caldera
    from lplr.algorithms.compress import compress, predictions
    from lplr.algorithms.compress_all import compress_all
    from lplr.algorithms.compress_many import compress_many
    from lplr.algorithms.encode import encode
    from lplr.algorithms.factorize import factorize
    from lplr.algorithms.quantize import quantize
    from lplr.estimator import LPLR, KNeighborsClassifier
    from lplr.linalg.hessian import regularize
    from lplr.linalg.transforms import RandomizedTransform
    from lplr.matrices.base import PackedMatrix
    from lplr.matrices.low_rank import LowRank
    from lplr.matrices.q_plus_low_rank import QPlusLowRank
    from lplr.matrices.quantized import Quantized
    from lplr.matrices.row_parts import RowParts
    from lplr.matrices.stacked import Stacked
    from lplr.neighbours.search import search
    from lplr.storage.container import inspect, load, save, verify


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lplr' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    value = module if _PUBLIC[name] == f"lplr.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
