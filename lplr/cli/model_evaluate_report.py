"""What ``lplr model evaluate`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

__all__ = ["print_evaluation"]


def print_evaluation(document: Mapping[str, Any]) -> None:
    """Size and numbers, each table with how it was measured."""
    from lplr.cli.tables import columns, in_bytes, shown, table
    from lplr.evaluation.report.network_words import HEADS, in_words

    totals = document["totals"]
    lines = [("model", shown(document["model"]))]
    if document["original"] is not None:
        lines.append(("original", shown(document["original"])))
    for name in ("layers", "whole"):
        total = totals[name]
        bits = f"{total['bits_per_weight']:.3f} bits per weight"
        lines.append((name, f"{in_bytes(total['nbytes'])}, {bits}"))
    print(columns(lines))
    for kind, group in groupby(document["results"], key=lambda result: result["kind"]):
        results = list(group)
        names = [name for name in HEADS[kind] if any(name in r["numbers"] for r in results)]
        head = [kind, *(HEADS[kind][name] for name in names)]
        rows = [
            [shown(r["source"], 40), *(in_words(name, r["numbers"].get(name)) for name in names)]
            for r in results
        ]
        print(f"\n{table(head, rows)}")
        for protocol in dict.fromkeys(result["protocol"] for result in results):
            print(f"{protocol}.")
    if "sensitivity" in document:
        _print_parts(document["sensitivity"])


def _print_parts(found: Mapping[str, Any]) -> None:
    """What each part of the network does alone, and how the hidden states drift."""
    from lplr.cli.tables import shown, table
    from lplr.evaluation.report.network_words import in_words

    parts = {"everything": found["whole"], "embedding, head": found["outside"], **found["kinds"]}
    rows = [[name, in_words("kl", value)] for name, value in parts.items()]
    print(f"\n{table(['compressed alone', 'KL, nats'], rows)}")
    rows = [
        [str(i), in_words("kl", value), f"{error:.3f}"]
        for i, (value, error) in enumerate(zip(found["blocks"], found["errors"], strict=True))
    ]
    heads = ["block", "alone: KL, nats", "all: error of hidden states"]
    print(f"\n{table(heads, rows)}")
    print(f"{shown(found['source'], 40)}: {found['protocol']}.")
