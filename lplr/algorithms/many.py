"""What compressing many matrices, one after the other or side by side, has in common."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np

from lplr.algorithms.collection import Collection, Survey, survey
from lplr.algorithms.compress import compress
from lplr.cluster import map_on_workers
from lplr.exceptions import BudgetWarning, DampingWarning, InputError, LplrError
from lplr.matrices.base import PackedMatrix
from lplr.processes import map_in_order
from lplr.sources import Source
from lplr.streaming.limits import memory_bytes, streamed_source
from lplr.validation.arguments import check_integer, check_rng
from lplr.validation.matrices import as_array

__all__ = ["SURVEY", "Coder", "Item", "Items", "each", "looked_at", "seed_of", "side_by_side"]

# What messages call a matrix, the matrix, its Hessians, its budget, and whether it is streamed.
Item = tuple[str, Any, Any, Any, float, bool]


SURVEY = 0.02  # share of the time that looking at every array takes, about


def seed_of(rng: Any) -> int:
    """The one seed of all matrices: an integer itself, or one that is drawn."""
    drawn = rng is None or isinstance(rng, np.random.Generator)
    return int(check_rng(rng).integers(2**63)) if drawn else check_integer(rng, "rng", 0)


def looked_at(items: Collection) -> Survey:
    """A first look at every array; InputError names all that cannot be used."""
    found = survey(items)
    wrong = [f"matrices[{name!r}]: {text}" for name, text in found.wrong.items()]
    wrong += [
        f"{argument}[{name!r}]: {text}"
        for argument, of in found.wrong_hessians.items()
        for name, text in of.items()
    ]
    if wrong:
        raise InputError("; ".join(wrong))
    if not found.matrices:
        raise InputError(
            "matrices: none of the arrays is a matrix of floating-point numbers with at least two "
            "rows and two columns; pass at least one"
        )
    return found


@dataclass(frozen=True)
class Coder:
    """`lplr.compress` with one seed and effort, wherever it is called."""

    seed: int
    effort: str

    def __call__(self, item: Item) -> PackedMatrix:
        """The packed matrix; an error names the matrix."""
        label, A, hessian, output_hessian, bits, streamed = item
        try:
            with warnings.catch_warnings():
                for said in (DampingWarning, BudgetWarning):  # by now, with a name
                    warnings.simplefilter("ignore", said)
                return compress(
                    np.asarray(A) if isinstance(A, Source) and not streamed else A,
                    bits_per_entry=bits,
                    hessian=hessian,
                    output_hessian=output_hessian,
                    rng=self.seed,
                    effort=self.effort,
                    memory_limit=memory_bytes(None) if streamed else None,
                )
        except LplrError as error:
            message = str(error).removeprefix(f"{label}: ")
            raise type(error)(f"{label}: {message}") from error


class Items(Sequence[Item]):
    """Matrices to be compressed, each looked up when it is needed."""

    def __init__(self, items: Collection, names: Sequence[str], bits: Sequence[float]) -> None:
        self.items, self.names, self.bits = items, names, bits

    def one_by_one(self) -> Iterator[tuple[Item]]:
        """Arguments of calls; no matrix is held here when the next one is looked up."""
        return ((self[i],) for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return Items(self.items, self.names[i], self.bits[i])
        name = self.names[i]
        A, *hessians = self.items.look_up(name)
        streamed = isinstance(A, Source) and streamed_source(A, None) is not None
        return self.items.label(name), A, *hessians, self.bits[i], streamed


def each(fn: Callable[..., Any], items: Iterable[tuple[Any, ...]], client: Any) -> Iterator[Any]:
    """``fn(*item)`` of each in turn, in this process or by the workers of a client."""
    return starmap(fn, items) if client is None else map_on_workers(client, fn, items)


def side_by_side(code: Coder, items: Items, client: Any) -> Iterator[PackedMatrix]:
    """The packed matrices, in order: by the workers of a client, or by processes without one."""
    if client is None:
        return map_in_order(code, items)
    return each(code, items.one_by_one(), client)


def with_kept(packed: Mapping[str, PackedMatrix], items: Collection) -> dict[str, Any]:
    """All by name, in their order: packed matrices, and other arrays as they are."""
    return {
        name: packed[name] if name in packed else as_array(items.matrix(name), name)
        for name in items.names
    }
