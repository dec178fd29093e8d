"""Hessians in files, as the options of ``lplr compress`` name them, and errors under them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lplr.exceptions import InputError

__all__ = ["OF", "TITLES", "as_hessian", "errors_of", "hessians_of", "read_hessians"]

# Of the inputs of a layer and of its outputs: the options for one matrix, and for many by name.
OF = {"hessian": "hessians", "output_hessian": "output_hessians"}

# What is measured of a packed matrix: without weights, under H, and under G and the H that it has.
TITLES = {
    "relative_error": "error",
    "relative_error_under_hessian": "under H",
    "relative_error_under_output_hessian": "under H, G",
}


class _Hessians(Mapping[str, Any]):
    """Hessians by name, each read when it is looked up."""

    def __init__(self, names: list[str], read: Callable[[str], Any]) -> None:
        self.names, self.read = names, read

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def hessians_of(args: argparse.Namespace) -> dict[str, Mapping[str, Any]]:
    """The Hessians of many matrices by name, in the files that options name, by argument."""
    given = {many: getattr(args, many) for many in OF.values()}
    return {many: _of_file(path, many) for many, path in given.items() if path is not None}


def _of_file(path: str, argument: str) -> Mapping[str, Any]:
    """The Hessians of a file by name; of output moments, those of the outputs."""
    from lplr.inputs import ArrayFile, safetensors

    file = ArrayFile(path)
    texts = safetensors.metadata(path) if path.lower().endswith(".safetensors") else {}
    if argument == "output_hessians" and "output_moments" in texts:
        from lplr.models.moments_file import open_moments

        moments = open_moments(path)
        return _Hessians(moments.layers, moments.output_moment)
    return _Hessians(list(file), lambda name: as_hessian(file[name].array))


def as_hessian(array: Any) -> Any:
    """A Hessian from a file: a matrix of one row or column is a diagonal."""
    return array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array


def read_hessians(args: argparse.Namespace) -> dict[str, Any]:
    """The Hessians in files, or of files of many those of this matrix, by argument."""
    from lplr.inputs import read_input

    found, by_name = {}, hessians_of(args)
    for one, many in OF.items():
        if (name := getattr(args, one)) is not None:
            found[one] = as_hessian(read_input(name).array)
        elif many in by_name:
            found[one] = _of_this(args, by_name[many], many)
    return found


def _of_this(args: argparse.Namespace, hessians: Mapping[str, Any], argument: str) -> Any:
    """The Hessian of one matrix of a file."""
    from lplr.algorithms.collection import matched
    from lplr.inputs import ArrayFile, split_input

    file, member = split_input(args.input)
    names = list(ArrayFile(file))
    name = member if member in names else member.strip("/") or names[0]
    of = matched(hessians, names, argument)
    if name not in of:
        path = getattr(args, argument)
        raise InputError(f"{argument}: {path} has none for {name!r}; leave the option out")
    return hessians[of[name]]


def errors_of(f: Any, A: Any, hessian: Any = None, output_hessian: Any = None) -> dict[str, float]:
    """The relative errors of a packed matrix, of those in `TITLES` that there are weights for."""
    found = {"relative_error": f.relative_error(A)}
    if hessian is not None:
        found["relative_error_under_hessian"] = f.relative_error(A, hessian)
    if output_hessian is not None:
        error = f.relative_error(A, hessian, output_hessian)
        found["relative_error_under_output_hessian"] = error
    return found
