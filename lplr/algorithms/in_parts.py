"""``out=``: a result in parts, which is written to a folder as it is made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from lplr._version import __version__
from lplr.exceptions import InputError
from lplr.provenance import arguments_of
from lplr.sources import open_source
from lplr.storage.container import load
from lplr.storage.output import new_path
from lplr.streaming.results import FolderResults
from lplr.validation import is_operator, is_sparse

__all__ = ["in_parts"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def in_parts(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """A decorator of `recorded` functions that take ``out``.

    Where it names a folder, the function gets the `FolderResults` in its place, and a source of the
    matrix. What is finished lies in OUT.job until all is, so that the same call goes on after an
    interrupt or a kill; a seed that was drawn is drawn once.
    """
    signature = inspect.signature(fn)
    matrix = next(iter(signature.parameters))

    @functools.wraps(fn)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if given["out"] is None:
            return fn(*args, **kwargs)
        out, A = new_path(given["out"]), given[matrix]
        if is_sparse(A) or is_operator(A):
            raise InputError(
                "out: goes with a matrix whose rows are read; leave it out for a sparse matrix or "
                "a linear operator, of which only products are taken"
            )
        source = given[matrix] = open_source(A)
        about = {"shape": list(source.shape), "dtype": source.dtype.str}
        name = cast(Any, fn).__name__
        call = {
            "function": f"lplr.{name}",
            "arguments": arguments_of(given, matrix),
            "matrix": about,
            "version": __version__,
        }
        with FolderResults(out, call) as results:
            given["out"] = results
            if given["rng"] is None and cast(Any, fn).draws(given):
                given["rng"] = results.seed()
            f = fn(*bound.args, **bound.kwargs)
            results.finish(cast(Any, f))
        return load(out)

    return wrapper
