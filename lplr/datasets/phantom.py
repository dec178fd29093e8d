"""The Shepp–Logan phantom, from its definition as ten ellipses."""

from __future__ import annotations

import numpy as np

from lplr.validation.arguments import check_integer

__all__ = ["shepp_logan"]

# The ten ellipses: intensity, semi-axes, centre, and rotation in degrees. x points right and y up,
# both from -1 to 1. The intensities are those of Toft, which make the small ellipses visible.
_ELLIPSES = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def shepp_logan(n: int = 256) -> np.ndarray:
    """The Shepp–Logan head phantom: ten ellipses, with a contrast that shows the small ones.

    Parameters
    ----------
    n : int
        Pixels per side. A pixel has the value at its centre; the image covers [-1, 1]².

    Returns
    -------
    ndarray of shape (n, n), float64
        Values in [0, 1]; row 0 is the top of the head.

    Raises
    ------
    InputError
        If `n` is not a positive integer.

    References
    ----------
    Shepp, Logan, "The Fourier reconstruction of a head section", 1974; intensities of Toft,
    "The Radon transform: theory and implementation", 1996, appendix B.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.datasets import shepp_logan
    >>> image = shepp_logan(64)
    >>> image.shape, image.min(), image.max(), np.linalg.matrix_rank(image) < 64
    ((64, 64), np.float64(0.0), np.float64(1.0), np.True_)
    """
    n = check_integer(n, "n", 1)
    x = (2 * np.arange(n) + 1 - n) / n
    y = -x[:, None]
    image = np.zeros((n, n))
    for intensity, a, b, x0, y0, degrees in _ELLIPSES:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        along = (x - x0) * c + (y - y0) * s
        across = (y - y0) * c - (x - x0) * s
        image[(along / a) ** 2 + (across / b) ** 2 <= 1] += intensity
    # All sums are multiples of 0.1; without rounding, dark regions would be at -5e-17.
    return np.abs(image.round(1))
