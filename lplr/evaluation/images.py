"""How good an approximation looks: measures for images."""

from __future__ import annotations

import math
from typing import Any

from lplr.evaluation.reading import counted
from lplr.exceptions import InputError
from lplr.matrices.rows import RowReader, same_shape, squares
from lplr.progress import Progress, tracked
from lplr.validation.arguments import check_real

__all__ = ["psnr", "ssim"]


def psnr(A: Any, B: Any, *, peak: float | None = None, progress: Progress = False) -> float:
    """Peak signal-to-noise ratio, ``10 log10(peak^2 / mean((A - B)^2))`` in decibel.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d)
        Image and approximation, which is not clipped.
    peak : float, optional
        Range of the pixels: 1 for grey values in [0, 1]. By default the largest pixel of A minus
        its smallest.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    float
        Infinite if B is exact.

    Raises
    ------
    InputError
        If an argument is outside what is offered, or A is constant and no peak is given.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.errors import psnr
    >>> round(psnr(np.array([[0.0, 1.0]]), np.array([[0.1, 0.9]])), 6)
    20.0
    """
    a, b = same_shape(A, B)
    peak = _check_peak(peak, a)
    with tracked(progress, "PSNR"):
        mean_square = float(squares(counted(a), b)[0].sum()) / (a.shape[0] * a.shape[1])
    return math.inf if mean_square <= 0 else 10 * math.log10(peak**2 / mean_square)


def ssim(A: Any, B: Any, *, peak: float | None = None) -> float:
    """Mean structural similarity of two images, by scikit-image (extra ``bench``).

    ``mean of (2 m_a m_b + c_1)(2 s_ab + c_2) / ((m_a^2 + m_b^2 + c_1)(s_a^2 + s_b^2 + c_2))`` with
    means m, variances s^2 and covariance s_ab in a Gaussian window of standard deviation 1.5 that
    is cut to 11 x 11 pixels, c_1 = (0.01 peak)^2, c_2 = (0.03 peak)^2; the settings of [1]_.

    Parameters
    ----------
    A, B : array_like, packed matrix or LinearOperator of shape (n, d), n and d at least 11
        Image and approximation, which is not clipped.
    peak : float, optional
        As in `psnr`.

    Returns
    -------
    float
        At most 1, which is exact.

    Raises
    ------
    InputError
        If an argument is outside what is offered, or A is constant and no peak is given.
    MissingPackageError
        If scikit-image is not installed.

    References
    ----------
    .. [1] Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
       structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """
    from lplr.extras import optional

    metrics = optional("skimage.metrics", "ssim")
    a, b = same_shape(A, B)
    if min(a.shape) < 11:
        raise InputError(f"A: must have at least 11 x 11 pixels for ssim, found {a.shape}")
    found = metrics.structural_similarity(
        a.all(),
        b.all(),
        data_range=_check_peak(peak, a),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(found)


def _check_peak(peak: float | None, a: RowReader) -> float:
    if peak is not None:
        return check_real(peak, "peak")
    extrema = [(x.min(), x.max()) for x in (a.read(i, j) for i, j in a.blocks())]
    span = float(max(high for _, high in extrema) - min(low for low, _ in extrema))
    if span == 0:
        raise InputError("peak: give the range of the pixels; A is constant")
    return span
