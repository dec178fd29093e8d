"""How far a run is, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

__all__ = ["Clock", "Status"]


class Status(NamedTuple):
    """How far a run is.

    Parameters
    ----------
    statement : str
        The one being tested.
    cell, cells : int
        Cells that are finished, and all of them.
    share : float
        Of the time that is over, from 0 to 1.
    elapsed, remaining : float
        Seconds; the remaining ones are an estimate.
    """

    statement: str
    cell: int
    cells: int
    share: float
    elapsed: float
    remaining: float


class Clock:
    """Time that is over and an estimate of what is left.

    A cell is expected to take what the others of its statement took, or those of all.
    """

    def __init__(
        self, names: Sequence[str], trials: int, progress: Callable[[Status], None] | None
    ) -> None:
        self.names, self.trials, self.progress = names, trials, progress
        self.cell = 0
        self.spent: dict[str, list[float]] = {}
        self.start = self.cell_start = perf_counter()

    def tick(self, done: int) -> None:
        """So many trials of the current cell are over."""
        if self.progress is None:
            return
        now = perf_counter()
        name = self.names[self.cell]
        pace = (now - self.cell_start) * self.trials / max(done, 1)
        expected = {n: sum(t) / len(t) for n, t in self.spent.items()}
        expected.setdefault(name, pace)
        usual = sum(expected.values()) / len(expected)
        left = pace - (now - self.cell_start)
        left += sum(expected.get(n, usual) for n in self.names[self.cell + 1 :])
        elapsed = now - self.start
        share = elapsed / (elapsed + left) if left > 0 else 1.0
        self.progress(Status(name, self.cell, len(self.names), share, elapsed, left))

    def finish_cell(self) -> None:
        """The current cell is over."""
        now = perf_counter()
        self.spent.setdefault(self.names[self.cell], []).append(now - self.cell_start)
        self.cell += 1
        self.cell_start = now
