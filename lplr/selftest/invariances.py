"""What changes nothing: a scale, an order, a transpose; and what never becomes a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lplr
from lplr.exceptions import LplrError
from lplr.selftest.matrices import Draw, Property, hessian, matrix
from lplr.selftest.oracle import TOLERANCE

__all__ = ["KEPT_OUT", "UNCHANGED"]

_CALLS: dict[str, Callable[[np.ndarray, Any], Any]] = {
    "quantize": lambda A, H: lplr.quantize(A, bits=3, granularity="row"),
    "quantize mse": lambda A, H: lplr.quantize(A, bits=2, quantizer="lloyd-max"),
    "quantize e8p": lambda A, H: lplr.quantize(A, bits=2, quantizer="e8p"),
    "quantize trellis": lambda A, H: lplr.quantize(A, bits=1.5, quantizer="trellis-6"),
    "quantize half": lambda A, H: lplr.quantize(A, bits=16),
    "factorize": lambda A, H: lplr.factorize(A, rank=1, bits=3, rng=0),
    "factorize budget": lambda A, H: lplr.factorize(A, bits_per_entry=20, effort="fast", rng=0),
    "lplr": lambda A, H: lplr.factorize(A, rank=1, method="lplr", rng=0),
    "lplr-svd": lambda A, H: lplr.factorize(A, rank=1, method="lplr-svd", normalize=True, rng=0),
    "caldera": lambda A, H: lplr.caldera(A, rank=1, hessian=H, rng=0),
    "faithful": lambda A, H: lplr.caldera(
        A, rank=1, hessian=H, mode="faithful", n_iter=1, factor_bits=3, rng=0
    ),
    "compress": lambda A, H: lplr.compress(
        A, bits_per_entry=20, hessian=H, effort="fast", rng=0
    ),
}  # fmt: skip
_WEIGHTED = ("caldera", "faithful", "compress")


def _codes(f: Any) -> list[bytes]:
    """The bits of all codes, without the scales."""
    blocks = [block for part in f.parts().values() for block in getattr(part, "blocks", (part,))]
    return [block.codes.tobytes() for block in blocks]


def _in_middle_range(A: np.ndarray) -> np.ndarray:
    """A as float32 with a peak in [0.5, 1), and no entry that 2**-98 takes out of range."""
    A = A.astype(np.float64)
    peak = np.abs(A).max()
    if peak == 0:
        return A.astype(np.float32)
    A = A / 2.0 ** np.frexp(peak)[1]
    return np.clip(np.where(np.abs(A) < 2.0**-20, 0.0, A), -0.999, 0.999).astype(np.float32)


def scaled_matrix(draw: Draw, folder: Path) -> str:
    """Times a power of two near 1e-30 or 1e30, or up to 1e-7 and from 1e7, the codes are the same.

    Between these, factors are coded as they are, the roots of singular values too, which a power
    of two need not make one. Float16 codes are the entries, whose exponents are other ones.
    """
    name = draw.choice(list(_CALLS))
    call = _CALLS[name]
    A = _in_middle_range(matrix(draw))
    H, factor = (
        hessian(draw, A.shape[1]),
        np.float32(2.0 ** (draw.choice((-1, 1)) * draw.integer(23, 98))),
    )
    one, other = call(A, H), call(A * factor, H)
    if _codes(one) != _codes(other) and name != "quantize half":
        return f"other codes at a scale of {factor}"
    # Entries of the result near 1e-38 have fewer digits.
    least = TOLERANCE * np.abs(A).max() + 2.0**-149 / factor
    if not np.allclose(other.to_dense() / factor, one.to_dense(), rtol=0, atol=least):
        return f"another matrix at a scale of {factor}"
    return ""


def scaled_hessian(draw: Draw, folder: Path) -> str:
    """Times a power of two from 1e-30 to 1e30, a second moment leads to the same codes."""
    call = _CALLS[draw.choice(_WEIGHTED)]
    A = matrix(draw)
    H = hessian(draw, A.shape[1])
    if H is None:
        H = np.eye(A.shape[1])
    H = H / 2.0 ** (np.frexp(np.abs(H).max())[1] - 1)
    factor = 2.0 ** draw.integer(-99, 98)
    if H.ndim == 2 and H.shape[0] != H.shape[1]:  # inputs, which are squared
        factor = 2.0 ** draw.integer(-49, 49)
    if _codes(call(A, H)) != _codes(call(A, H * factor)):
        return f"other codes under a moment of a scale of {factor}"
    return ""


def permuted_rows(draw: Draw, folder: Path) -> str:
    """Where rows are coded one by one, their order does not matter to the error."""
    A = matrix(draw, most=16)
    calls: list[Callable[[np.ndarray], Any]] = [
        lambda A: lplr.quantize(A, bits=3),
        lambda A: lplr.quantize(A, bits=3, granularity="row", scaling="mse"),
        lambda A: lplr.quantize(A, bits=2, quantizer="e8p", granularity="row"),
        lambda A: lplr.quantize(A, bits=2, quantizer="trellis-6", granularity="row"),
        lambda A: lplr.quantize(A, bits=16),
        lambda A: lplr.caldera(A, rank=0, q_bits=5, incoherence=False),
    ]
    call = draw.choice(calls)
    order = np.random.default_rng(draw.integer(0, 999)).permutation(len(A))
    one, other = call(A).relative_error(A), call(A[order]).relative_error(A[order])
    if not abs(one - other) <= TOLERANCE * one:
        return f"error {one}, and {other} of the rows in another order"
    return ""


def transposed(draw: Draw, folder: Path) -> str:
    """One scale for all entries does not see the shape; no call sees the order in memory."""
    A = matrix(draw)
    bits = draw.choice((1, 3, 8, 16))
    one, other = lplr.quantize(A, bits=bits), lplr.quantize(A.T, bits=bits)
    if not np.array_equal(one.to_dense().T, other.to_dense()):
        return "another matrix where the transpose was rounded"
    call = _CALLS[draw.choice(list(_CALLS))]
    H = hessian(draw, A.shape[1])
    one, other = call(A, H), call(np.asfortranarray(A), H)
    if _codes(one) != _codes(other) or not np.array_equal(one.to_dense(), other.to_dense()):
        return "another result of the same matrix in Fortran order"
    return ""


# --- what becomes a file ---------------------------------------------------------------------


def not_finite(draw: Draw, folder: Path) -> str:
    """NaN, infinities and what float32 cannot hold are refused by name, and no file is made."""
    A = matrix(draw).astype(np.float64)
    i, j = draw.integer(0, A.shape[0] - 1), draw.integer(0, A.shape[1] - 1)
    value = draw.choice((np.nan, np.inf, -np.inf, 1e39, -1e300))
    call = draw.choice(list(_CALLS))
    H = None
    if call in _WEIGHTED and draw.choice((False, True)):
        H = np.eye(A.shape[1])
        H[j, j] = value
    else:
        A[i, j] = value
    out = folder / "out"
    try:
        f = _CALLS[call](A, H)
        lplr.save(out, f)
    except LplrError as error:
        text = str(error)
        named = text.startswith(("A:", "W:", "hessian:"))
        wrong = "" if named else f"an error that does not name the argument: {text}"
    else:
        wrong = f"{value} at {(i, j)} became a file"
        out.unlink()
    return wrong or ("a refusal left a file" if out.exists() else "")


def scaled_result(draw: Draw, folder: Path) -> str:
    """A result that is scaled out of range is refused, or decodes to numbers."""
    A = matrix(draw)
    f = _CALLS[draw.choice(list(_CALLS))](A, None)
    factor = draw.choice((1e38, 1e30, 1e-30, 1e-38, 1e300, np.inf, np.nan, -1.0, 0.0))
    path = folder / "scaled.h5"
    try:
        lplr.save(path, f.scaled(factor).scaled(factor), overwrite=True)
    except LplrError:
        return ""
    dense = lplr.load(path).to_dense()
    return "" if np.isfinite(dense).all() else f"scaled by {factor} twice, decodes to no numbers"


def extreme_arguments(draw: Draw, folder: Path) -> str:
    """Arguments that are far too large or too small are refused, or lead to a right result."""
    A = matrix(draw, least=3)
    H = hessian(draw, A.shape[1])
    far = (0, 1e-300, 1e-30, 1e-3, 1e30, 1e39, 1e300, np.inf, np.nan, -1.0)
    number, whole = draw.choice(far), draw.choice((0, 1, 40, 10**6, 2**63, 10**30, -1))
    calls: list[Callable[[], Any]] = [
        lambda: lplr.caldera(A, rank=1, hessian=H, damping=number, n_iter=1, rng=0),
        lambda: lplr.caldera(
            A, rank=1, hessian=H, damping=number, n_iter=1, mode="faithful", rng=0
        ),
        lambda: lplr.caldera(A, rank=1, hessian=H, n_iter=1, rng=whole),
        lambda: lplr.caldera(A, rank=whole, q_bits=draw.choice(far), rng=0),
        lambda: lplr.compress(A, bits_per_entry=number, effort="fast", rng=whole),
        lambda: lplr.factorize(A, rank=1, n_oversamples=whole, rng=0),
        lambda: lplr.factorize(A, rank=1, n_power_iter=min(whole, 40), rng=whole),
        lambda: lplr.factorize(A, rank=whole, bits=draw.choice(far), rng=0),
        lambda: lplr.factorize(A, bits_per_entry=number, effort="fast", rng=0),
        lambda: lplr.quantize(A, bits=2, memory_limit=whole),
        lambda: lplr.LowRank(*_factors(A), shift=number),
    ]
    f = draw.choice(calls)()
    dense = f.to_dense()
    return "" if np.isfinite(dense).all() else "decodes to what is not finite"


def _factors(A: np.ndarray) -> tuple[Any, Any]:
    f = lplr.factorize(A, rank=1, rng=0)
    return f.left, f.right


def stored(draw: Draw, folder: Path) -> str:
    """A file gives back the same numbers, to the bit, and its size is the stated one."""
    A = matrix(draw)
    f = _CALLS[draw.choice(list(_CALLS))](A, hessian(draw, A.shape[1]))
    path = folder / "f.h5"
    lplr.save(path, f, overwrite=True)
    back = lplr.load(path)
    if not np.array_equal(back.to_dense().view(np.int32), f.to_dense().view(np.int32)):
        return "a file holds other numbers than were saved"
    if back.nbytes != f.nbytes or dict(back.meta) != dict(f.meta):
        return "a file says something else of its matrix than was saved"
    return ""


UNCHANGED: dict[str, Property] = {
    "codes of a scaled matrix": scaled_matrix,
    "codes under a scaled moment": scaled_hessian,
    "error of permuted rows": permuted_rows,
    "transposed, or in Fortran order": transposed,
}
KEPT_OUT: dict[str, Property] = {
    "not finite, or out of range": not_finite,
    "results scaled out of range": scaled_result,
    "arguments far out of range": extreme_arguments,
    "numbers of a file": stored,
}
