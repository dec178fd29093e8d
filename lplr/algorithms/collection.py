"""Many matrices by name, looked up one at a time: their Hessians, and what is wrong with them."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lplr.exceptions import DampingWarning, InputError, LplrError, LplrWarning
from lplr.linalg.hessian import regularized
from lplr.planning.work import compression_work
from lplr.progress import parts
from lplr.sources import Source, is_source, open_source
from lplr.streaming.limits import streamed_source
from lplr.validation.arguments import warn_caller
from lplr.validation.matrices import as_array, check_matrix

__all__ = ["Collection", "Found", "Survey", "collected", "matched", "survey", "with_sources"]

_WEIGHT = ".weight"  # what networks append to the name of a layer for that of its matrix


@dataclass(frozen=True)
class Collection:
    """The names of matrices, how to look one up and its Hessians or None, and what errors say."""

    names: list[str]
    matrix: Callable[[str], Any]
    hessian: Callable[[str], Any]
    output_hessian: Callable[[str], Any]
    label: Callable[[str], str]

    def look_up(self, name: str) -> tuple[Any, Any, Any]:
        """A matrix, the Hessian of its inputs and that of its outputs."""
        return self.matrix(name), self.hessian(name), self.output_hessian(name)


def collected(matrices: Any, hessians: Any = None, output_hessians: Any = None) -> Collection:
    """The matrices of a mapping, or of a sequence, where pairs have their Hessians with them.

    Raises
    ------
    InputError
        If there are none, or the arguments are no such collections.
    """
    given = {"hessians": hessians, "output_hessians": output_hessians}
    if isinstance(matrices, Mapping):
        items = _of_mapping(matrices, **given)
    elif isinstance(matrices, (str, bytes, np.ndarray)) or not isinstance(matrices, Sequence):
        raise InputError(
            "matrices: must be a mapping of names to matrices, or a list of matrices or pairs, "
            f"found {type(matrices).__name__}"
        )
    elif named := [argument for argument, of in given.items() if of is not None]:
        pairs = ", or a list of pairs" if named == ["hessians"] else ""
        raise InputError(f"{named[0]}: go by names; pass a mapping of matrices{pairs}")
    else:
        items = _of_sequence(matrices)
    if not items.names:
        raise InputError("matrices: is empty; pass at least one")
    return items


def _of_mapping(matrices: Mapping[str, Any], hessians: Any, output_hessians: Any) -> Collection:
    if wrong := [name for name in matrices if not isinstance(name, str)]:
        raise InputError(f"matrices: a name must be text, found {wrong[0]!r}; use str(name)")
    return Collection(
        list(matrices),
        lambda name: matrices[name],
        _by_name(hessians, list(matrices), "hessians"),
        _by_name(output_hessians, list(matrices), "output_hessians"),
        lambda name: f"matrices[{name!r}]",
    )


def _by_name(hessians: Any, names: list[str], argument: str) -> Callable[[str], Any]:
    """The Hessian of a matrix, or None."""
    if hessians is None:
        return lambda name: None
    if not isinstance(hessians, Mapping):
        raise InputError(
            f"{argument}: must be a mapping of names to Hessians, found {type(hessians).__name__}"
        )
    if wrong := [name for name in hessians if not isinstance(name, str)]:
        raise InputError(f"{argument}: a name must be text, found {wrong[0]!r}; use str(name)")
    of = matched(hessians, names, argument)
    return lambda name: hessians[of[name]] if name in of else None


def _of_sequence(matrices: Sequence[Any]) -> Collection:
    def pair(name: str) -> tuple[Any, Any]:
        item = matrices[int(name)]
        return item if isinstance(item, tuple) and len(item) == 2 else (item, None)

    return Collection(
        [str(i) for i in range(len(matrices))],
        lambda name: pair(name)[0],
        lambda name: pair(name)[1],
        lambda name: None,
        lambda name: f"matrices[{name}]",
    )


def matched(
    hessians: Iterable[str], names: Sequence[str], argument: str = "hessians"
) -> dict[str, str]:
    """Which Hessian belongs to which matrix, by their names.

    Parameters
    ----------
    hessians : iterable of str
        The name of a matrix, or that name without ".weight" at its end.
    names : sequence of str
        Of the matrices.
    argument : str
        What an error calls the Hessians.

    Returns
    -------
    dict of str to str
        The name of its Hessian for each matrix that has one.

    Raises
    ------
    InputError
        If a Hessian has the name of no matrix; the message lists names that look alike.

    Examples
    --------
    >>> from lplr.algorithms.collection import matched
    >>> matched(["up", "down.weight"], ["up.weight", "down.weight", "norm.weight"])
    {'up.weight': 'up', 'down.weight': 'down.weight'}
    """
    known, hessians = set(names), list(hessians)
    found = {name: name for name in hessians if name in known}
    wrong = []
    for short in (name for name in hessians if name not in known):
        if short + _WEIGHT in known:
            found.setdefault(short + _WEIGHT, short)
        else:
            bare = {name.removesuffix(_WEIGHT): name for name in names}
            near = difflib.get_close_matches(short.removesuffix(_WEIGHT), bare, n=2, cutoff=0.5)
            said = ", ".join(bare[name] for name in near)
            wrong.append(repr(short) + (f" (near: {said})" if said else ""))
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"{argument}: there is no matrix of the name {', '.join(wrong[:5])}{more}; "
            "rename these or leave them out"
        )
    return {name: found[name] for name in names if name in found}


@dataclass(frozen=True)
class Found:
    """A matrix that can be compressed: its shape, dtype and bytes, and which Hessians it has."""

    shape: tuple[int, int]
    dtype: str
    nbytes: int
    hessian: bool
    output_hessian: bool


@dataclass(frozen=True)
class Survey:
    """What a first look at every array found, by name, in their order.

    Parameters
    ----------
    matrices : dict of str to Found
        That can be compressed.
    kept : dict of str to str
        Why an array is kept as it is.
    wrong : dict of str to str
        Why a matrix cannot be compressed.
    wrong_hessians : dict of str to dict of str to str
        Why the Hessian of a matrix cannot be used, by argument: "hessians", "output_hessians".
    """

    matrices: dict[str, Found] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    wrong_hessians: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def entries(self) -> list[int]:
        """Entries of each matrix that can be compressed."""
        return [n * d for n, d in (matrix.shape for matrix in self.matrices.values())]

    def coding_work(self, effort: str) -> list[float]:
        """How long compressing each takes, in the unit of `lplr.planning.work`."""
        return [
            compression_work(m.shape, m.hessian, effort, m.output_hessian)
            for m in self.matrices.values()
        ]

    @property
    def bits(self) -> float:
        """Bits of their entries, in the mean."""
        return 8 * sum(m.nbytes for m in self.matrices.values()) / sum(self.entries)


def with_sources(items: Collection) -> Collection:
    """The same where matrices may be files and the like: a `Source` that other processes open.

    Of anything else that is read in blocks, an array.
    """

    def matrix(name: str) -> Any:
        A = items.matrix(name)
        if not isinstance(A, (str, os.PathLike)) and (not is_source(A) or _reason_to_keep(A)):
            return A
        source = open_source(A, items.label(name))
        if source.is_elsewhere:
            return source
        if streamed_source(source, None) is not None:
            raise InputError(
                f"{name}: takes too much memory to be sent to another process; pass the name of a "
                "file, or use lplr.compress"
            )
        return np.asarray(source)

    return replace(items, matrix=matrix)


def survey(items: Collection) -> Survey:
    """Look at every array once: what will be compressed, and all that is wrong, before any work.

    Matrices of floating-point numbers with at least two rows and two columns are compressed. Other
    arrays (biases, indices, stacks of kernels) are kept.
    """
    found = Survey()
    for name in parts(items.names, what=lambda name: f"checking {name}"):
        _look_at(name, items, found)
    return found


def _look_at(name: str, items: Collection, found: Survey) -> None:
    try:
        array = items.matrix(name)
        if isinstance(array, Source):  # which is read where it is compressed
            why = ""
        else:
            array = as_array(array, name)
            why = _reason_to_keep(array)
            if not why:
                check_matrix(array, name)
    except LplrError as error:
        found.wrong[name] = str(error).removeprefix(f"{name}: ")
        return
    n, d = array.shape if not why else (0, 0)
    given, wrong = [], False
    for argument, look_up, size in (
        ("hessians", items.hessian, d),
        ("output_hessians", items.output_hessian, n),
    ):
        try:
            hessian = look_up(name)
            given.append(hessian is not None)
            if hessian is None:
                continue
            if why:
                said = f"{argument}[{name!r}]: is not used; the array is kept as it is ({why})"
                warn_caller(said, LplrWarning)
            else:
                _check_hessian(hessian, size, name, argument)
        except LplrError as error:
            found.wrong_hessians.setdefault(argument, {})[name] = _bare(error, argument)
            wrong = True
    if why:
        found.kept[name] = why
    elif not wrong:
        found.matrices[name] = Found((n, d), array.dtype.name, n * d * array.dtype.itemsize, *given)


def _check_hessian(hessian: Any, size: int, name: str, argument: str) -> None:
    """Refuse what is no Hessian, and warn of one that is poor, by the name of its matrix."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", DampingWarning)
        regularized(hessian, size, argument.removesuffix("s"))
    for warning in said:
        warn_caller(f"{argument}[{name!r}]: {_bare(warning.message, argument)}", DampingWarning)


def _bare(message: object, argument: str) -> str:
    """What is said of a Hessian, whose name stands elsewhere."""
    return str(message).removeprefix(f"{argument.removesuffix('s')}: ")


def _reason_to_keep(array: Any) -> str:
    """Why an array is no matrix to compress; empty if it is one."""
    if len(array.shape) != 2:
        return f"{len(array.shape)} dimension{'s' * (len(array.shape) != 1)}"
    if min(array.shape) < 2:
        return f"{array.shape[0]} x {array.shape[1]}"
    return "" if array.dtype.kind == "f" else array.dtype.name
