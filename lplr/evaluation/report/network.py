"""The page of a network: what compression took and cost, against other ones, and layer by layer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lplr.evaluation.report.network_adapted import adaptation_section
from lplr.evaluation.report.network_curves import named, size_charts, types_table
from lplr.evaluation.report.network_layers import layers_section
from lplr.evaluation.report.network_parts import parts_section
from lplr.evaluation.report.network_words import HEADS, in_words, terms
from lplr.evaluation.report.page import Value, escape, listing, table, write_page

__all__ = ["write_network_page"]


def write_network_page(
    path: str | os.PathLike[str],
    found: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Write what was measured of a network as one self-contained HTML file.

    Parameters
    ----------
    path : str or path-like
    found : mapping
        What ``lplr model evaluate --json`` prints.
    others : sequence of mapping
        The same of other networks, for comparison.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InputError
        If the file exists and ``overwrite`` is False.
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.evaluation.report.network import write_network_page
    >>> total = {"weights": 100, "nbytes": 25, "bits_per_weight": 2.0}
    >>> found = {"model": "small", "original": None, "method": "compress", "settings": {},
    ...     "network": {"model_type": "llama", "blocks": 2, "width": 8, "vocabulary": 9},
    ...     "totals": {"layers": total, "whole": total}, "layers": [], "results": []}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_network_page(os.path.join(folder, "page.html"), found)
    ...     os.listdir(folder)
    ['page.html']
    """
    title = f"What {named(found)} keeps"
    header = _header(title, found, others)
    write_page(path, title, _sections([found, *others]), header=header, overwrite=overwrite)


def _sections(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    found = runs[0]
    return {
        "Measured": _measured(runs),
        "Where the error enters": parts_section(runs),
        "Adaptation": adaptation_section(found["settings"].get("adaptations", ())),
        "Layers": layers_section(found["layers"]),
        "Words": terms(
            {result["kind"] for run in runs for result in run["results"]},
            {key for layer in found["layers"] for key in layer},
        ),
        "Settings": listing(found["settings"]) if found["settings"] else "",
    }


def _header(title: str, found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    about, totals = found["network"], found["totals"]
    lines = [
        (
            "Network",
            f"{about['model_type']}, {about['blocks']} blocks of width {about['width']}, "
            f"vocabulary of {about['vocabulary']} tokens.",
        ),
        *(
            (
                name.capitalize(),
                f"{totals[name]['weights']:,} weights in {totals[name]['nbytes'] / 1e6:,.1f} MB: "
                f"{totals[name]['bits_per_weight']:.3f} bits per weight.",
            )
            for name in ("layers", "whole")
        ),
    ]
    for result in found["results"]:
        told = ", ".join(
            f"{head} {in_words(name, result['numbers'][name])}"
            for name, head in HEADS[result["kind"]].items()
            if name in result["numbers"] and not name.startswith(("original", "change"))
        )
        lines.append((str(result["source"]), f"{told}."))
    lead = "A network with compressed layers" if found["layers"] else "A network"
    if found["original"] is not None:
        lead += f", compared with {Path(str(found['original'])).name}"
    lead += f" and {len(others)} other{'s' * (len(others) > 1)}." if others else "."
    said = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in lines)
    charts = list(size_charts([found, *others]))
    return (
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<div class="overview"><dl>{said}</dl>{charts[0] if len(charts) == 1 else ""}</div>'
        + (f'<div class="charts">{"".join(charts)}</div>' if len(charts) > 1 else "")
    )


def _measured(runs: Sequence[Mapping[str, Any]]) -> str:
    """A table for each kind of measurement, with all networks, and how it was measured."""
    shown = []
    for kind, heads in HEADS.items():
        found = [(run, r) for run in runs for r in run["results"] if r["kind"] == kind]
        names = [name for name in heads if any(name in r["numbers"] for _, r in found)]
        if not found:
            continue
        rows = [
            [
                Value(named(run)),
                Value(str(result["source"])),
                Value(f"{run['totals']['layers']['bits_per_weight']:.3f}",
                      run["totals"]["layers"]["bits_per_weight"]),
                Value(f"{run['totals']['whole']['nbytes'] / 1e6:,.1f}",
                      run["totals"]["whole"]["nbytes"]),
                *(
                    Value(in_words(name, value), None if value is None else value["value"])
                    for name in names
                    for value in [result["numbers"].get(name)]
                ),
            ]
            for run, result in found
        ]  # fmt: skip
        columns = ("network", "on", "bits per weight", "whole, MB", *(heads[n] for n in names))
        shown.append(
            table(
                f"{kind.capitalize()}, ± standard error",
                columns,
                rows,
                numeric=range(2, len(columns)),
                own=[i for i, (run, _) in enumerate(found) if run is runs[0]],
            )
        )
        for protocol in dict.fromkeys(result["protocol"] for _, result in found):
            shown.append(f'<p class="dim">{escape(protocol)}.</p>')
    return "".join([*shown, types_table(runs[0])])
