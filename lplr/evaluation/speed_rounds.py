"""One measurement of ``lplr bench speed``: competitors in turn, and a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

from lplr.evaluation.resources import in_turn, threads
from lplr.parallel import n_threads

__all__ = ["Row", "timed"]

Row = dict[str, Any]


def timed(
    benchmark: str,
    matrix: str,
    runs: Mapping[str, Callable[[], Any]],
    rounds: int,
    errors: Mapping[str, float | None],
    reference: str | None = None,
    count: int | None = None,
) -> Iterator[Row]:
    """A row for each of some competitors, after a turn of each that does not count."""
    count = count or n_threads()
    with threads(count):
        in_turn(runs, 1)
        medians = {what: median(found) for what, found in in_turn(runs, rounds).items()}
    for what, seconds in medians.items():
        yield {
            "benchmark": benchmark,
            "matrix": matrix,
            "what": what,
            "threads": count,
            "seconds": seconds,
            "ratio": seconds / medians[reference] if reference else None,
            "error": errors.get(what),
        }
