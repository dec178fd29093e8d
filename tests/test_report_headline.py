"""What a table of results says in words, and which differences count."""

from __future__ import annotations

from typing import Any

import pytest
from bench_rows import row, votes

from lplr.evaluation.report.headline import headline
from lplr.evaluation.report.results import gather
from lplr.exceptions import InputError

PQ = {"method": "PQ", "family": "faiss"}
PLAIN = {"method": "uncompressed", "family": "reference", "budget": 32.0}


def said(rows: list[dict[str, Any]]) -> dict[str, str]:
    return dict(headline(gather(rows, "feedback")))


def test_headline_where_the_default_wins() -> None:
    rows = [row(value=0.128), row(value=0.2, **PQ), votes(975), votes(930, **PQ)]
    assert said([*rows, votes(980, **PLAIN)]) == {
        "Compared": "2 methods at 1 stored bit per entry. Whatever decoding needs counts.",
        "On": "1 data set: digits.",
        "Error": "In 1 of 1 case (a data set at a number of bits) factorize has a lower "
        "error than every method that is not ours. At 1 bit its error is 0.64 times that of the "
        "best of these.",
        "Accuracy": "Nearest-neighbour search in compressed data, 1 case: against the best method "
        "that is not ours factorize is better in 1, no different in 0, worse in 0. At 1 bit it is "
        "worse than uncompressed data on digits.",
        "Losses": "None: no method that is not ours is better in 2 comparisons.",
    }


def test_headline_names_what_is_better() -> None:
    rows = [row(value=0.128), row(value=0.12, **PQ), votes(950), votes(960, **PQ)]
    rows += [row(value=v, budget=b, dataset="layer", **m) for b in (1.0, 4.0)
             for v, m in ((0.3, {}), (0.2, PQ))]  # fmt: skip
    text = said(rows)["Losses"]
    assert text == (
        "A method that is not ours is better in 4 of 4 comparisons: PQ on digits at 1 bit; PQ "
        "on layer at 1 and 4 bits; PQ in accuracy on digits at 1 bit."
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "first", "verdict"),
    [
        # Of 1000 queries, b = 4 that one method alone has right and c = 0 that the other has: the
        # difference of 4 is twice its standard error, sqrt(4 - 16 / 1000) = 1.996, and a bit.
        (904, 900, 0, 1),
        (900, 904, 0, -1),
        # b = 3 and c = 0: 3 is less than 2 sqrt(3 - 9 / 1000) = 3.46.
        (903, 900, 0, 0),
        # b = 104, c = 100: the same difference of 4, but of 204 queries on which they disagree.
        (804, 800, 104, 0),
    ],
)
def test_differences_are_paired(mine: int, theirs: int, first: int, verdict: int) -> None:
    results = gather([votes(mine), votes(theirs, first, **PQ)], "feedback")
    (comparison,) = results.comparisons("digits", 1.0)
    both = min(mine, first + theirs) - first
    b, c = mine - both, theirs - both
    expected = (b + c - (b - c) ** 2 / 1000) ** 0.5 / 1000
    assert comparison.standard_error == pytest.approx(expected, rel=1e-12)
    assert comparison.verdict == verdict


def test_without_the_queries_errors_are_those_of_two_samples() -> None:
    rows = [votes(904) | {"correct": None}, votes(900, **PQ)]
    (comparison,) = gather(rows, "feedback").comparisons("digits", 1.0)
    binomial = [p * (1 - p) / 1000 for p in (0.904, 0.9)]
    assert comparison.standard_error == pytest.approx(sum(binomial) ** 0.5, rel=1e-12)
    assert comparison.verdict == 0
    assert said(rows)["Accuracy"].endswith("better in 0, no different in 1, worse in 0.")


def test_damaged_queries_are_refused() -> None:
    with pytest.raises(InputError, match=r"'correct' of feedback on digits is damaged"):
        gather([votes(904) | {"correct": "0f"}], "feedback")


def test_the_error_under_the_hessian_decides_where_there_is_one() -> None:
    under = {"metric": "relative error under H", "dataset": "layer"}
    rows = [row(value=0.3, dataset="layer"), row(value=0.2, dataset="layer", **PQ)]
    rows += [row(value=0.1, **under), row(value=0.15, **under, **PQ)]
    assert said(rows)["Losses"].startswith("None")


def test_means_are_over_seeds() -> None:
    rows = [row(value=v, seed=i) for i, v in enumerate((0.1, 0.3))]
    rows += [row(value=v, seed=i, **PQ) for i, v in enumerate((0.19, 0.19))]
    results = gather(rows, "feedback")
    mine, rival = results.entries
    assert (mine.mean, len(mine.values), rival.mean) == (pytest.approx(0.2), 2, 0.19)
    assert mine.standard_error == pytest.approx(0.1)  # sqrt(0.02) over sqrt(2)
    # The mean is larger, by far less than the seeds differ.
    assert [c.verdict for c in results.ranked("digits")] == [0]


def test_many_losses_are_counted() -> None:
    rows = []
    for i in range(7):
        rows += [row(value=0.2, dataset=f"set {i}"), row(value=0.1, dataset=f"set {i}", **PQ)]
    text = said(rows)["Losses"]
    assert text.startswith(
        "A method that is not ours is better in 7 of 7 comparisons: PQ on set 0 at 1 bit"
    )
    assert text.endswith("; 3 more, in the table of comparisons.")


def test_one_method_alone() -> None:
    rows = [row(value=v, dataset=name) for name, v in (("a", 0.1), ("b", 0.3))]
    assert said(rows)["Error"] == (
        "At 1 bit factorize leaves an error of 0.100 to 0.300 (median 0.200). It is compared with "
        "nothing here."
    )
    skipped = row(status="skipped", note="needs faiss", metric=None, value=None)
    assert said([skipped]) == {"Measured": "Nothing has a result. The reasons are below."}
