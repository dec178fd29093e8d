"""What ``lplr compress`` and ``lplr info`` print about a compressed matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import mul
from typing import Any

from lplr.cli.tables import columns, in_bytes, in_seconds, shown, table

__all__ = ["in_sizes", "print_report", "search_of", "search_table"]

_KINDS = {
    "low-rank": "L R",
    "backbone": "Q",
    "backbone + low-rank": "Q + L R",
    "rounding": "rounding",
    "constant": "one value",
}

_LEGEND = (
    "Q 38 x 2 bits: 38 columns with 2 bits per entry; 7 x 2+3 bits: 7 columns of L\n"
    "with 2 bits and 7 rows of R with 3 bits per entry"
)


def search_of(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The plans that `lplr.compress` recorded, the one that it carried out first; else none."""
    return [meta["plan"], *meta["others"]] if "plan" in meta else []


def print_report(report: Mapping[str, Any]) -> None:
    """Print what was read and what came of it, or for a dry run what could come of it."""
    source = report["input"]
    name = source["file"] + (f":{shown(source['member'])}" if source["member"] else "")
    shape = f"{source['shape'][0]} x {source['shape'][1]} {source['dtype']}"
    note = f" ({source['note']})" if source["note"] else ""
    lines = [("input", f"{name}, {shape}, {in_bytes(source['nbytes'])}{note}")]
    sides = (("hessian", "H of inputs"), ("output_hessian", "G of outputs"))
    if weights := [f"{words}: {source[one]}" for one, words in sides if source[one]]:
        lines.append(("weights", "; ".join(weights)))
    if "choices" in report:
        lines.append(("file", _size_in_words(report["choices"])))
        search = report["choices"] if "predicted" in report["choices"][0] else []
    else:
        lines += _result_in_words(report)
        search = report["search"]
    print(columns(lines))
    if search:
        print("\n" + search_table(search))


def _result_in_words(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [("output", report["output"])]
    if report["rank"]:
        lines.append(("rank", str(report["rank"])))
    sizes = (report[key] for key in ("stored_nbytes", "file_nbytes"))
    words = {
        "relative_error": "(relative, Frobenius norm)",
        "relative_error_under_hessian": "(relative, under the Hessian H)",
        "relative_error_under_output_hessian": "(relative, under H and G)"
        if report["input"]["hessian"]
        else "(relative, under G)",
    }
    errors = [f"{report[kind]:.6f} {words[kind]}" for kind in words if report[kind] is not None]
    lines += [
        ("codes", "; ".join(f"{name}: {code}" for name, code in report["codes"].items())),
        ("bits", f"{report['bits_per_entry']:.4f} per entry"),
        ("size", in_sizes(report["input"]["nbytes"], *sizes)),
        ("error", "\n".join(errors)),
        ("time", in_seconds(report["seconds"])),
    ]
    return lines


def in_sizes(source: int, stored: int, file: int, rest: str = "its header and records") -> str:
    """What is stored and what the file takes, each against the input."""
    return (
        f"{in_bytes(source)} -> {stored} bytes stored ({_share(stored, source)}); the file has "
        f"{file} bytes ({_share(file, source)}), with {rest}"
    )


def _share(part: int, whole: int) -> str:
    return (
        f"1/{whole / part:.1f} of the input"
        if part <= whole
        else f"{part / whole:.2f} times the input"
    )


def _size_in_words(choices: Sequence[Mapping[str, Any]]) -> str:
    nbytes = sorted(choice["nbytes"] for choice in choices)
    bits = sorted(choice["bits_per_entry"] for choice in choices)
    if "predicted" in choices[0] or len(choices) == 1:
        size, rate = choices[0]["nbytes"], choices[0]["bits_per_entry"]
        return f"at most {size} bytes and a header, {rate:.4f} bits per entry"
    ranks = sorted(choice["rank"] for choice in choices)
    return (
        f"{nbytes[0]} to {nbytes[-1]} bytes and a header, {bits[0]:.4f} to {bits[-1]:.4f} bits "
        f"per entry;\nthe data decide among {len(choices)} pairs of codes with ranks from "
        f"{ranks[0]} to {ranks[-1]} (--json lists them)"
    )


def search_table(choices: Sequence[Mapping[str, Any]]) -> str:
    """How the bits are used by each choice; the first one is marked as made."""
    head = ["", "kind", "predicted error", "error", "how the bits are used"]
    rows = [
        [
            "" if i else "*",
            _KINDS[choice["kind"]],
            f"{choice['predicted']:.5f}",
            f"{choice['error']:.5f}" if "error" in choice else "-",
            _use_of_bits(choice),
        ]
        for i, choice in enumerate(choices)
    ]
    if not any("error" in choice for choice in choices):  # nothing was carried out
        head, rows = head[:3] + head[4:], [row[:3] + row[4:] for row in rows]
    return f"{table(head, rows, left=len(head))}\n\n{_LEGEND}"


def _use_of_bits(choice: Mapping[str, Any]) -> str:
    """Ranks, widths and quantizers of a choice."""
    found = []
    if "backbone" in choice:
        found.append("Q " + _backbone(choice["backbone"]))
    if "factors" in choice:
        blocks = choice["factors"]
        runs = _runs((b["components"], "+".join(f"{x:g}" for x in b["bits"])) for b in blocks)
        found.append(f"rank {choice['rank']}: {runs}")
    if "granularity" in choice:
        scale = choice["granularity"]
        scale = "one scale" if scale == "tensor" else f"a scale for each {scale}"
        found.append(f"{choice['quantizer']} {choice['bits']} bits, {scale}")
    return "; ".join(found)


def _backbone(groups: Sequence[Mapping[str, Any]]) -> str:
    """The widths of its columns; where blocks of rows have their own, in how far they differ."""
    if "rows" not in groups[0]:
        return _runs((group["columns"], f"{group['bits']:g}") for group in groups)
    entries = [group["rows"] * group["columns"] for group in groups]
    bits = [group["bits"] for group in groups]
    mean = sum(map(mul, entries, bits)) / sum(entries)
    return f"{min(bits):g} to {max(bits):g} bits by rows and columns, {mean:.2f} in the mean"


def _runs(runs: Iterable[tuple[int, str]]) -> str:
    """``121 x 4, 263 x 3 bits``."""
    return ", ".join(f"{count} x {bits}" for count, bits in runs) + " bits"
