"""What a simulation is told and what it reports: statements, outcomes of trials, cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lplr.validation import check_choice

__all__ = ["KINDS", "QUANTILES", "Cell", "Outcome", "Setting", "Statement", "Trial"]

KINDS = ("expectation", "always", "identity")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the measured values, kept for each cell

Setting = Mapping[str, Any]


class Outcome(NamedTuple):
    """What one trial found.

    Parameters
    ----------
    value : float
        Measured, not negative (up to rounding).
    bound : float
        May be random: the mean of ``value - bound`` is what is tested.
    saturated : bool
        Whether an assumption of the statement failed in this trial: a quantizer left its range.
    rounding : float
        Absolute rounding error of ``value - bound`` beyond 1e-12 of either: that of a small
        difference of large numbers.

    Examples
    --------
    >>> from lplr.theory.montecarlo import Outcome
    >>> Outcome(value=0.9, bound=1.0).saturated
    False
    """

    value: float
    bound: float
    saturated: bool = False
    rounding: float = 0.0


Trial = Callable[[np.random.Generator], Outcome]


@dataclass(frozen=True)
class Statement:
    """A statement of a paper and how to put it to the test.

    Parameters
    ----------
    name : str
        Short, as on a command line.
    title : str
        What it says, in a line.
    source : str
        Paper and number.
    kind : {"expectation", "always", "identity"}
        ``"expectation"``: the mean of value is at most that of bound; ``"always"``: each value is
        at most its bound; ``"identity"``: each value equals its bound.
    prepare : callable
        ``prepare(setting, rng)`` draws what all trials of a cell share, such as the matrix, and
        returns the trial: ``trial(rng) -> Outcome``. Neither may depend on anything else: other
        processes run copies of them.
    grid : tuple of dict
        Settings of the default run: int, float and str by name.
    full : tuple of dict
        Further settings, of real matrices.

    Examples
    --------
    >>> from lplr.theory.montecarlo import Outcome, Statement
    >>> coin = Statement(
    ...     "coin", "a coin shows heads at most half the time", "folklore", "expectation",
    ...     prepare=lambda setting, rng: lambda rng: Outcome(float(rng.integers(2)), 0.5),
    ...     grid=({"side": "heads"},),
    ... )
    >>> coin.kind
    'expectation'
    """

    name: str
    title: str
    source: str
    kind: str
    prepare: Callable[[Setting, np.random.Generator], Trial]
    grid: tuple[Setting, ...]
    full: tuple[Setting, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self.kind, "kind", KINDS)


@dataclass(frozen=True)
class Cell:
    """A statement at one setting, after its trials.

    Parameters
    ----------
    statement : str
    setting : dict
    trials : int
    mean, standard_error : float
        Of the measured values.
    bound : float
        Mean of the bound, which may be random.
    ratio : float
        mean / bound; NaN where the bound is 0 or below rounding errors.
    quantiles : tuple of float
        Of the measured values at `QUANTILES`, each within 0.54 % of an order statistic.
    worst : float
        Largest value / bound of a single trial; NaN likewise.
    saturated : int
        Trials in which an assumption failed.
    p_value : float
        Of the one-sided test of an ``"expectation"``; NaN for other kinds.
    verdict : {"holds", "refuted", "assumption not met"}
    """

    statement: str
    setting: dict[str, Any]
    trials: int
    mean: float
    standard_error: float
    bound: float
    ratio: float
    quantiles: tuple[float, ...]
    worst: float
    saturated: int
    p_value: float
    verdict: str
