"""The campaigns by name, and a run of some of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from lplr.exceptions import InputError
from lplr.progress import parts
from lplr.selftest.trials import GUARANTEES, Scale, Trial, described
from lplr.storage.temporary import temporary_folder

__all__ = ["CAMPAIGNS", "Line", "run", "selected"]


class _Campaign(NamedTuple):
    """The guarantees that it tries to break, and the seconds of its long form on two threads."""

    guarantees: str
    seconds: int


# Each is a module of this room.
CAMPAIGNS = {
    "mutants": _Campaign("G2 G4 G5 G6", 60),
    "loading": _Campaign("G5", 2),
    "hostile": _Campaign("G2 G4 G5 G6", 28),
    "forgeries": _Campaign("G2 G4 G5 G6", 53),
    "pages": _Campaign("G6", 4),
    "numbers": _Campaign("G6 G10", 122),
    "kills": _Campaign("G1 G3", 175),
    "determinism": _Campaign("G7", 52),
    "limits": _Campaign("G9", 94),
    "crashes": _Campaign("G1 G3", 35),
    "faults": _Campaign("G1 G6", 236),
    "signals": _Campaign("G1 G6", 255),
    "rivals": _Campaign("G1 G2 G3 G8", 83),
}
_KEPT = 20  # failures of a line that are told; all are counted


@dataclass
class Line:
    """What came of one kind of attempt: a line of the table."""

    campaign: str
    guarantees: str
    what: str
    trials: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, trial: Trial, seconds: float) -> None:
        """Count a trial."""
        self.trials += trial.count
        self.seconds += seconds
        if trial.failure:
            self.failed += trial.count
            self.failures = [*self.failures, trial.failure][:_KEPT]


def selected(only: Collection[str] = ()) -> list[str]:
    """The campaigns of these names or guarantees; all of them if there are none.

    Parameters
    ----------
    only : collection of str
        Such as "mutants" and "G4".

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If one is neither a campaign nor a guarantee.

    Examples
    --------
    >>> from lplr.selftest.run import selected
    >>> "mutants" in selected(["G2"])
    True
    """
    known = {*CAMPAIGNS, *GUARANTEES}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise InputError(
            f"only: there is no {unknown[0]!r}; there are the campaigns {', '.join(CAMPAIGNS)} and "
            f"the guarantees {', '.join(GUARANTEES)}"
        )
    return [
        name
        for name, campaign in CAMPAIGNS.items()
        if not only or not {name, *campaign.guarantees.split()}.isdisjoint(only)
    ]


def run(names: Collection[str], scale: Scale) -> Iterator[list[Line]]:
    """Run campaigns, one after the other, in temporary folders that are removed.

    Parameters
    ----------
    names : collection of str
        Keys of `CAMPAIGNS`.
    scale : Scale

    Yields
    ------
    list of Line
        What a campaign tried of each guarantee, as soon as it ends.

    Examples
    --------
    >>> from lplr.selftest.run import run
    >>> from lplr.selftest.trials import Scale
    >>> list(run([], Scale()))
    []
    """
    for name in parts(list(names), [CAMPAIGNS[name].seconds for name in names], what=str):
        yield _run(name, scale)


def _run(name: str, scale: Scale) -> list[Line]:
    """The lines of one campaign; one that breaks off has failed."""
    lines: dict[tuple[str, str], Line] = {}
    with temporary_folder() as folder:
        start = time.perf_counter()
        for trial in _trials(name, scale, folder):
            key = trial.guarantees, trial.what
            line = lines.setdefault(key, Line(name, *key))
            line.add(trial, time.perf_counter() - start)
            start = time.perf_counter()
    return sorted(lines.values(), key=lambda line: line.what)


def _trials(name: str, scale: Scale, folder: Path) -> Iterator[Trial]:
    campaign: Callable[[Scale, Path], Iterator[Trial]] = import_module(
        f"lplr.selftest.{name}"
    ).campaign
    try:
        yield from campaign(scale, folder)
    except Exception as error:  # a campaign is not over before its end
        what = f"the campaign {name} itself"
        yield Trial(CAMPAIGNS[name].guarantees, what, f"{described(error)} (seed {scale.seed})")
