"""The steps of a compression: which functions are which, and what some of them have to do.

A step is a few functions, ``module:name``, and whole modules. What these call belongs to them,
unless it is a step itself. Functions of compiled code are named by those that call them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any, cast

from lplr.evaluation.stopwatch import Work

__all__ = ["STEPS", "WORKS", "code_of", "coded_works", "function_of", "step_finder"]

STEPS: Mapping[str, tuple[str, ...]] = {
    "checking and recording": (
        "lplr.provenance:_argument",
        "lplr.validation.arguments",
        "lplr.validation.matrices",
        "lplr.linalg.hessian:_as_moment",
    ),
    "Cholesky and LDL": (
        "lplr.linalg.ldl:ldl",
        "lplr.linalg.triangular:cholesky",
        "lplr.linalg.ldl:min_pivot_ldl",
        "lplr.linalg.ldl:block_ldl",
        "lplr.linalg.hessian:_is_positive_definite",
        "scipy.linalg:cholesky",
        "scipy.linalg:cho_factor",
    ),
    "triangular solves": (
        "lplr.linalg.triangular:solve_transposed",
        "scipy.linalg:solve_triangular",
        "scipy.linalg:cho_solve",
    ),
    "inverses and scales": (
        "lplr.linalg.triangular:lower_inverse",
        "lplr.coding.feedback:matched_scale",
    ),
    "eigenvalues and singular values": (
        "lplr.planning.weighted_matrix:WeightedMatrix.spectrum",
        "lplr.linalg.svd",
        "lplr.linalg.sketches",
        "lplr.linalg.qr",
        "scipy.linalg:eigh",
        "scipy.linalg:eigvalsh",
        "scipy.linalg:svd",
    ),
    "transforms": ("lplr.linalg.transforms", "lplr.linalg.orthogonal"),
    "least squares": ("lplr.linalg.least_squares",),
    "norms": (
        "lplr.linalg.ldl:squared_norm",
        "lplr.linalg.ldl:weighted_squares",
        "lplr.linalg.ldl:two_sided_loss",
        "lplr.coding.backbone:FeedbackWeights.losses",
    ),
    "code search": (
        "lplr.quantizers.trellis:Trellis.panel",
        "lplr.quantizers.trellis:Trellis.encode",
        "lplr.quantizers.lattice:E8P.panel",
        "lplr.quantizers.lattice:E8P.encode",
        "lplr.quantizers.scalar:ScalarCodebook.panel",
        "lplr.quantizers.scalar:ScalarCodebook.encode",
        "lplr.quantizers.uniform:Uniform.encode",
    ),
    "feedback products": ("lplr.coding.feedback:_feedback_pass",),
    "descent products": ("lplr.coding.feedback:_descent_sweep",),
    "rest of the coding": ("lplr.coding",),
    "packing": (
        "lplr.quantizers.packing:pack",
        "lplr.quantizers.trellis_codebook:TrellisCodebook.pack",
    ),
    "decoding": ("lplr.matrices",),
    "planning": ("lplr.planning",),
}


_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_AROUND = tuple(f"{_PACKAGE}{name}" for name in ("parallel", "progress"))


def _triangle(given: Mapping[str, Any]) -> tuple[str, float]:
    """A Cholesky factorization: d^3 / 3."""
    H = given["H"]
    return str(H.dtype), len(H) ** 3 / 3


def _product(given: Mapping[str, Any]) -> tuple[str, float]:
    a, b = given["a"], given["b"]
    return str((a[:0, :0] @ b[:0, :0]).dtype), 2.0 * a.shape[0] * a.shape[1] * b.shape[1]


def _eigenvalues(given: Mapping[str, Any]) -> tuple[str, float]:
    """Values alone: 4 d^3 / 3."""
    return str(given["a"].dtype), 4 * len(given["a"]) ** 3 / 3


def _solve(given: Mapping[str, Any]) -> tuple[str, float]:
    """Triangular, for many right-hand sides."""
    return str(given["b"].dtype), float(given["b"].size * len(given["a"]))


def _solve_in_tiles(given: Mapping[str, Any]) -> tuple[str, float]:
    """The same."""
    return str(given["B"].dtype), float(given["B"].size * len(given["L"]))


def _weighted_norm(given: Mapping[str, Any]) -> tuple[str, float]:
    """A product with a triangle."""
    return "float32", float(given["E"].size * len(given["L"]))


def _feedback(given: Mapping[str, Any]) -> tuple[str, float]:
    """As above, but for the diagonal panels, which the search multiplies by."""
    return "float32", float(given["x"].size * len(given["x"]))


def _descent(given: Mapping[str, Any]) -> tuple[str, float]:
    """A product with all of H, and one with its triangle."""
    return "float32", 3.0 * given["x"].size * len(given["x"])


def _states(given: Mapping[str, Any]) -> tuple[str, float]:
    """Entries times states."""
    return "states", float(given["arrays"][0].size * len(given["self"].table))


WORKS: Mapping[str, Work] = {
    "lplr.parallel:matmul": _product,
    "lplr.linalg.triangular:cholesky": _triangle,
    "lplr.linalg.ldl:min_pivot_ldl": _triangle,
    "lplr.linalg.ldl:weighted_squares": _weighted_norm,
    "lplr.coding.feedback:_feedback_pass": _feedback,
    "lplr.coding.feedback:_descent_sweep": _descent,
    "scipy.linalg:eigvalsh": _eigenvalues,
    "scipy.linalg:solve_triangular": _solve,
    "lplr.linalg.triangular:solve_transposed": _solve_in_tiles,
    "lplr.quantizers.trellis:Trellis.panel": _states,
}


def code_of(target: str) -> CodeType:
    """The code of a function ``module:name`` or ``module:Class.name``.

    Parameters
    ----------
    target : str

    Examples
    --------
    >>> from lplr.evaluation.profile_steps import code_of
    >>> code_of("lplr.linalg.ldl:ldl").co_name
    'ldl'
    """
    module, _, name = target.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = vars(found)[part]
    if isinstance(found, (cached_property, partial)):
        found = found.func
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return cast(CodeType, found.__code__)


def coded_works() -> dict[CodeType, Work]:
    """`WORKS` by the code of the functions."""
    return {code_of(target): work for target, work in WORKS.items()}


def step_finder() -> Callable[[CodeType], str | None]:
    """What tells the step of a function from its code, as `Stopwatch` asks."""
    named = {code_of(target): step for step, target in _targets() if ":" in target}
    files = {}
    for step, target in _targets():
        if ":" not in target:
            where = import_module(target)
            for path in getattr(where, "__path__", None) or [where.__file__]:
                files[path] = step

    def step_of(code: CodeType) -> str | None:
        if code in named:
            return named[code]
        if "<locals>" in code.co_qualname:
            return None  # it belongs to the function in which it stands
        file = code.co_filename
        return next((s for path, s in files.items() if file.startswith(path)), None)

    return step_of


def function_of(code: CodeType) -> str | None:
    """A finer table: each function of the package is a step of its own.

    Those that run the others, `lplr.parallel` and `lplr.progress`, belong to their callers.
    """
    file, name = code.co_filename, code.co_qualname.replace(".<locals>", "")
    if not file.startswith(_PACKAGE) or file.startswith(_AROUND):
        return None
    return f"{file.removeprefix(_PACKAGE).removesuffix('.py')}:{name}"


def _targets() -> Iterator[tuple[str, str]]:
    return ((step, target) for step, targets in STEPS.items() for target in targets)
