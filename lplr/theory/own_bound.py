"""A bound of one's own, for `lplr.theory.compare_bounds`: it is given the arguments it asks for."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.theory import bounds as library

__all__ = ["METHODS", "bounds_by_name", "value_of"]

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
            bounds = {_name(bound, i): bound for i, bound in enumerate(bounds, 1)}
        except TypeError:
            raise InputError(
                "bounds: must be a name, a callable, or a sequence or mapping of them; "
                f"found {bounds!r}"
            ) from None
    if not bounds:
        raise InputError("bounds: is empty; leave it out for all bounds on the method")
    return {str(name): _callable(bound, method) for name, bound in bounds.items()}


def _name(bound: Any, i: int) -> str:
    if isinstance(bound, str):
        return bound.replace("-", "_")
    name = getattr(bound, "__name__", "<lambda>")
    return f"bound {i}" if name == "<lambda>" else str(name)


def _callable(bound: Any, method: str) -> Callable[..., Any]:
    if callable(bound):
        bound = getattr(bound, "__name__", "") if bound in _LIBRARY else bound
    if not isinstance(bound, str):
        if callable(bound):
            return bound
        raise InputError(f"bounds: {bound!r} is neither callable nor the name of a bound")
    name, known = bound.replace("-", "_"), METHODS[method]
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
    value = bound(**_arguments(name, bound, known, parameter))
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
) -> dict[str, Any]:
    kinds = inspect.Parameter
    parameters = inspect.signature(bound).parameters.values()
    if any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        return dict(known)
    asked = [
        p.name
        for p in parameters
        if p.default is kinds.empty and p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    unknown = [one for one in asked if one not in known]
    if unknown and len(asked) == 1:
        return {unknown[0]: parameter}
    if unknown:
        raise InputError(
            f"bounds: {name} asks for {unknown[0]!r}; a bound can ask for {', '.join(known)}"
        )
    return {one: known[one] for one in asked}
