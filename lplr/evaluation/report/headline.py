"""What a results table says, in words: losses first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lplr.evaluation.report.metrics import bits_text, percent
from lplr.evaluation.report.results import Duel, Results

__all__ = ["headline"]


def headline(results: Results) -> list[str]:
    """The sentences on top of the report, losses first.

    Parameters
    ----------
    results : Results

    Returns
    -------
    list of str
    """
    name = results.default
    cases = [case for case in results.cases() if results.duels(*case)]
    if not cases:
        return [
            f"Nothing to compare: the default, {name}, and a baseline did not both run at one "
            "budget on one data set."
        ]
    said = [_about_defeats(results, cases)]
    budget = min({b for _, b in cases}, key=lambda b: (abs(math.log2(b)), b))
    duels = {d: results.duels(d, b) for d, b in cases if b == budget}
    said.append(_about_error(results, budget, duels))
    votes = _about_accuracy(duels, results.uncompressed)
    if votes:
        said.append(votes)
    return [sentence for sentence in said if sentence]


def _about_defeats(results: Results, cases: Sequence[tuple[str, float]]) -> str:
    name = results.default
    lost = [(case, found) for case in cases if (found := results.defeats(*case))]
    count = f"{len(cases)} case" + ("s" if len(cases) > 1 else "")
    if not lost:
        return (
            f"In none of {count} (a data set at a budget) is a baseline better than the default, "
            f"{name}: none has both lower error and higher accuracy, nor lower error where there "
            "are no labels."
        )
    told = []
    for (dataset, budget), found in lost:
        error, vote = found[0]
        text = f"{error.rival.method} on {dataset} at {bits_text(budget)} (error {_beside(error)}"
        told.append(text + (f"; accuracy {_beside(vote)})" if vote else ")"))
    rest = f", and {len(told) - 4} more, listed below" if len(told) > 4 else ""
    return (
        f"In {len(lost)} of {count} (a data set at a budget) a baseline is better than the "
        f"default, {name}: {', '.join(told[:4])}{rest}."
    )


def _about_error(results: Results, budget: float, duels: Mapping[str, Sequence[Duel]]) -> str:
    found = [
        duel
        for dataset, listed in duels.items()
        for duel in listed
        if duel.default.metric == results.error_name(dataset) and duel.rival.mean > 0
    ]
    if not found:
        return ""
    found.sort(key=lambda duel: duel.default.mean / duel.rival.mean)
    told = [
        f"{_against(d)} ({d.rival.method}) on {d.default.dataset}"
        for d in (found if len(found) < 4 else [found[0], found[-1]])
    ]
    ratios = [d.default.mean / d.rival.mean for d in (found[0], found[-1])]
    extent = f"{ratios[0]:.2f}" + (f" to {ratios[1]:.2f}" if len(found) > 1 else "")
    where = f"over {len(found)} data sets: " if len(found) > 3 else ""
    return (
        f"At {bits_text(budget)} an entry {results.default} leaves {extent} times the relative "
        f"error of the best baseline at equal stored bits, {where}{'; '.join(told)}."
    )


def _about_accuracy(duels: Mapping[str, Sequence[Duel]], uncompressed: Mapping[str, float]) -> str:
    told = []
    protocol = ""
    for dataset, listed in duels.items():
        duel = next((d for d in listed if d.default.metric == "accuracy"), None)
        if duel:
            protocol = protocol or duel.default.protocol
            text = f"{_against(duel)} ({duel.rival.method}) on {dataset}"
            if dataset in uncompressed:
                text += f", uncompressed {percent(uncompressed[dataset])}"
            told.append(text)
    if not told:
        return ""
    named = f" ({protocol})" if protocol else ""
    return f"Its nearest-neighbour accuracy there{named} is {'; '.join(told)}."


def _against(duel: Duel) -> str:
    """The default's value against the baseline's."""
    mine, other = duel.default.mean, duel.rival.mean
    return f"{percent(mine, other)} against {percent(other, mine)}"


def _beside(duel: Duel) -> str:
    """The baseline's value, and the default's."""
    mine, other = duel.default.mean, duel.rival.mean
    return f"{percent(other, mine)}, default {percent(mine, other)}"
