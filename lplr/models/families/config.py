"""Values of a config.json, each checked as it is read; InputError names the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lplr.exceptions import InputError
from lplr.validation.matrices import LARGEST, SMALLEST

__all__ = ["MAX_BLOCKS", "choice", "flag", "multiple", "number", "refuse"]

MAX_BLOCKS = 10_000  # tens of times those of any network, and still listed in a second


def number(
    config: Mapping[str, Any],
    name: str,
    default: float | None = None,
    kind: type[int] | type[float] = int,
    most: float = 2**31 - 1,
) -> Any:
    """A positive number: a float that can be divided by, or a whole one up to ``most``.

    That is by default the largest that files have room for.
    """
    value = _value(config, name, default)
    if kind is float and type(value) in (int, float) and SMALLEST <= value <= LARGEST:
        return float(value)
    if kind is int and type(value) is int and 0 < value <= most:
        return value
    what = f"whole number up to {most:,}" if kind is int else f"number up to {LARGEST:g}"
    raise InputError(f"config.json: {name} must be a positive {what}, found {value!r:.80}")


def flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    """Whether it is so."""
    value = _value(config, name, default)
    if type(value) is not bool:
        raise InputError(f"config.json: {name} must be true or false, found {value!r}")
    return value


def choice(config: Mapping[str, Any], name: str, known: Iterable[str], default: str) -> str:
    """One of the names that are known."""
    value = _value(config, name, default)
    if value not in (names := tuple(known)):
        raise InputError(f"config.json: {name} {value!r} is unknown; there are {', '.join(names)}")
    return str(value)


def multiple(large: int, small: int, name: str, other: str) -> int:
    """``large / small``, which must be a whole number."""
    if large % small:
        raise InputError(f"config.json: {name} {large} must be a multiple of {other} {small}")
    return large // small


def refuse(config: Mapping[str, Any], *names: str) -> None:
    """What other networks of the same type have and this package has not."""
    for name in names:
        if config.get(name):
            raise InputError(f"config.json: {name} {config[name]!r} is not supported")


def _value(config: Mapping[str, Any], name: str, default: Any) -> Any:
    value = config.get(name)
    return default if value is None else value
