"""What ``lplr model compress`` prints: the plan of a dry run, and the summary at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.cli.model_allocation import table_of
from lplr.cli.tables import columns, in_bytes, in_seconds, in_shape, shown, table

__all__ = ["print_plan", "print_summary"]


def print_plan(report: Mapping[str, Any]) -> None:
    """Every layer, and what the whole would take."""
    rows = [
        [
            shown(layer["name"]),
            in_shape(layer["shape"]),
            f"{layer['nbytes']:,}",
            f"{layer['bits_per_weight']:.4f}",
            in_seconds(layer["seconds"]),
        ]
        for layer in report["layers"]
    ]
    head = ["layer", "shape", "bytes at most", "bits per weight", "coding"]
    print(table(head, rows, left=2))
    calibration, seconds = report["calibration"], report["seconds"]
    each = ", ".join(f"{what} {in_seconds(t)}" for what, t in seconds.items() if what != "all")
    lines = [
        ("model", report["model"]),
        ("layers", f"{len(rows)}: {_size(report['nbytes'], report['bits_per_weight'])}"),
        ("whole", f"{in_bytes(report['nbytes'] + report['kept_nbytes'])}, with what is kept"),
    ]
    if calibration["sequences"]:
        lines.append(("tokens", f"{calibration['sequences']} x {calibration['tokens']}"))
    lines += [
        ("time", f"about {in_seconds(seconds['all'])} on this machine ({each})"),
        ("memory", f"about {in_bytes(report['memory_nbytes'])} at the peak"),
        ("disk", f"about {in_bytes(report['disk_nbytes'])} at the peak, the output included"),
    ]
    print("\n" + columns(lines))


def print_summary(report: Mapping[str, Any]) -> None:
    """What was made, and how far it is from the original."""
    totals = report["totals"]
    errors = [layer["relative_error"] for layer in report["layers"]]
    what = "weights" if report["settings"]["method"] == "quantize" else "layers' outputs"
    worst = max(report["layers"], key=lambda layer: layer["relative_error"])
    lines = [
        ("output", report["output"]),
        ("layers", f"{len(errors)}: {_size(*_of(totals['layers']))}"),
    ]
    if report["embedding"]:
        lines.append(("embedding", _size(*_of(totals["embedding"]))))
    lines += [
        ("whole", f"{_size(*_of(totals['whole']))}; {in_bytes(report['file_nbytes'])} on disk"),
        (
            "errors",
            f"of the {what} {100 * sum(errors) / len(errors):.3g} % on average, at most "
            f"{100 * worst['relative_error']:.3g} % ({shown(worst['name'])})",
        ),
    ]
    if "output_moments" in report["settings"]:
        felt = sum(layer["predicted_kl"] for layer in report["layers"])
        most = max(report["layers"], key=lambda layer: layer["predicted_kl"])
        lines.append(
            (
                "felt",
                f"{felt:.3g} nats a token, as the moments of outputs predict it, most of "
                f"{shown(most['name'])}: {most['predicted_kl']:.2g}",
            )
        )
    if blocks := report["settings"]["error_after_blocks"]:
        lines.append(("", f"of the hidden states after the last block {100 * blocks[-1]:.3g} %"))
    if found := report.get("allocation"):
        lines.append(("allocation", table_of(found)))
    lines.append(("time", in_seconds(report["seconds"])))
    print(columns(lines))


def _of(total: Mapping[str, Any]) -> tuple[int, float]:
    return total["nbytes"], total["bits_per_weight"]


def _size(nbytes: int, bits: float) -> str:
    return f"{in_bytes(nbytes)}, {bits:.4f} bits per weight"
