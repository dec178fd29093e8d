"""A quantizer of one's own: a callable, its range and its step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory.bounds.quantizer import uniform_step
from lplr.theory.simulate import cheap_dither, nearest, round_endless, round_to_grid
from lplr.validation.arguments import check_pair, check_real

__all__ = ["Family", "Quantizer", "quantizer_pair"]


@dataclass(frozen=True)
class Quantizer:
    """What rounds a matrix, and what the bounds need to know of it.

    Parameters
    ----------
    function : callable
        ``function(X)`` or ``function(X, rng=generator)`` returns the rounded values of X, in an
        array of the same shape. Randomness comes from ``rng`` only.
    dynamic_range : float
        Entries beyond it in magnitude saturate, and no bound speaks of them; infinite for a grid
        without ends.
    step : float
        The bounds assume errors of mean zero and variance at most ``step^2/4``: for a dithered
        quantizer, the largest distance of neighbouring points.

    Raises
    ------
    InputError
        If the range is not above 0 or the step is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory import Quantizer
    >>> integers = Quantizer(np.round, dynamic_range=np.inf, step=1.0)
    >>> integers(np.array([0.4, 1.6]), rng=np.random.default_rng(0))
    array([0., 2.])
    """

    function: Callable[..., Any]
    dynamic_range: float
    step: float

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"function: must be callable, found {self.function!r}")
        check_real(self.step, "step", strict=False)
        if not (np.isscalar(self.dynamic_range) and self.dynamic_range == np.inf):
            check_real(self.dynamic_range, "dynamic_range")

    def __call__(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rounded values of X, in float64.

        Parameters
        ----------
        X : ndarray, float64
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of the shape of X

        Raises
        ------
        InputError
            If the function returns values of another shape, or what are no finite real numbers.
        """
        given = {"rng": rng} if _takes_rng(self.function) else {}
        values = np.asarray(self.function(X.copy(), **given))
        if values.dtype.kind not in "fiub":
            raise InputError(f"quantizer: must make real numbers, found dtype {values.dtype}")
        values = values.astype(np.float64)
        if values.shape != X.shape or not np.isfinite(values).all():
            raise InputError(
                f"quantizer: of a matrix of shape {X.shape} it made values of shape "
                f"{values.shape}, {np.count_nonzero(~np.isfinite(values))} of them not finite"
            )
        return values

    def saturates(self, X: np.ndarray) -> bool:
        """Whether an entry is beyond the range.

        Parameters
        ----------
        X : ndarray

        Returns
        -------
        bool

        Examples
        --------
        >>> import numpy as np
        >>> from lplr.theory import Quantizer
        >>> Quantizer(np.round, dynamic_range=4.0, step=1.0).saturates(np.array([1.0, -5.0]))
        True
        """
        return bool(np.abs(X).max() > self.dynamic_range)


Family = Callable[[int, float], Quantizer]  # of bits and a range


def _takes_rng(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, rng=None)
    except (TypeError, ValueError):  # ValueError: a function of NumPy
        return False
    return True


def _uniform(dithered: bool, ends: bool) -> Family:
    """The paper's quantizer: 2^bits points from -range to range, or these continued without end."""

    def family(bits: int, dynamic_range: float) -> Quantizer:
        step = uniform_step(bits, dynamic_range)

        def function(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            dither = cheap_dither(rng) if dithered else nearest
            if ends:
                return round_to_grid(X, bits, dither, dynamic_range).values
            return round_endless(X, step, dither)

        return Quantizer(function, dynamic_range if ends else np.inf, step)

    return family


_DITHERED = {"dithered": True, "nearest": False}


def quantizer_pair(quantizer: Any) -> tuple[Quantizer | Family, Quantizer | Family]:
    """The quantizers of L and of R, or the families that they come from.

    Parameters
    ----------
    quantizer : str, Quantizer, callable, or a pair of these
        As in `lplr.theory.compare_bounds`.
    """
    left, right = check_pair(quantizer, "quantizer")
    # W* has heavy tails; as in the theorems, its quantizer has a step, and room for any value.
    return _one(left, ends=True), _one(right, ends=False)


def _one(given: Any, ends: bool) -> Quantizer | Family:
    if isinstance(given, str) and given in _DITHERED:
        return _uniform(_DITHERED[given], ends)
    if not callable(given):
        raise InputError(
            f"quantizer: must be one of {', '.join(_DITHERED)}, a Quantizer, or a function of "
            f"(bits, dynamic_range) that returns one; found {given!r}"
        )
    if not isinstance(given, Quantizer) and not _takes_two(given):
        raise InputError(
            "quantizer: what rounds a matrix goes into Quantizer(function, dynamic_range, step), "
            "since the bounds need both; a function here is one of (bits, dynamic_range)"
        )
    return given


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(4, 1.0)
    except TypeError:
        return False
    except ValueError:  # a function of NumPy
        pass
    return True
