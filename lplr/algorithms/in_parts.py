"""``out=``: a result in parts, which is written to a folder as it is made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from lplr.exceptions import InputError
from lplr.provenance import arguments_of, versions
from lplr.sources import open_source
from lplr.storage.container import load
from lplr.storage.folder_writer import new_folder
from lplr.storage.output import new_path
from lplr.streaming.results import FolderResults
from lplr.validation.matrices import is_operator, is_sparse

__all__ = ["Output", "in_parts"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Output:
    """What ``out`` may be in place of a name, where more is asked for.

    Parameters
    ----------
    path : str or path
    overwrite : bool
        Whether a folder of parts that is there is replaced.
    attrs : callable
        ``attrs(f)`` says what to record of the matrix that is made, before its folder has the name.
    """

    path: Any
    overwrite: bool = False
    attrs: Callable[[Any], Mapping[str, Any]] = lambda f: {}


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
        asked = given["out"] if isinstance(given["out"], Output) else Output(given["out"])
        out = new_folder(asked.path, True) if asked.overwrite else new_path(asked.path)
        A = given[matrix]
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
            "versions": versions(),
        }
        with FolderResults(out, call) as results:
            given["out"] = results
            if given["rng"] is None and cast(Any, fn).draws(given):
                given["rng"] = results.seed()
            f = fn(*bound.args, **bound.kwargs)
            results.finish(cast(Any, f), asked.attrs(f), asked.overwrite)
        return load(out)

    return wrapper
