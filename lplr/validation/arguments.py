"""The gate of all arguments but matrices, behind which everything trusts its input.

Each check returns the value that it accepts, or raises an InputError that names the argument, says
what was found and what to do.
"""

from __future__ import annotations

import operator
import sys
import warnings
from numbers import Real
from typing import Any

import numpy as np

from lplr.exceptions import BudgetWarning, InputError

__all__ = [
    "check_bits",
    "check_budget",
    "check_choice",
    "check_factor",
    "check_flag",
    "check_integer",
    "check_pair",
    "check_rank",
    "check_real",
    "check_rng",
    "recorded_seed",
    "tuple_of",
    "warn_caller",
]


def check_integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    """An integer of any integer type within [low, high]; booleans are refused."""
    allowed = f"at least {low}" if high is None else f"from {low} to {high}"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}: must be an integer {allowed}, found {value!r}") from None
    if number < low or (high is not None and number > high):
        raise InputError(f"{name}: must be {allowed}, found {number}")
    return number


def check_bits(value: Any, name: str) -> float:
    """Bits per entry: from 1 to 16, whole or in quarters; an int where whole."""
    try:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
            raise TypeError
        quarters = 4 * float(value)
        if quarters != int(quarters):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{name}: must be a number of bits from 1 to 16, whole or in quarters, found {value!r}"
        ) from None
    if not 4 <= quarters <= 64:
        raise InputError(f"{name}: must be from 1 to 16, found {value!r}")
    return int(quarters) // 4 if quarters % 4 == 0 else float(value)


def check_real(value: Any, name: str, *, low: float = 0.0, strict: bool = True) -> float:
    """A finite number above ``low``, or not below it where ``strict`` is False."""
    bound = f"above {low:g}" if strict else f"at least {low:g}"
    if isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: must be a number {bound}, found {value!r}")
    number = _number(value, name, f"a number {bound}")
    if not np.isfinite(number) or number < low or (strict and number == low):
        raise InputError(f"{name}: must be finite and {bound}, found {number}")
    return number


def _number(value: Any, name: str, what: str) -> float:
    """The float of what is no text and no array."""
    try:
        text = isinstance(value, (str, bytes))
        if text or getattr(value, "ndim", 0) != 0 or isinstance(value, np.ma.MaskedArray):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: must be {what}, found {value!r}") from None


def check_factor(value: Any, name: str = "factor") -> float:
    """A number of any sign and size; whoever multiplies by it says what is out of range."""
    return _number(value, name, "a number")


def check_budget(bits_per_entry: Any, bits: float = np.inf) -> float:
    """A number of bits per entry above 0.

    BudgetWarning says that it is not below ``bits``, those that an entry takes before compression.
    """
    budget = check_real(bits_per_entry, "bits_per_entry")
    if budget >= bits:
        warn_caller(
            f"bits_per_entry: {budget:g} is not below the {bits:g} bits that an entry takes "
            "already, so nothing becomes smaller; use less",
            BudgetWarning,
        )
    return budget


def check_rank(rank: Any, shape: tuple[int, int], *, low: int = 1) -> int:
    """The rank, if a matrix of this shape can have it."""
    return check_integer(rank, "rank", low, min(shape))


def tuple_of(values: Any) -> tuple[Any, ...]:
    """The values one after the other; none of what has none."""
    try:
        return tuple(values)
    except TypeError:
        return ()


def check_pair(value: Any, name: str) -> tuple[Any, Any]:
    """The values for L and for R: those of a pair, or one for both."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2:
        raise InputError(f"{name}: give one value or two, found {value!r}")
    return both


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name}: must be one of {', '.join(choices)}; found {value!r}")
    return value


def check_flag(value: Any, name: str) -> bool:
    """The value as a bool, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name}: must be True or False, found {value!r}")
    return bool(value)


def recorded_seed(rng: Any) -> Any:
    """``rng`` itself, or for None a seed from the operating system, which can be recorded."""
    return int(np.random.SeedSequence().generate_state(1)[0]) if rng is None else rng


def check_rng(rng: Any) -> np.random.Generator:
    """A generator from an int, a generator or None, as in SPEC 7; no global state is touched."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        return np.random.default_rng()
    return np.random.default_rng(check_integer(rng, "rng", 0))


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that led here, however deep the call is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("lplr."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
