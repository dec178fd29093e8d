"""What an approximation does to the similarities of the rows: their angles and inner products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lplr.evaluation.reading import counted
from lplr.exceptions import InputError
from lplr.matrices.errors import ratio_of_norms
from lplr.matrices.rows import RowReader, same_shape
from lplr.parallel import matmul
from lplr.progress import Progress, tracked, until

__all__ = ["cosine_distortion", "inner_product_distortion", "unit_rows"]


def cosine_distortion(A: Any, B: Any, *, progress: Progress = False) -> float:
    """Root mean square change of the cosine of two different rows.

    ``sqrt(mean over i != j of (cos(a_i, a_j) - cos(b_i, b_j))^2)``, in absolute units of the
    cosine: 0 if all angles are kept, about 1/sqrt(d) if random directions are compared.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d), n at least 2
        No row may be zero.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If one is not a finite real matrix, has one row or a zero row, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.errors import cosine_distortion
    >>> cosine_distortion(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [5.0, 0.0]]))
    1.0
    """
    a, b = same_shape(A, B)
    n = a.shape[0]
    if n < 2:
        raise InputError("A: has one row, and a pair of rows needs two")
    with tracked(progress, "cosine distortion"):
        change = _squared_change_of_gram(unit_rows(counted(a), "A"), unit_rows(b, "B"))
    return math.sqrt(change / (n * (n - 1)))


def inner_product_distortion(A: Any, B: Any, *, progress: Progress = False) -> float:
    """Relative change of all inner products of two rows, ``|A A^T - B B^T|_F / |A A^T|_F``.

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
    >>> from lplr.evaluation.errors import inner_product_distortion
    >>> inner_product_distortion(np.eye(2), 2 * np.eye(2))
    3.0
    """
    a, b = same_shape(A, B)
    zero = RowReader(a.shape, lambda i, j: np.zeros((j - i, a.shape[1])), a.block)
    with tracked(progress, "inner-product distortion"):
        with until(0.5):
            change = _squared_change_of_gram(counted(a), b)
        return ratio_of_norms(change, _squared_change_of_gram(zero, counted(a)))


def _squared_change_of_gram(a: RowReader, b: RowReader) -> float:
    """``|A A^T - B B^T|_F^2``, from the smaller Gram matrix and without cancellation.

    With E = B - A it is ``|A E^T + E A^T + E E^T|_F^2 = tr((M G)^2)`` with
    ``G = [A E]^T [A E]`` and ``M = ((0, I), (I, I))``.
    """
    n, d = a.shape
    if n <= d:
        A = a.all()
        E = b.all() - A
        cross = matmul(A, np.ascontiguousarray(E.T))
        return float(np.square(cross + cross.T + matmul(E, np.ascontiguousarray(E.T))).sum())
    G = np.zeros((2 * d, 2 * d))
    for start, stop in a.blocks():
        x = a.read(start, stop)
        both = np.hstack((x, b.read(start, stop) - x))
        G += matmul(both.T, both)
    aa, ae, ee = G[:d, :d], G[:d, d:], G[d:, d:]
    # Blocks of M G: (E^T A, E^T E) over (A^T A + E^T A, A^T E + E^T E).
    first, last = ae.T, ae + ee
    return float((first * ae).sum() + 2 * (ee * (aa + ae.T)).sum() + (last * last.T).sum())


def unit_rows(rows: RowReader, name: str) -> RowReader:
    """The rows divided by their lengths; a row of length zero is refused when it is read."""

    def read(start: int, stop: int) -> np.ndarray:
        block = rows.read(start, stop)
        norms = np.linalg.norm(block, axis=1)
        if not norms.all():
            zero = start + int(np.argmin(norms))
            raise InputError(
                f"{name}: row {zero} is zero and has no direction; leave such rows out"
            )
        return block / norms[:, None]

    return RowReader(rows.shape, read, rows.block)
