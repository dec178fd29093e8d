"""What ``lplr model adapt`` prints at the end: what training gained, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.cli.tables import columns, in_bytes, in_seconds, table

__all__ = ["print_summary"]

_ROWS = {
    "before": "as it was",
    "start": "with corrections of the layers' errors",
    "trained": "trained, in float32",
    "stored": "stored",
}


def print_summary(report: Mapping[str, Any]) -> None:
    """The loss on what was held out and the bits, at each stage; and where it is."""
    made = report["settings"]["adaptations"][-1]
    losses, bits = made["held_out_loss"], made["layers_bits_per_weight"]
    rows = [
        [words, f"{losses[key]:.4f}", f"{bits[key]:.4f}" if key in bits else ""]
        for key, words in _ROWS.items()
    ]
    what = "divergence" if made["loss"] == "kl" else "cross-entropy"
    print(table(("layers", f"{what} (nats)", "bits per weight"), rows))
    whole = report["totals"]["whole"]
    held_out = f"{losses['sequences']} sequences, {losses['tokens']} predictions"
    lines = [
        ("output", report["output"]),
        ("held out", f"{held_out}; the {what} is the mean over them"),
        ("training", f"{made['steps_taken']} of {made['steps']} steps; {made['stopped']}"),
        (
            "whole",
            f"{in_bytes(whole['nbytes'])}, {whole['bits_per_weight']:.4f} bits per weight; "
            f"{in_bytes(report['file_nbytes'])} on disk",
        ),
        ("time", in_seconds(report["seconds"])),
    ]
    ranks = made["ranks"].values()
    if ranks and made["rank"] and made["output_moments"]:
        words = f"{min(ranks)} to {max(ranks)}, at the cost of {made['rank']} everywhere"
        lines.insert(2, ("ranks", words))
    print("\n" + columns(lines))
