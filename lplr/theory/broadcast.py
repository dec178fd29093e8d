"""The one gate of the bounds: a matrix in place of its singular values, arrays in place of numbers.

A bound is written for singular values and for one value of each parameter. Its decorator makes it
take more, in the same way for every bound, so that none of them has a loop or an SVD of its own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.progress import Progress, parts, tracked
from lplr.theory.checks import n_axes, singular_values_of
from lplr.validation.matrices import check_matrix

__all__ = ["broadcast"]

_PAIRS = ("shape", "steps", "ranges")  # a tuple or a list of two is a value for each side
# What is an array, a matrix or a word as a whole. All other parameters are numbers.
_WHOLE = (
    *("singular_values", "row_norms", "rounding_errors", "A", "W", "values", "largest"),
    *("hessian", "output_hessian", "order"),
)


def broadcast(bound: Callable[..., Any]) -> Callable[..., Any]:
    """Let a bound take a matrix, and arrays of its parameters.

    Parameters
    ----------
    bound : callable
        It takes singular values and numbers.

    Returns
    -------
    callable
        It has the same parameters, and

        * ``singular_values`` or ``row_norms`` may be the matrix itself, of shape (n, d); ``shape``
          may then be left out, and what follows it is given by keyword;
        * ``shape`` may be a matrix, which stands for its shape;
        * every number may be an array, those in pairs for L and R or for n and d too. The arrays
          are broadcast, and the results have their shape, as those of a function of NumPy;
        * ``progress`` says what to hear while it works, see `lplr.progress`.

    Raises
    ------
    InputError
        If a matrix has another shape than the one that is given, or arrays cannot be broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory.bounds import lplr_bound, uniform_step
    >>> uniform_step([1, 2, 3], 2.0).round(3)
    array([4.   , 1.333, 0.571])
    >>> A = np.diag([3.0, 2.0, 1.0])
    >>> lplr_bound(A, m=np.array([[3], [4]]), steps=np.array([0.0, 0.5])).shape
    (2, 2)
    """
    parameters = tuple(inspect.signature(bound).parameters)
    numbers = [name for name in parameters if name not in _WHOLE]

    @functools.wraps(bound)
    def gate(*args: Any, progress: Progress = False, **options: Any) -> Any:
        if len(args) > len(parameters) or set(options) & set(parameters[: len(args)]):
            return bound(*args, **options)  # refuses them as Python does
        given = dict(zip(parameters, args, strict=False)) | options
        _take_matrix(given, "shape" in parameters)
        several = [name for name in numbers if _is_array(name, given.get(name))]
        with tracked(progress, bound.__name__):
            return _each(bound, given, several) if several else bound(**given)

    return gate


def _take_matrix(given: dict[str, Any], has_shape: bool) -> None:
    """Put singular values, norms of rows and a shape in the place of a matrix."""
    if n_axes(given.get("shape")) == 2 and not isinstance(given["shape"], (tuple, list)):
        given["shape"] = given["shape"].shape
    if n_axes(given.get("row_norms")) == 2:
        A = check_matrix(given["row_norms"], "row_norms", dtype=np.float64)
        given["row_norms"] = np.linalg.norm(A, axis=1)
    if n_axes(given.get("singular_values")) == 2:
        A = check_matrix(given["singular_values"], "singular_values", dtype=np.float64)
        if has_shape and not _is_shape(given.setdefault("shape", A.shape), A.shape):
            raise InputError(
                f"shape: the matrix has {A.shape}, found {given['shape']!r}; "
                "leave it out, and name the arguments after it"
            )
        given["singular_values"] = singular_values_of(A)


def _is_shape(value: Any, shape: tuple[int, int]) -> bool:
    return isinstance(value, (tuple, list)) and tuple(value) == shape


def _is_array(name: str, value: Any) -> bool:
    """Whether a number is an array instead, or one of a pair is."""
    if name in _PAIRS and isinstance(value, (tuple, list)):
        return len(value) == 2 and any(n_axes(side) > 0 for side in value)
    return n_axes(value) > 0


def _each(bound: Callable[..., Any], given: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The bound at each element of the arrays, as an array; a tuple of arrays where it has two."""
    sides = {
        name: tuple(given[name])
        if name in _PAIRS and isinstance(given[name], (tuple, list))
        else (given[name],)
        for name in names
    }
    single = [np.asarray(value) for values in sides.values() for value in values]
    try:
        arrays = np.broadcast_arrays(*single)
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in single)
        raise InputError(
            f"{', '.join(names)}: arrays of shapes {shapes} cannot be broadcast"
        ) from None
    if not arrays[0].size:
        raise InputError(f"{names[0]}: is an empty array; pass at least one value")
    results = []
    for values in parts(zip(*(array.ravel().tolist() for array in arrays), strict=True)):
        left = list(values)
        here = {
            name: left.pop(0) if len(own) == 1 else (left.pop(0), left.pop(0))
            for name, own in sides.items()
        }
        results.append(bound(**{**given, **here}))
    if isinstance(results[0], tuple):
        return tuple(_stack(part, arrays[0].shape, names) for part in zip(*results, strict=True))
    return _stack(results, arrays[0].shape, names)


def _stack(results: Sequence[Any], shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
    if len({np.shape(result) for result in results}) > 1:
        raise InputError(
            f"{', '.join(names)}: results of different lengths are no array; pass one value a call"
        )
    return np.reshape(results, shape + np.shape(results[0]))
