"""``lplr info`` of a matrix in parts: what its manifest says, and whether new rows fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["facts_of_folder", "print_folder"]


def facts_of_folder(path: str) -> dict[str, Any]:
    """From the manifest and the headers of the parts; their codes are not read."""
    import lplr
    from lplr.algorithms.fit import fit_of_new_rows

    about, f = lplr.inspect(path), lplr.load(path)
    return {
        "file": path,
        **about,
        "type": type(f).__name__,
        "shape": list(f.shape),
        "stored_nbytes": f.nbytes,
        "bits_per_entry": f.bits_per_entry,
        "new_rows": fit_of_new_rows(about),
    }


def print_folder(document: Mapping[str, Any]) -> None:
    """The facts for a reader."""
    from lplr.cli.append import in_words
    from lplr.cli.tables import columns, in_shape, table

    parts = document["parts"]
    stored = f"{document['stored_nbytes']} bytes, {document['bits_per_entry']:.4f} bits per entry"
    lines = [
        ("folder", f"{document['file']}, {document['file_nbytes']} bytes"),
        ("format", f"version {document['format_version']}"),
        ("sha-256", f"{document['sha256']} (of the parts' digests; lplr verify reads all)"),
        ("content", f"{in_shape(document['shape'])} in {len(parts)} parts"),
        ("stored", stored),
    ]
    print(columns(lines))
    rows = [
        [part["file"], str(part["rows"]), str(part["nbytes"]), _error(part["meta"])]
        for part in parts
    ]
    print("\n" + table(["part", "rows", "bytes", "error"], rows, left=1))
    if said := in_words(document["new_rows"]):
        print("\nnew rows\n" + "\n".join(f"  {line}" for line in said))


def _error(meta: Mapping[str, Any]) -> str:
    from lplr.algorithms.fit import fit_of_part

    fit = fit_of_part(meta)
    return f"{fit.relative_error:.5f}" if fit else ""
