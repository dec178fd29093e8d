"""What a results table says, in words: losses first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lplr.evaluation.metrics import bits_text, percent
from lplr.evaluation.report.results import Comparison, Results

__all__ = ["headline"]


def headline(results: Results) -> list[str]:
    """The sentences on top of the report, losses first."""
    name = results.default
    cases = [case for case in results.cases() if results.comparisons(*case)]
    if not cases:
        return [
            f"Nothing to compare: the default, {name}, and a baseline did not both run at one "
            "budget on one data set."
        ]
    budget = min({b for _, b in cases}, key=lambda b: (abs(math.log2(b)), b))
    found = {d: results.comparisons(d, b) for d, b in cases if b == budget}
    errors = [
        c for d, listed in found.items() for c in listed
        if c.default.metric == results.error_metric(d) and c.baseline.mean > 0
    ]  # fmt: skip
    votes = [
        next(iter(of_accuracy))
        for listed in found.values()
        if (of_accuracy := [c for c in listed if c.default.metric == "accuracy"])
    ]
    said = [_about_losses(results, cases)]
    said += [_about_error(name, budget, errors)] if errors else []
    return said + ([_about_accuracy(votes, results.uncompressed)] if votes else [])


def _about_losses(results: Results, cases: Sequence[tuple[str, float]]) -> str:
    name = results.default
    lost = [(case, found) for case in cases if (found := results.losses(*case))]
    count = f"{len(cases)} case" + ("s" if len(cases) > 1 else "")
    if not lost:
        return (
            f"In none of {count} (a data set at a budget) is a baseline better than the default, "
            f"{name}: none has both lower error and higher accuracy, nor lower error where there "
            "are no labels."
        )
    told = []
    for (dataset, budget), found in lost[:4]:
        error, vote = found[0]
        where = f"{error.baseline.method} on {dataset} at {bits_text(budget)}"
        accuracy = f"; accuracy {_beside(vote)}" if vote else ""
        told.append(f"{where} (error {_beside(error)}{accuracy})")
    rest = f", and {len(lost) - 4} more, listed below" if len(lost) > 4 else ""
    return (
        f"In {len(lost)} of {count} (a data set at a budget) a baseline is better than the "
        f"default, {name}: {', '.join(told)}{rest}."
    )


def _about_error(name: str, budget: float, found: Sequence[Comparison]) -> str:
    found = sorted(found, key=lambda c: c.default.mean / c.baseline.mean)
    told = [
        f"{_against(c)} ({c.baseline.method}) on {c.default.dataset}"
        for c in (found if len(found) < 4 else [found[0], found[-1]])
    ]
    ratios = [c.default.mean / c.baseline.mean for c in (found[0], found[-1])]
    extent = f"{ratios[0]:.2f}" + (f" to {ratios[1]:.2f}" if len(found) > 1 else "")
    where = f"over {len(found)} data sets: " if len(found) > 3 else ""
    return (
        f"At {bits_text(budget)} per entry {name} leaves {extent} times the relative error of the "
        f"best baseline at equal stored bits, {where}{'; '.join(told)}."
    )


def _about_accuracy(found: Sequence[Comparison], uncompressed: Mapping[str, float]) -> str:
    told = []
    for c in found:
        plain = uncompressed.get(c.default.dataset)
        beside = "" if plain is None else f", uncompressed {percent(plain)}"
        told.append(f"{_against(c)} ({c.baseline.method}) on {c.default.dataset}{beside}")
    protocol = next((c.default.protocol for c in found if c.default.protocol), "")
    named = f" ({protocol})" if protocol else ""
    return f"Its nearest-neighbour accuracy there{named} is {'; '.join(told)}."


def _against(c: Comparison) -> str:
    """The default's value against the baseline's."""
    mine, other = c.default.mean, c.baseline.mean
    return f"{percent(mine, other)} against {percent(other, mine)}"


def _beside(c: Comparison) -> str:
    """The baseline's value, and the default's."""
    mine, other = c.default.mean, c.baseline.mean
    return f"{percent(other, mine)}, default {percent(mine, other)}"
