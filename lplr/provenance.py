"""The record that every result has of the call that made it, complete enough to repeat it."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from lplr._version import __version__
from lplr.exceptions import InputError
from lplr.parallel import reproducible
from lplr.progress import tracked
from lplr.validation.arguments import recorded_seed

__all__ = ["arguments_of", "as_call", "generator", "recorded", "versions"]

_OUTSIDE = ("callback", "client", "memory_limit", "out", "progress")  # what no result depends on
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")  # no other name is called
_P = ParamSpec("_P")
_R = TypeVar("_R")


def recorded(
    draws: Callable[[Mapping[str, Any]], bool] = lambda arguments: True,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A decorator of the functions that return packed matrices: it records their calls.

    The function runs inside `lplr.parallel.reproducible` and, if it takes ``progress``, inside
    `lplr.progress.tracked`. The ``meta`` of its result gains ``call``, a dict of ``function`` (its
    public name) and ``arguments`` (all but the matrix, ``callback``, ``client``, ``memory_limit``,
    ``out`` and ``progress``, with their defaults), and ``versions``. A ``hessian`` is recorded as
    its shape and SHA-256, a generator as its state before the call, and a seed that was drawn
    because ``rng`` is None as that seed.

    Parameters
    ----------
    draws : callable
        Whether a call with these arguments draws random numbers; if not, no seed is drawn.

    Returns
    -------
    callable
        Decorates a function that takes the matrix first, and ``rng``, and returns a dataclass with
        ``meta``.
    """

    def decorate(fn: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(fn)
        matrix = next(iter(signature.parameters))

        @functools.wraps(fn)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            if draws(given):
                given["rng"] = recorded_seed(given["rng"])
            rng = _rng(given["rng"])  # before the call changes the state
            with tracked(given.get("progress", False), fn.__name__), reproducible():
                result = cast(Any, fn(*bound.args, **bound.kwargs))
            arguments = {**arguments_of(given, matrix), "rng": rng}
            call = {"function": f"lplr.{fn.__name__}", "arguments": arguments}
            return replace(result, meta={"call": call, **result.meta, "versions": versions()})

        cast(Any, wrapper).draws = draws
        return wrapper

    return decorate


def arguments_of(given: Mapping[str, Any], matrix: str) -> dict[str, Any]:
    """The arguments of a call on which its result depends, as JSON holds them.

    ``matrix`` is the name of the matrix, which is not among them.
    """
    return {
        name: _rng(value) if name == "rng" else _argument(name, value)
        for name, value in given.items()
        if name not in (matrix, *_OUTSIDE)
    }


def _argument(name: str, value: Any) -> Any:
    """An argument as JSON holds it; of a Hessian its shape and a digest."""
    if name in ("hessian", "output_hessian") and value is not None:
        try:
            array = np.ascontiguousarray(value)
        except ValueError as error:
            raise InputError(f"{name}: is not an array: {error}") from None
        digest = hashlib.sha256(array.data).hexdigest()
        return {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}
    if isinstance(value, (tuple, list)):
        return [_argument(name, item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    known = isinstance(value, (bool, int, float, str))
    # A fraction, say; a class is none, whatever its instances are.
    return float(value) if hasattr(type(value), "__float__") and not known else value


def _rng(rng: Any) -> Any:
    """A seed, or the state of a generator, as JSON holds it."""
    if isinstance(rng, np.random.Generator):
        return _state(rng.bit_generator.state)
    return _argument("rng", rng)


def _state(value: Any) -> Any:
    """The state of a generator as JSON holds it."""
    if isinstance(value, Mapping):
        return {key: _state(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return int(value) if isinstance(value, np.integer) else value


def generator(record: Mapping[str, Any]) -> np.random.Generator:
    """The generator of a record, in the state in which it was passed.

    Parameters
    ----------
    record : mapping
        ``meta["call"]["arguments"]["rng"]`` of a result that was made with a generator.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    InputError
        If it is the record of anything else, which a file may have.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.provenance import generator
    >>> q = lplr.quantize(np.eye(3), bits=2, rounding="dithered", rng=np.random.default_rng(7))
    >>> generator(q.meta["call"]["arguments"]["rng"]).random() == np.random.default_rng(7).random()
    True
    """
    try:
        kind = record["bit_generator"]
        if kind not in _BIT_GENERATORS:
            raise ValueError(f"there is no generator {kind!r}")
        bits = getattr(np.random, kind)()
        bits.state = record
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"record: is not that of a generator of NumPy: {error}") from error
    return np.random.Generator(bits)


def as_call(
    meta: Mapping[str, Any], matrix: str = "A", hessian: str = "H", output_hessian: str = "G"
) -> str:
    """The call that makes an object again, as Python text; empty if its ``meta`` has none.

    Parameters
    ----------
    meta : mapping
        The record of the object.
    matrix, hessian, output_hessian : str
        Names that stand for the arrays.

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.provenance import as_call
    >>> as_call(lplr.quantize(np.eye(3), bits=2).meta)
    "lplr.quantize(A, bits=2, quantizer='uniform', granularity='tensor', ...)"
    """
    if "call" not in meta:
        return ""
    said = [matrix]
    for name, value in meta["call"]["arguments"].items():
        if isinstance(value, Mapping):
            arrays = {"hessian": hessian, "output_hessian": output_hessian}
            stands_for = arrays.get(name, "lplr.provenance.generator(...)")
            said.append(f"{name}={stands_for}")
        else:
            said.append(f"{name}={tuple(value) if isinstance(value, list) else value!r}")
    return f"{meta['call']['function']}({', '.join(said)})"


def versions() -> dict[str, str]:
    """The versions that a repetition needs, by package."""
    import numba
    import scipy

    return {
        "lplr": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
    }
