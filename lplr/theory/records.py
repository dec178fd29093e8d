"""Statements to test by simulation, the outcome of one trial, and the result of many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lplr.validation.arguments import check_choice

__all__ = [
    "KINDS",
    "QUANTILES",
    "ROUNDING",
    "VERDICTS",
    "Cell",
    "Outcome",
    "Setting",
    "Statement",
    "Trial",
]

KINDS = ("expectation", "always", "identity")
VERDICTS = ("holds", "not refuted", "refuted", "assumption not met")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the measured values, reported for each cell
# Relative rounding error of any value or bound: sums of up to 2^12 terms in float64, each of
# which may lose half a unit in the last place.
ROUNDING = 2.0**12 * np.finfo(np.float64).eps

Setting = Mapping[str, Any]  # names of parameters (matrix, n, d, m, bits ...) and their values


class Outcome(NamedTuple):
    """The outcome of one trial.

    Parameters
    ----------
    value : float
        The measured quantity; not negative, up to rounding.
    bound : float
        The right-hand side of the statement. It may be random: the mean of ``value - bound`` is
        tested.
    saturated : bool
        True if a quantizer left its range in this trial, so that an assumption failed.
    rounding : float
        Absolute floating-point error of ``value - bound`` beyond 1e-12 of either; a trial states
        it where the value is a small difference of large numbers.

    Examples
    --------
    >>> from lplr.theory.records import Outcome
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
    """A statement of a paper and the simulation that tests it.

    Parameters
    ----------
    name : str
        Its function's name with hyphens, and a word more where it has several statements.
    title : str
        The statement in one line.
    source : str
        Paper and number of the theorem.
    kind : {"expectation", "always", "identity"}
        ``"expectation"``: the mean of the values is at most the mean of the bounds; ``"always"``:
        each value is at most its bound; ``"identity"``: each value equals its bound.
    prepare : callable
        ``prepare(setting, rng)`` draws what all trials of a cell share, such as the matrix, and
        returns the trial: ``trial(rng) -> Outcome``. Neither may depend on anything else: other
        processes run copies of them.
    grid : tuple of dict
        Settings of the default run: int, float and str by name.
    full : tuple of dict
        Further settings, of real matrices.
    function : str
        The function of `lplr.theory.bounds` that returns the right-hand side; empty if there is
        none.

    Examples
    --------
    >>> from lplr.theory.records import Outcome, Statement
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
    function: str = ""

    def __post_init__(self) -> None:
        check_choice(self.kind, "kind", KINDS)


@dataclass(frozen=True)
class Cell:
    """The result of all trials of a cell, that is, of one statement at one setting.

    Parameters
    ----------
    statement : str
    setting : dict
    trials : int
    mean, standard_error : float
        Mean of the measured values, and its standard error.
    bound : float
        Mean of the bounds.
    ratio : float
        mean / bound; NaN where the bound is 0 or below rounding errors.
    quantiles : tuple of float
        Quantiles of the measured values at the levels `QUANTILES`; each is one of the values.
    worst : float
        Largest value / bound of a single trial; NaN likewise.
    saturated : int
        Number of trials in which an assumption failed.
    p_value : float
        p-value of the one-sided test of an ``"expectation"``; NaN for other kinds.
    verdict : {"holds", "not refuted", "refuted", "assumption not met"}
        ``"not refuted"``: the mean is above the bound, by no more than chance explains.
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
