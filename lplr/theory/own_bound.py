"""A bound of one's own, for `lplr.theory.compare_bounds`: it is given the arguments it asks for."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory import bounds as library

__all__ = ["METHODS", "bounds_by_name", "plain", "value_of"]

# Method: the functions of `lplr.theory.bounds` on its error. They are called as one's own are.
METHODS: dict[str, tuple[str, ...]] = {
    "lplr": ("lplr_bound", "lplr_sharp_bound", "lplr_nested_bound"),
    "lplr-svd": ("lplr_svd_bound",),
    "direct-svd": ("direct_svd_bound",),
}


def bounds_by_name(bounds: Any, method: str) -> dict[str, Callable[..., Any]]:
    """The callables of `lplr.theory.compare_bounds`, by the names that they are shown under.

    Parameters
    ----------
    bounds
        As in `lplr.theory.compare_bounds`.
    method : str
        One of `METHODS`.

    Raises
    ------
    InputError
        If a name is unknown or about another method, or something is not callable.
    """
    if bounds is None:
        bounds = METHODS[method]
    elif isinstance(bounds, str) or callable(bounds):
        bounds = [bounds]
    if not isinstance(bounds, Mapping):
        try:
            bounds = _named([*bounds])
        except TypeError:
            raise InputError(
                "bounds: must be a name, a callable, or a sequence or mapping of them; "
                f"found {bounds!r}"
            ) from None
    if not bounds:
        raise InputError("bounds: is empty; leave it out for all bounds on the method")
    return {str(name): _callable(bound, method) for name, bound in bounds.items()}


def plain(name: str) -> str:
    """The name of a function of `lplr.theory.bounds`, as it is there."""
    return name.lower().replace("-", "_").removeprefix("lplr.theory.bounds.")


def _named(bounds: list[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for i, bound in enumerate(bounds, 1):
        name = _name(bound, i)
        if not isinstance(bound, str) and named.get(name, bound) is not bound:
            raise InputError(f"bounds: two are called {name}; pass {{name: bound, ...}} instead")
        named[name] = bound
    return named


def _name(bound: Any, i: int) -> str:
    if isinstance(bound, str):
        return plain(bound)
    name = getattr(bound, "__name__", "<lambda>")
    return f"bound {i}" if name == "<lambda>" else str(name)


def _callable(bound: Any, method: str) -> Callable[..., Any]:
    if callable(bound):
        bound = getattr(bound, "__name__", "") if bound in _LIBRARY else bound
    if not isinstance(bound, str):
        if callable(bound):
            return bound
        raise InputError(f"bounds: {bound!r} is neither callable nor the name of a bound")
    name, known = plain(bound), METHODS[method]
    if name in known:
        return getattr(library, name)
    for other, names in METHODS.items():
        if name in names:
            raise InputError(f"bounds: {name} is about {other}; pass method={other!r}")
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"; did you mean {near[0]}?" if near else f"; they are {', '.join(known)}"
    if name in library.__all__:
        hint = (
            f"; they are {', '.join(known)}. To draw {name}, pass a callable that returns its value"
        )
    raise InputError(f"bounds: {bound!r} is no bound on the error of {method}{hint}")


_LIBRARY = [getattr(library, name) for names in METHODS.values() for name in names]


def value_of(
    name: str, bound: Callable[..., Any], known: Mapping[str, Any], parameter: Any
) -> float:
    """The value of a bound: it is called with those arguments that it must be given.

    Parameters
    ----------
    name : str
        What an error calls it.
    bound : callable
    known : mapping
        The arguments that there are, by name.
    parameter : int
        The parameter that varies, for a bound of one argument of another name.

    Raises
    ------
    InputError
        If it asks for something else, or returns what is no bound.
    """
    args, options = _arguments(name, bound, known, parameter)
    value = bound(*args, **options)
    try:
        number = float(value)
        good = np.ndim(value) == 0 and not isinstance(value, str) and number >= 0
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(
            f"bounds: {name} returned {value!r}, and a bound on an error is a number, not negative"
        )
    return number


def _arguments(
    name: str, bound: Callable[..., Any], known: Mapping[str, Any], parameter: Any
) -> tuple[list[Any], dict[str, Any]]:
    """What a bound is called with: by position what has no name outside it, the rest by name."""
    kinds = inspect.Parameter
    parameters = inspect.signature(bound).parameters.values()
    if any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        return [], dict(known)
    open_ended = (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
    asked = [p for p in parameters if p.default is kinds.empty and p.kind not in open_ended]
    unknown = [p.name for p in asked if p.name not in known]
    given = dict(known)
    if unknown and len(asked) == 1:
        given[unknown[0]] = parameter
    elif unknown:
        raise InputError(
            f"bounds: {name} asks for {unknown[0]!r}; a bound can ask for {', '.join(known)}"
        )
    return (
        [given[p.name] for p in asked if p.kind is kinds.POSITIONAL_ONLY],
        {p.name: given[p.name] for p in asked if p.kind is not kinds.POSITIONAL_ONLY},
    )
