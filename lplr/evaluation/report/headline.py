"""What a results table says, in five lines: what was compared, on what, and what came out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from lplr.evaluation.metrics import bits_text
from lplr.evaluation.report.results import Comparison, Results
from lplr.evaluation.styles import style_of

__all__ = ["bits_listed", "headline", "listed", "short_label"]

_NAMED = 4  # told one by one


def headline(results: Results) -> list[tuple[str, str]]:
    """A heading of a word or two, and a sentence or two, of each line of the overview.

    A difference within twice its standard error is none, and is told as none.
    """
    compressed = [e for e in results.entries if e.family != "reference"]
    if not compressed:
        return [("Measured", "Nothing has a result. The reasons are below.")]
    methods = len({e.method for e in compressed})
    budgets = sorted({e.budget for e in compressed})
    measured = results.measured
    lines = [
        (
            "Compared",
            f"{_count(methods, 'method')} at {bits_listed(budgets, 'or', 'stored bit')} per entry. "
            "Whatever decoding needs counts.",
        ),
        ("On", f"{_count(len(measured), 'data set')}: {listed(measured)}."),
    ]
    ranked = [c for name in results.shapes for c in results.ranked(name)]
    votes = [c for case in results.cases() for c in _first(results.comparisons(*case), "accuracy")]
    if not ranked + votes:
        return lines + _without_baselines(results)
    if ranked:
        lines.append(("Error", _about_error(results, ranked)))
    if votes:
        lines.append(("Accuracy", _about_accuracy(results, votes)))
    lost = [c for c in [*ranked, *votes] if c.verdict < 0]
    return [*lines, ("Losses", _about_losses(lost, len(ranked) + len(votes)))]


def _first(found: Sequence[Comparison], metric: str) -> list[Comparison]:
    """The comparison in a metric, in its first protocol."""
    return [c for c in found if c.default.metric == metric][:1]


def _without_baselines(results: Results) -> list[tuple[str, str]]:
    """The default's own errors, where it was measured alone."""
    name, budget = short_label(results.default), results.budget
    errors = sorted(
        e.mean
        for dataset in results.shapes
        for e in results.pick(
            dataset=dataset, method=results.default, budget=budget,
            metric=results.error_metric(dataset),
        )
    )  # fmt: skip
    if not errors:
        return [("Error", f"{name} has no result.")]
    return [
        (
            "Error",
            f"At {bits_text(budget or 0)} {name} leaves an error of {_extent(errors)}. It is "
            "compared with nothing here.",
        )
    ]


def _about_error(results: Results, ranked: Sequence[Comparison]) -> str:
    name = short_label(results.default)
    won = sum(c.verdict > 0 for c in ranked)
    text = (
        f"In {won} of {_count(len(ranked), 'case')} (a data set at a number of bits) {name} has "
        "a lower error than every method that is not ours."
    )
    at_first = [c for c in ranked if c.default.budget == results.budget]
    ratios = sorted(c.default.mean / c.baseline.mean for c in at_first if c.baseline.mean > 0)
    if ratios:
        text += (
            f" At {bits_text(results.budget or 0)} its error is {_extent(ratios, '.2f')} times "
            "that of the best of these."
        )
    return text


def _about_accuracy(results: Results, votes: Sequence[Comparison]) -> str:
    """Against the best method that is not ours, and against no compression at all."""
    name = short_label(results.default)
    better, same, worse = (sum(c.verdict == verdict for c in votes) for verdict in (1, 0, -1))
    text = (
        f"Nearest-neighbour search in compressed data, {_count(len(votes), 'case')}: against the "
        f"best method that is not ours {name} is better in {better}, no different in {same}, worse "
        f"in {worse}."
    )
    plain = [
        Comparison(c.default, e)
        for c in votes
        if c.default.budget == results.budget and (e := results.uncompressed(c.default))
    ]
    words = {0: "no different from", -1: "worse than", 1: "better than"}
    told = [
        f"{word} uncompressed data on {listed(names)}"
        for verdict, word in words.items()
        if (names := [c.default.dataset for c in plain if c.verdict == verdict])
    ]
    return text + (f" At {bits_text(results.budget or 0)} it is {listed(told)}." if told else "")


def _about_losses(lost: Sequence[Comparison], cases: int) -> str:
    """Who is better, on what, at how many bits; figures are in the table."""
    if not lost:
        return f"None: no method that is not ours is better in {_count(cases, 'comparison')}."
    where: dict[tuple[str, str, str], list[float]] = {}
    for c in lost:
        what = "in accuracy " if c.default.metric == "accuracy" else ""
        key = short_label(c.baseline.method), what, c.default.dataset
        where.setdefault(key, []).append(c.default.budget)
    told = [
        f"{method} {what}on {dataset} at {bits_listed(bits)}"
        for (method, what, dataset), bits in where.items()
    ]
    more = len(told) - _NAMED
    told = told[:_NAMED] + ([f"{more} more, in the table of comparisons"] if more > 0 else [])
    count = f"{len(lost)} of {_count(cases, 'comparison')}"
    return f"A method that is not ours is better in {count}: {'; '.join(told)}."


def short_label(method: str) -> str:
    """The label of a method inside a sentence."""
    return style_of(method).label.replace(" (ours)", "")


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as a list in a sentence."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def bits_listed(budgets: Sequence[float], last: str = "and", noun: str = "bit") -> str:
    """Budgets in a sentence: ``1 bit``, ``0.5 and 1 bits``."""
    plural = "" if list(budgets) == [1] else "s"
    return f"{listed([f'{b:g}' for b in budgets], last)} {noun}{plural}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _extent(values: Iterable[float], kind: str = ".3f") -> str:
    """The least, the greatest, and the median."""
    known = sorted(values)
    least, most, middle = (f"{v:{kind}}" for v in (known[0], known[-1], statistics.median(known)))
    return least if least == most else f"{least} to {most} (median {middle})"
