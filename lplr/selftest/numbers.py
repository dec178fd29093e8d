"""Hostile numbers: every stated error is true to 1e-6, or there is one typed error.

A property is a function of what it draws and of a folder, and returns what is wrong, or nothing.
The tests draw the same properties with Hypothesis.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lplr
from lplr.exceptions import LplrError, LplrWarning
from lplr.linalg.sketches import KINDS
from lplr.selftest.matrices import Draw, SeededDraw, hessian, matrix
from lplr.selftest.oracle import TOLERANCE, moment, true_error
from lplr.selftest.trials import Scale, Trial

__all__ = ["PROPERTIES", "campaign", "holds"]

Property = Callable[[Draw, Path], str]

_CODES = (
    *(("uniform", bits) for bits in (1, 3, 8, 16)),
    *(("lloyd-max", bits) for bits in (2, 5)),
    *(("normal-float", 4), ("e8p", 2), ("e8p", 4), ("trellis-6", 1.25), ("trellis-6", 3)),
)
_BUDGETS = (4.0, 8.0, 12.0, 20.0, 40.0)


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Draw every property many times."""
    for name, prop in PROPERTIES.items():
        answered = 0
        for i in range(scale.count(500, 6)):
            draw = SeededDraw(scale.rng(name, i))
            wrong, refused = holds(prop, draw, folder)
            answered += not refused
            drawn = f" (seed {scale.seed}, draw {i}: {draw.drawn})"
            yield Trial("G6 G10", name, wrong and wrong + drawn)
        if not answered:
            yield Trial("G6 G10", name, "every matrix was refused, so that nothing was tried")


def holds(prop: Property, draw: Draw, folder: Path) -> tuple[str, bool]:
    """What is wrong with one draw, or nothing; and whether the matrix was refused.

    A typed error refuses it. Any other exception is wrong, and so is a warning of NumPy.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", LplrWarning)
            return prop(draw, folder), False
    except LplrError:
        return "", True
    except Exception as error:
        return f"{type(error).__name__}: {error}", False


# --- stated errors ---------------------------------------------------------------------------


def _compared(
    A: np.ndarray, f: Any, stated: float, H: Any = None, G: Any = None, *, rounding: float = 0.0
) -> str:
    """Whether a stated error is the true one, under moments of the columns and rows of A.

    ``rounding`` is by how much of the norm of A the matrix may differ whose error is stated.
    """
    dense = f.to_dense()
    if not np.isfinite(dense).all():
        return "decodes to what is not finite"
    loss = true_error(A, dense, moment(H, A.shape[1]), moment(G, A.shape[0]))
    slack = TOLERANCE * loss.error + loss.in_float64 + rounding * loss.weight
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


def _recorded(A: np.ndarray, f: Any, stated: float, hessian: Any) -> str:
    """The error in the record, under the damped moment, and the measured one."""
    H = None
    if hessian is not None:
        H = moment(hessian, A.shape[1])
        H = H / np.mean(np.diagonal(H)) + f.meta["damping"] * np.eye(len(H))
    return _compared(A, f, stated, H, rounding=_rounding(A, f)) or _measured(A, f)


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
    A = matrix(draw)
    f = lplr.factorize(A, rank=_rank(draw, A), bits=draw.choice((1, 2, 4, 8, 16)), rng=0)
    history = f.meta.get("history")
    return _recorded(A, f, history[-1], None) if history else _measured(A, f)


def factors_of_a_budget(draw: Draw, folder: Path) -> str:
    """`lplr.factorize` with a budget, which it keeps."""
    A, budget = matrix(draw, least=3), draw.choice(_BUDGETS)
    f = lplr.factorize(A, bits_per_entry=budget, effort="fast", rng=0)
    if f.bits_per_entry > budget:
        return f"takes {f.bits_per_entry} bits of {budget}"
    return _measured(A, f)


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
    A, budget = matrix(draw, least=3), draw.choice(_BUDGETS)
    H = hessian(draw, A.shape[1])
    f = lplr.compress(A, bits_per_entry=budget, hessian=H, effort="fast", rng=0)
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
    # Of what is no array the error is that of L R, before its entries are rounded to float32.
    rounding = _rounding(A, f) if form.startswith(("sparse", "operator")) else 0.0
    return _compared(A, f, f.relative_error(forms[form]()), rounding=rounding)


# --- what changes nothing --------------------------------------------------------------------

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


PROPERTIES: dict[str, Property] = {
    "error of quantize": quantized,
    "error of factorize": factors,
    "error of factorize with a budget": factors_of_a_budget,
    "error of LPLR": factors_of_a_sketch,
    "error of caldera": decomposed,
    "error of caldera as in the paper": decomposed_as_in_the_paper,
    "error of compress": compressed,
    "error under moments": weighted_error,
    "error of a matrix in any form": error_of_any_form,
    "codes of a scaled matrix": scaled_matrix,
    "codes under a scaled moment": scaled_hessian,
    "error of permuted rows": permuted_rows,
    "transposed, or in Fortran order": transposed,
    "not finite, or out of range": not_finite,
    "results scaled out of range": scaled_result,
    "numbers of a file": stored,
}
