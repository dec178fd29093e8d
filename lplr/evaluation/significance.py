"""Whether a difference between two shares of queries is more than chance.

Queries are a sample; another sample would give other shares. Two methods that answer the *same*
queries differ by much less than their own standard errors say, since most queries are easy or hard
for both: the differences are paired.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["TWICE", "mean_error", "paired_error", "read_flags", "write_flags"]

TWICE = 2.0  # standard errors, within which a difference is none: 95 % of chance differences are


def mean_error(values: ArrayLike) -> float:
    """Standard error of a mean over queries, ``sd(values) / sqrt(n)``.

    Parameters
    ----------
    values : array_like of shape (n,)
        One for each query. For truth values the mean is a share p, and this is the binomial
        ``sqrt(p (1 - p) / n)``.

    Examples
    --------
    >>> from lplr.evaluation.significance import mean_error
    >>> round(mean_error([True] * 90 + [False] * 10), 3)
    0.03
    """
    each = np.asarray(values, np.float64)
    return float(each.std() / math.sqrt(len(each)))


def paired_error(first: ArrayLike, second: ArrayLike) -> float:
    """Standard error of the difference of two means over the same queries.

    Parameters
    ----------
    first, second : array_like of shape (n,)
        Whether each query was answered rightly; over several seeds, the share of them.

    Notes
    -----
    The differences ``d_i = first_i - second_i`` are a sample too, and the standard error of their
    mean is ``sd(d) / sqrt(n)``. With truth values, b queries that the first alone has right and c
    that the second alone has, it is ``sqrt(b + c - (b - c)^2 / n) / n``: only queries on which the
    methods disagree count, as in McNemar's test [1]_, whose statistic ``(b - c)^2 / (b + c)`` is
    the square of the difference in these units but for the term ``(b - c)^2 / n``, which is there
    since here the difference need not be zero.

    References
    ----------
    .. [1] McNemar, "Note on the sampling error of the difference between correlated proportions or
       percentages", Psychometrika 12(2), 1947.

    Examples
    --------
    Of 100 queries, 80 are right by both methods, and 6 by the second alone:

    >>> from lplr.evaluation.significance import paired_error
    >>> round(paired_error([1] * 80 + [0] * 20, [1] * 86 + [0] * 14), 4)
    0.0237
    """
    return mean_error(np.asarray(first, np.float64) - np.asarray(second, np.float64))


def write_flags(flags: ArrayLike) -> str:
    """Truth values as a text for a cell of a table: four of them a hexadecimal digit.

    Examples
    --------
    >>> from lplr.evaluation.significance import read_flags, write_flags
    >>> write_flags([True, False, False, True, True])
    '98'
    >>> read_flags("98", 5).tolist()
    [True, False, False, True, True]
    """
    return np.packbits(np.asarray(flags, bool)).tobytes().hex()


def read_flags(text: str, count: int) -> np.ndarray:
    """The truth values of `write_flags`, which were so many.

    Raises
    ------
    ValueError
        If the text is none of `write_flags`, or of another number.
    """
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(text)} hexadecimal digits for {count} truth values")
    return np.unpackbits(packed, count=count).astype(bool)
