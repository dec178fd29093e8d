"""How far an approximation B is from a matrix A, each measure with its formula.

A and B are arrays, packed results or linear operators. Sums are in float64, over blocks of rows in
a fixed order, so that the dense difference never exists and no result depends on the threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from lplr.evaluation.images import psnr, ssim
from lplr.evaluation.reading import counted
from lplr.evaluation.similarity import cosine_distortion, inner_product_distortion
from lplr.matrices.errors import ratio_of_norms
from lplr.matrices.rows import RowReader, same_shape, squares
from lplr.parallel import run_blocks
from lplr.progress import Progress, tracked, until
from lplr.validation.arguments import check_rng

__all__ = [
    "FORMULAS",
    "cosine_distortion",
    "hessian_error",
    "inner_product_distortion",
    "psnr",
    "relative_error",
    "row_errors",
    "spectral_error",
    "ssim",
]

# What stands next to a printed number, by the name of the metric.
FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "relative error": "|A - B|_F / |A|_F",
        "spectral error": "|A - B|_2 / |A|_2",
        "relative error under H": "sqrt(tr(E H E^T) / tr(A H A^T)), E = A - B",
        "cosine distortion": "root mean square of cos(a_i, a_j) - cos(b_i, b_j) over rows i != j",
        "inner-product distortion": "|A A^T - B B^T|_F / |A A^T|_F",
        "row error": "|a_i - b_i| / |a_i| of row i",
        "psnr": "10 log10(peak^2 / mean((A - B)^2)) in dB",
        "ssim": "mean structural similarity in a Gaussian window of standard deviation 1.5",
    }
)

_LANCZOS_TOLERANCE = 1e-4  # residual over the squared singular value


def relative_error(A: Any, B: Any, *, progress: Progress = False) -> float:
    """Relative Frobenius error, ``|A - B|_F / |A|_F``.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d)
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    float
        0 for a zero matrix that is exact, infinite if it is not.

    Raises
    ------
    InputError
        If one is not a finite real matrix, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.errors import relative_error
    >>> relative_error(np.array([[3.0, 4.0]]), np.array([[3.0, 3.0]]))
    0.2
    """
    with tracked(progress, "relative error"):
        a, b = same_shape(A, B)
        error, norm = squares(counted(a), b).sum(axis=1)
    return ratio_of_norms(error, norm)


def spectral_error(
    A: Any, B: Any, *, rng: int | np.random.Generator | None = 0, progress: Progress = False
) -> float:
    """Relative spectral error, ``|A - B|_2 / |A|_2``, largest singular values both.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d)
    rng : int, numpy.random.Generator or None
        For the start vector, which is Gaussian.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    float
        0 for a zero matrix that is exact, infinite if it is not.

    Raises
    ------
    InputError
        If one is not a finite real matrix, or the shapes differ.

    Notes
    -----
    Implicitly restarted Lanczos (ARPACK) on E^T E, of which only products with E = A - B are
    needed; those are differences of products with A and with B. The residual is at most 1e-4 of
    the squared singular value, so that the value found has a relative error of at most 5e-5 to
    some singular value and is never above the largest; where the spectrum has a gap, the error
    is of the order of the square of that.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.errors import spectral_error
    >>> round(spectral_error(np.diag([4.0, 2.0, 1.0]), np.diag([4.0, 1.0, 1.0])), 6)
    0.25
    """
    a, b = same_shape(A, B)
    generator = check_rng(rng)
    with tracked(progress, "spectral error"):
        with until(0.1):  # one pass over the rows; Lanczos makes some ten
            error, norm = squares(counted(a), b).sum(axis=1)
        if error <= 0 or norm <= 0 or min(a.shape) == 1:  # one singular value
            return ratio_of_norms(error, norm)
        start = generator.standard_normal(min(a.shape))
        original, approximation = _operator(A, a), _operator(B, b)
        with until(0.7):
            difference = _norm_2(original - approximation, start)
        return difference / _norm_2(original, start)


def hessian_error(A: Any, B: Any, hessian: Any, *, progress: Progress = False) -> float:
    """Error in the outputs of a layer, ``sqrt(tr(E H E^T) / tr(A H A^T))``, E = A - B.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d)
    hessian : array_like of shape (d, d), (d,) or (m, d)
        Second moment H of the inputs x, its diagonal, or the inputs, as in `lplr.caldera`. With
        H = mean(x x^T) this is the root mean square of ``|E x|`` relative to that of ``|A x|``.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    float
        0 for a zero output that is exact, infinite if it is not.

    Raises
    ------
    InputError
        If an argument is not finite and real, or the shapes do not fit.
    HessianError
        If H is no second moment.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.errors import hessian_error
    >>> A, B = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]])
    >>> hessian_error(A, B, [5.0, 1.0]) == np.sqrt(1 / 9)
    np.True_
    """
    from lplr.linalg.hessian import check_hessian

    a, b = same_shape(A, B)
    H = check_hessian(hessian, a.shape[1])
    with tracked(progress, "error under H"):
        error, norm = squares(counted(a), b, H).sum(axis=1)
    return ratio_of_norms(error, norm)


def row_errors(A: Any, B: Any, *, progress: Progress = False) -> np.ndarray:
    """Relative error of each row, ``|a_i - b_i| / |a_i|``.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d)
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    ndarray of shape (n,), float64
        0 for a zero row that is exact, infinite if it is not.

    Raises
    ------
    InputError
        If one is not a finite real matrix, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.errors import row_errors
    >>> row_errors(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[3.0, 3.0], [0.0, 0.0]]))
    array([0.2, 0. ])
    """
    with tracked(progress, "errors of rows"):
        a, b = same_shape(A, B)
        error, norm = squares(counted(a), b, by_row=True)
    return np.array([ratio_of_norms(e, s) for e, s in zip(error, norm, strict=True)])


def _operator(A: Any, rows: RowReader) -> LinearOperator:
    """A linear operator in float64, which reads an array a block of rows at a time."""
    if isinstance(A, LinearOperator):
        return A

    def matvec(x: np.ndarray) -> np.ndarray:
        out = np.empty(rows.shape[0])

        def block(start: int, stop: int) -> None:
            out[start:stop] = rows.read(start, stop) @ x.reshape(-1)

        run_blocks(block, rows.shape[0], rows.block)
        return out

    def rmatvec(y: np.ndarray) -> np.ndarray:
        parts = np.empty((-(-rows.shape[0] // rows.block), rows.shape[1]))

        def block(start: int, stop: int) -> None:
            parts[start // rows.block] = y.reshape(-1)[start:stop] @ rows.read(start, stop)

        run_blocks(block, rows.shape[0], rows.block)
        return parts.sum(axis=0)

    return LinearOperator(rows.shape, matvec=matvec, rmatvec=rmatvec, dtype=np.float64)


def _norm_2(operator: LinearOperator, start: np.ndarray) -> float:
    from scipy.sparse.linalg import svds

    s = svds(operator, k=1, tol=_LANCZOS_TOLERANCE, v0=start, return_singular_vectors=False)
    return float(s[0])
