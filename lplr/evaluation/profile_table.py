"""What ``lplr bench profile`` found, as a table: for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.evaluation.profile import MANY

__all__ = ["profile_cells", "profile_heads", "profile_title", "profile_words"]

_MOST = 40  # rows that are shown; the others are summed
_UNITS = {"float32": "flop/s", "float64": "flop/s", "bytes": "B/s", "states": "states/s"}
_SUMS = ("calls", "seconds", "serial", "at_best", "shared_seconds")


def profile_title(found: Mapping[str, Any]) -> str:
    """What was compressed, and how."""
    used = found["settings"]
    options = (f"{k}={v}" for k in ("rank", "effort", "quantizer") if (v := used[k]) is not None)
    weighted = "with a Hessian" if used["hessian"] else "without a Hessian"
    what = f"{used['method']} of {used['rows']} x {used['columns']}"
    return ", ".join([what, f"{used['bits']:g} bits", *options, weighted])


def profile_heads(found: Mapping[str, Any]) -> list[str]:
    """The heads of the columns."""
    heads = ["step", "calls", "1 thread", "share", "serial", f"at best on {MANY}"]
    heads += ["rate", "of peak"]
    threads = max(map(int, found["peaks"]))
    return heads + [f"{threads} threads", f"of peak on {threads}"] * (threads > 1)


def profile_cells(found: Mapping[str, Any]) -> list[list[tuple[str, float | None]]]:
    """The cells of each row, text and number; the last row is the total."""
    total = found["total"]
    rows, others = found["rows"][:_MOST], found["rows"][_MOST:]
    if others:
        summed = {name: sum(row[name] for row in others) for name in _SUMS}
        rows = [*rows, {"step": f"{len(others)} others", "work": {}, **summed}]
    return [
        [
            (row["step"], None),
            (str(row.get("calls", "")), row.get("calls")),
            _seconds(row["seconds"]),
            _percent(row["seconds"] / total["seconds"]),
            _seconds(row["serial"]),
            _seconds(row["at_best"]),
            _rate(row["work"], row["seconds"]),
            _percent(row.get("of_peak")),
            _seconds(row["shared_seconds"]),
            _percent(row.get("shared_of_peak")),
        ][: len(profile_heads(found))]
        for row in [*rows, {"step": "total", "work": {}, **total}]
    ]


def profile_words(found: Mapping[str, Any]) -> list[str]:
    """The share that is serial, and what the columns are."""
    total = found["total"]
    peaks = [
        f"on {count}: {peak['float32'] / 1e9:.0f} Gflop/s in float32, "
        f"{peak['float64'] / 1e9:.0f} in float64, {peak['bytes'] / 1e9:.1f} GB/s"
        for count, peak in found["peaks"].items()
    ]
    return [
        f"{total['serial'] / total['seconds']:.1%} of the time on one thread is serial: outside of "
        "the blocks that threads share.",
        f"at best on {MANY}: the serial time and the blocks on {MANY} threads, if those of a call "
        "took the same time.",
        "rate: on one thread, where the work is known; states: entries times states of a trellis.",
        f"of peak: of NumPy's product or of a copy in the same run. Threads {'; '.join(peaks)}.",
    ]


def _seconds(seconds: float) -> tuple[str, float]:
    return f"{seconds:.3f}", seconds


def _percent(share: float | None) -> tuple[str, float | None]:
    return ("", None) if share is None else (f"{share:.1%}", share)


def _rate(work: Mapping[str, float], seconds: float) -> tuple[str, float | None]:
    units = {_UNITS[kind] for kind in work}
    if len(units) != 1 or not seconds:
        return "", None
    rate = sum(work.values()) / seconds
    return f"{rate / 1e9:.3g} G{units.pop()}", rate
