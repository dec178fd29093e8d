"""Rate-distortion limits: how little error a number of bits allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.theory.broadcast import broadcast
from lplr.theory.checks import check_shape, check_spectrum
from lplr.validation.arguments import check_real

__all__ = ["gaussian_limit", "rate_distortion_limit"]


@broadcast
def gaussian_limit(bits: float) -> float:
    """The least mean squared error of any code for N(0, 1): ``2^(-2 bits)``.

    Parameters
    ----------
    bits : float
        Bits per entry, at least 0.

    Returns
    -------
    float
        A source of variance s^2 has s^2 times this limit.

    Raises
    ------
    InputError
        If bits is negative or not finite.

    Notes
    -----
    The distortion-rate function of the normal source (Shannon 1959; Cover and Thomas, *Elements
    of Information Theory*, Theorem 10.3.2): codes of long vectors come as close to it as one likes,
    and no code gets below it. A scalar quantizer of high rate stays a factor
    ``pi sqrt(3)/2 = 2.72`` above it (Panter and Dite 1951).

    Examples
    --------
    >>> from lplr.theory import gaussian_limit
    >>> gaussian_limit(2)
    0.0625
    """
    return float(2.0 ** (-2 * check_real(bits, "bits", strict=False)))


@broadcast
def rate_distortion_limit(
    singular_values: Any, shape: tuple[int, int], bits_per_entry: float
) -> float:
    """A yardstick for ``A ~ L R``: the error that ideal codes of Gaussian factors would leave.

    The error is ``|A - A'|_F / |A|_F``. This is a reference value for a spectrum and
    Haar-distributed singular vectors, not a theorem for one matrix: structure in the singular
    vectors (such as an image that is constant at its border) can be coded in fewer bits. It is the
    limit of coding two factors: where the spectrum is flat and the budget large, coding the
    entries themselves may leave a smaller error.

    Parameters
    ----------
    singular_values : array_like of shape (k,), k at most min(shape), or (n, d)
        Singular values in any order, those that are left out counting as zero; or the matrix.
    shape : (int, int)
        Rows n and columns d; not needed with the matrix itself.
    bits_per_entry : float
        Stored bits divided by n d, at least 0.

    Returns
    -------
    float
        From 0 to 1; 0 for a zero matrix.

    Raises
    ------
    InputError
        If an argument is outside its range.

    Notes
    -----
    Component k is given b_k bits for each of the n + d coordinates of its two singular vectors,
    which leaves ``sigma_k^2 f(b_k)``, ``f(b) = 1 - (1 - 2^(-2b))^2``; subject to
    ``(n + d) sum_k b_k = bits_per_entry n d`` the sum of these is minimised (reverse
    water-filling; Cover and Thomas, *Elements of Information Theory*, Theorem 10.3.3, for one
    vector instead of two).

    f is concave below half a bit and convex above, so there is a jump: where there are several
    components, each gets no bits or at least half a bit. The minimum is still exact. Only the r
    largest components get bits (otherwise exchanging two would lower the error). For r > 1, each
    of them gets at least half a bit: a component with less would save less than its bits save in
    any of the others. There the problem is convex, and a common slope solves it. The gain of an
    (r+1)-th component falls with r, since the component is smaller and its bits are missed more
    by the others, so bisection finds the best r.

    Examples
    --------
    The 1000×1000 matrix with sigma_k = 1/k at one bit per entry:

    >>> import numpy as np
    >>> from lplr.theory import rate_distortion_limit
    >>> round(rate_distortion_limit(1 / np.arange(1, 1001), (1000, 1000), 1), 3)
    0.061
    """
    n, d = check_shape(shape)
    sigma = check_spectrum(singular_values, min(n, d), descending=False)
    bits = check_real(bits_per_entry, "bits_per_entry", strict=False) * n * d / (n + d)
    if sigma[0] == 0:
        return 0.0
    variance = np.square(sigma / sigma[0])
    variance = variance[variance > 0]  # what underflows has no weight
    tail = np.append(np.cumsum(variance[::-1])[::-1], 0.0)
    low, high = 0, len(variance)  # the best count of components lies between, both included
    loss = {0: tail[0]}

    def total(r: int) -> float:
        if r not in loss:
            loss[r] = _loss_of_filled(variance[:r], bits) + tail[r]
        return float(loss[r])

    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if total(middle + 1) < total(middle) else (low, middle)
    return float(np.sqrt(total(low) / tail[0]))


def _loss_of_filled(variance: np.ndarray, bits: float) -> float:
    """Least ``sum variance f(b)`` with ``sum b = bits`` and each of several b at least 1/2.

    Infinity if the bits do not suffice for that.

    With x = 2^(-2b) the slope of ``variance f`` is proportional to ``variance x (1 - x)``; at
    ``variance x (1 - x) = q / 4`` for all, ``x = u / (2 (1 + sqrt(1 - u)))``, u = q / variance,
    is the root below 1/2. q is found on a logarithmic scale, where the sum of the bits is smooth.
    """

    def log2_x(log2_q: float) -> np.ndarray:
        log2_ratio = np.minimum(log2_q - log2_variance, 0.0)
        return log2_ratio - 1 - np.log2(1 + np.sqrt(1 - np.exp2(log2_ratio)))

    if len(variance) == 1:
        x = np.exp2([-2 * bits])
        return float(variance @ (x * (2 - x)))
    log2_variance = np.log2(variance)
    high = log2_variance[-1]  # there the smallest component has exactly half a bit
    if -0.5 * log2_x(high).sum() > bits:
        return float("inf")
    # x <= q / variance / 2, hence sum b >= r (log2 variance[-1] - log2 q) / 2 >= bits at this end.
    low = high - 2 * bits / len(variance)
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if -0.5 * log2_x(middle).sum() > bits else (low, middle)
    x = np.exp2(log2_x(high))
    return float(variance @ (x * (2 - x)))
