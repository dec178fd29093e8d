"""Every error that a call states is the true one, to 1e-6."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lplr
from lplr.linalg.sketches import KINDS
from lplr.selftest.matrices import Draw, Property, hessian, matrix
from lplr.selftest.oracle import TOLERANCE, moment, true_error

__all__ = ["STATED"]

_CODES = (
    *(("uniform", bits) for bits in (1, 3, 8, 16)),
    *(("lloyd-max", bits) for bits in (2, 5)),
    *(("normal-float", 4), ("e8p", 2), ("e8p", 4), ("trellis-6", 1.25), ("trellis-6", 3)),
)
_LIMITS = (None, "1GB")  # in memory, and in passes
_BUDGETS = (4.0, 8.0, 12.0, 20.0, 40.0)


def _compared(A: np.ndarray, f: Any, stated: float, H: Any = None, G: Any = None) -> str:
    """Whether a stated error is the true one, under moments of the columns and rows of A."""
    dense = f.to_dense()
    if not np.isfinite(dense).all():
        return "decodes to what is not finite"
    loss = true_error(A, dense, moment(H, A.shape[1]), moment(G, A.shape[0]))
    slack = TOLERANCE * loss.error + loss.in_float64
    wrong = np.isfinite(slack) and not abs(stated - loss.error) <= slack
    return f"the error is stated as {stated!r}, and is {loss}" if wrong else ""


def _at_most(A: np.ndarray, f: Any, stated: float, H: Any) -> str:
    """Whether the error is at most a stated one, under the damped moment."""
    H = moment(H, A.shape[1])
    H = H / np.mean(np.diagonal(H)) + f.meta["damping"] * np.eye(len(H))
    loss = true_error(A, f.to_dense(), H, np.eye(len(A)))
    slack = TOLERANCE * loss.error + loss.in_float64 + _rounding(A, f) * loss.weight
    wrong = np.isfinite(slack) and loss.error > stated + slack
    return f"the error is stated to be at most {stated!r}, and is {loss}" if wrong else ""


def _measured(A: np.ndarray, f: Any) -> str:
    return _compared(A, f, f.relative_error(A))


def _recorded(A: np.ndarray, f: Any, stated: float, hessian: Any = None) -> str:
    """The error in the record, under the damped moment, and the measured one."""
    H = None
    if hessian is not None:
        H = moment(hessian, A.shape[1])
        H = H / np.mean(np.diagonal(H)) + f.meta["damping"] * np.eye(len(H))
    return _compared(A, f, stated, H) or _measured(A, f)


def _rounding(A: np.ndarray, f: Any) -> float:
    """What decoding in float32 changes at most, and A as float32, over the norm of A.

    Each entry is a sum of at most so many terms: those of L R, of a transform at either side, there
    and back, and Q itself; where Q and L R cancel, they count with their own size.
    """
    parts = {name: np.abs(part.to_dense().astype(np.float64)) for name, part in f.parts().items()}
    size = parts.get("Q", parts.get("matrix", 0.0))
    if "L" in parts:
        size = size + parts["L"] @ parts["R"]
    terms = f.rank + 2 * sum(f.shape) + 4
    norm = np.linalg.norm(A.astype(np.float64))
    return float(terms * 2.0**-24 * np.linalg.norm(size) / norm) if norm > 0 else 0.0


def _rank(draw: Draw, A: np.ndarray) -> int:
    return draw.integer(1, min(A.shape))


def quantized(draw: Draw, folder: Path) -> str:
    """`lplr.quantize`, whatever the code and what shares a scale."""
    A = matrix(draw)
    quantizer, bits = draw.choice(_CODES)
    f = lplr.quantize(
        A,
        bits=bits,
        quantizer=quantizer,
        granularity=draw.choice(("tensor", "row", "column")),
        scaling=draw.choice((None, "mse")),
    )
    return _measured(A, f)


def factors(draw: Draw, folder: Path) -> str:
    """`lplr.factorize` by feedback."""
    A, limit = matrix(draw), draw.choice(_LIMITS)
    bits = draw.choice((1, 2, 4, 8, 16))
    return _of_factors(
        A, lplr.factorize(A, rank=_rank(draw, A), bits=bits, rng=0, memory_limit=limit)
    )


def factors_of_a_budget(draw: Draw, folder: Path) -> str:
    """`lplr.factorize` with a budget, which it keeps."""
    A, budget, limit = matrix(draw, least=3), draw.choice(_BUDGETS), draw.choice(_LIMITS)
    f = lplr.factorize(A, bits_per_entry=budget, effort="fast", rng=0, memory_limit=limit)
    if f.bits_per_entry > budget:
        return f"takes {f.bits_per_entry} bits of {budget}"
    return _of_factors(A, f)


def factors_of_many_rows(draw: Draw, folder: Path) -> str:
    """The same of 32768 rows, of which L is coded in turn, or of as many columns."""
    rng, d = np.random.default_rng(draw.integer(0, 999)), draw.integer(8, 12)
    A = rng.standard_normal((1 << 15, d)) * np.arange(1, d + 1) ** -draw.choice((0.0, 1.0, 3.0))
    A = draw.choice((A, A.T, A + 30))
    f = lplr.factorize(A, bits_per_entry=draw.choice((1, 4, 8)), rng=0)
    stated, error = f.meta["history"][-1], np.linalg.norm(A - f.to_dense()) / np.linalg.norm(A)
    wrong = abs(stated - error) > TOLERANCE * error
    return f"the error is stated as {stated!r}, and is {error!r}" if wrong else ""


def factors_of_sparse(draw: Draw, folder: Path) -> str:
    """The same of a sparse matrix, of which only products are taken."""
    from scipy.sparse import csr_array

    A = matrix(draw).astype(np.float64)
    A[:: draw.integer(1, 4)] = 0
    f = lplr.factorize(csr_array(A), rank=_rank(draw, A), bits=draw.choice((2, 8, 16)), rng=0)
    return _of_factors(A, f)


def fitted(draw: Draw, folder: Path) -> str:
    """`lplr.LPLR`, which states the norm of what is left."""
    A = matrix(draw, least=2)
    model = lplr.LPLR(
        _rank(draw, A),
        bits=draw.choice((2, 8, 16)),
        random_state=0,
        memory_limit=draw.choice(_LIMITS),
    ).fit(A)
    norm = float(np.linalg.norm(A.astype(np.float64)))
    return _recorded(A, model.factors_, model.reconstruction_err_ / norm if norm else 0.0)


def _of_factors(A: np.ndarray, f: Any) -> str:
    history = f.meta.get("history")  # constant matrices have none
    return _recorded(A, f, history[-1]) if history else _measured(A, f)


def factors_of_a_sketch(draw: Draw, folder: Path) -> str:
    """The methods of the LPLR paper."""
    A = matrix(draw)
    f = lplr.factorize(
        A,
        rank=_rank(draw, A),
        bits=draw.choice((2, 8, 16)),
        method=draw.choice(("lplr", "lplr-svd", "direct-svd")),
        sketch=draw.choice(KINDS),
        normalize=draw.choice((False, True)),
        rng=0,
    )
    return _measured(A, f)


def decomposed(draw: Draw, folder: Path) -> str:
    """`lplr.caldera`."""
    return _decomposed(draw, "default", draw.choice((0, 1)))


def decomposed_as_in_the_paper(draw: Draw, folder: Path) -> str:
    """`lplr.caldera` in mode "faithful"."""
    return _decomposed(draw, "faithful", 2)


def _decomposed(draw: Draw, mode: str, rounds: int) -> str:
    W = matrix(draw)
    H = hessian(draw, W.shape[1])
    f = lplr.caldera(
        W,
        hessian=H,
        rank=draw.integer(0, min(W.shape)),
        q_bits=draw.choice((2, 3, 6, 16)),
        mode=mode,
        n_iter=rounds,
        incoherence=draw.choice((True, False)),
        rng=0,
    )
    stated = min(step["error"] for step in f.meta["history"])
    return _at_most(W, f, stated, H) or _measured(W, f)


def compressed(draw: Draw, folder: Path) -> str:
    """`lplr.compress`, which keeps its budget."""
    A, budget, limit = matrix(draw, least=3), draw.choice(_BUDGETS), draw.choice(_LIMITS)
    H = hessian(draw, A.shape[1])
    f = lplr.compress(A, bits_per_entry=budget, hessian=H, effort="fast", rng=0, memory_limit=limit)
    if f.bits_per_entry > budget:
        return f"takes {f.bits_per_entry} bits of {budget}"
    return _recorded(A, f, f.meta["plan"]["error"], H)


def weighted_error(draw: Draw, folder: Path) -> str:
    """``relative_error`` under moments on either side, which are not damped."""
    A = matrix(draw)
    H, G = hessian(draw, A.shape[1]), hessian(draw, A.shape[0])
    f = lplr.quantize(A, bits=draw.choice((2, 8, 16)))
    return _compared(A, f, f.relative_error(A, H, G), H, G)


def error_of_any_form(draw: Draw, folder: Path) -> str:
    """``relative_error`` of a matrix in any form: lists, files, sparse matrices, operators."""
    from scipy.sparse import csc_array, csr_array
    from scipy.sparse.linalg import aslinearoperator

    A = matrix(draw)
    f = lplr.factorize(A, rank=_rank(draw, A), bits=draw.choice((2, 8)), rng=0)
    path = folder / "A.npy"
    np.save(path, A)
    forms: dict[str, Callable[[], Any]] = {
        "list": lambda: A.tolist(),
        "Fortran order": lambda: np.asfortranarray(A),
        "strided": lambda: np.repeat(A, 2, axis=1)[:, ::2],
        "byte order": lambda: A.astype(A.dtype.newbyteorder(">")),
        "file": lambda: path,
        "memory map": lambda: np.load(path, mmap_mode="r"),
        "sparse": lambda: csr_array(A.astype(np.float64)),
        "sparse by columns": lambda: csc_array(A.astype(np.float64)),
        "operator": lambda: aslinearoperator(A.astype(np.float64)),
    }
    form = draw.choice(list(forms))
    return _compared(A, f, f.relative_error(forms[form]()))


STATED: dict[str, Property] = {
    "error of quantize": quantized,
    "error of factorize": factors,
    "error of factorize with a budget": factors_of_a_budget,
    "error of factorize of many rows": factors_of_many_rows,
    "error of factorize of a sparse matrix": factors_of_sparse,
    "error of an estimator": fitted,
    "error of LPLR": factors_of_a_sketch,
    "error of caldera": decomposed,
    "error of caldera as in the paper": decomposed_as_in_the_paper,
    "error of compress": compressed,
    "error under moments": weighted_error,
    "error of a matrix in any form": error_of_any_form,
}
