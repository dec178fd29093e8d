"""``lplr info``: what a packed file holds."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from lplr.cli.hessians import TITLES
from lplr.cli.options import add_command, add_json, add_name, print_json, refuse_model

__all__ = ["add_parser", "facts", "matrix_of", "run"]

_LONGEST = 200  # characters of a list that is shown


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "info",
        "show what a packed file holds",
        "lplr info weights.h5",
        "Header, every component with its bits, and how it was made; of a file of many matrices "
        "the list of them, and of the one that --name names the rest. The whole file is verified. "
        "Of a folder of parts: what its manifest says, and whether appended rows fit the basis.",
    )
    parser.add_argument("file", metavar="FILE", help="a file, or folder of parts, that lplr wrote")
    add_name(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.info_folder import facts_of_folder, print_folder
    from lplr.storage.folder import is_folder
    from lplr.storage.stored import read_stored

    if is_folder(args.file):
        document = facts_of_folder(args.file)
        if args.json:
            print_json(document)
        else:
            print_folder(document)
            _print_meta("/", document["groups"]["/"]["meta"])
            of_old = " of the old rows" if document["new_rows"] else ""  # as they were measured
            attrs = document["attrs"]
            _print_attributes({"attrs": {k + of_old * (k in TITLES): attrs[k] for k in attrs}})
        return 0
    refuse_model(args.file, "info")
    stored = read_stored(args.file)
    document = {"file": args.file, **stored.describe()}
    if stored.names is None or args.name is not None:
        document |= facts(stored.decode(args.name))
        if args.name is not None:
            document |= {"name": args.name, "groups": document.pop("objects")[args.name]}
        show = _print
    else:
        for name, obj in stored.decode().items():
            document["objects"][name] = {**facts(obj), "groups": document["objects"][name]}
        document |= _total(document["objects"])
        show = _print_many
    if args.json:
        print_json(document)
    else:
        show(document)
    return 0


def matrix_of(obj: Any) -> Any:
    """A packed matrix or array itself; of a model, what it keeps of the data."""
    return getattr(obj, "factors_", getattr(obj, "rows_", obj))


def facts(obj: Any) -> dict[str, Any]:
    """What an object is and how much its matrix stores."""
    matrix = matrix_of(obj)
    return {
        "type": type(obj).__name__,
        "shape": list(matrix.shape),
        "rank": getattr(matrix, "rank", 0),
        "stored_nbytes": matrix.nbytes,
        "bits_per_entry": 8 * matrix.nbytes / max(1, math.prod(matrix.shape)),
    }


def _total(objects: Mapping[str, Any]) -> dict[str, Any]:
    nbytes = sum(found["stored_nbytes"] for found in objects.values())
    entries = sum(math.prod(found["shape"]) for found in objects.values())
    return {"stored_nbytes": nbytes, "bits_per_entry": 8 * nbytes / max(1, entries)}


def _print_head(document: Mapping[str, Any], *content: tuple[str, str]) -> None:
    """The file, what is in it and how much that is."""
    from lplr.cli.tables import columns, in_bytes

    stored = document["stored_nbytes"]
    lines = [
        ("file", f"{document['file']}, {document['file_nbytes']} bytes"),
        ("format", f"version {document['format_version']}"),
        ("sha-256", f"{document['sha256']} (verified)"),
        *content,
        ("stored", f"{stored} bytes, {document['bits_per_entry']:.4f} bits per entry"),
    ]
    if "name" not in document:
        rest = in_bytes(document["file_nbytes"] - stored)
        lines.append(("rest", f"{rest} of header, structure, records and all else"))
    print(columns(lines))


def _print_many(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import in_shape, shown, table

    objects = document["objects"]
    _print_head(document, ("content", f"{len(objects)} matrices and arrays by name"))
    head = ["name", "type", "shape", "rank", "bytes", "bits per entry"]
    rows = [
        [
            shown(name),
            found["type"],
            in_shape(found["shape"]),
            str(found["rank"] or ""),
            str(found["stored_nbytes"]),
            f"{found['bits_per_entry']:.4f}",
        ]
        for name, found in objects.items()
    ]
    attrs = dict(document["attrs"])
    for key, title in TITLES.items():
        # As `lplr compress` of a whole file has measured them; a caller may mean something else.
        values: Any = attrs.get(key)
        known = isinstance(values, Mapping) and values.keys() <= objects.keys()
        if known and all(isinstance(value, float) for value in values.values()):
            head.append(title)
            for row, name in zip(rows, objects, strict=True):
                row.append(f"{values[name]:.5f}" if name in values else "")
            del attrs[key]
    if rows:
        print("\n" + table(head, rows, left=2) + "\n\nMore about one of them: --name NAME")
    _print_attributes({"attrs": attrs})


def _print_attributes(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import columns

    if document["attrs"]:
        print("\nattributes\n" + columns(_as_pairs(document["attrs"]), indent="  "))


def _print(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import in_shape, shown, table

    rank = f", rank {document['rank']}" if document["rank"] else ""
    content = ("content", f"{document['type']}, {in_shape(document['shape'])}{rank}")
    name = [("name", shown(document["name"]))] if "name" in document else []
    _print_head(document, *name, content)
    parts, arrays = [], []
    for path, group in document["groups"].items():
        values = ", ".join(f"{name} {_briefly(value)}" for name, value in group["values"].items())
        parts.append([path, f"{group['encoding']} {group['version']}", values])
        for name, array in group["datasets"].items():
            shape = in_shape(array["shape"])
            place = f"{path.rstrip('/')}/{name}"
            arrays.append([place, array["dtype"], shape, str(array["nbytes"])])
    print("\n" + table(("component", "encoding", "values"), parts, left=3))
    if arrays:
        print("\n" + table(("array", "type", "shape", "bytes"), arrays, left=2))
    for path, group in document["groups"].items():
        if group["meta"]:
            _print_meta(path, group["meta"])
    attrs = document["attrs"]
    if "name" in document:  # of what was measured of all, this one's
        attrs = {key: _of_one(attrs[key], key, document["name"]) for key in attrs}
    _print_attributes({"attrs": {key: value for key, value in attrs.items() if value is not None}})


def _of_one(value: Any, key: str, name: str) -> Any:
    """An attribute of the file as far as it is about one object; None if it is about others."""
    return value.get(name) if key in TITLES and isinstance(value, Mapping) else value


def _print_meta(path: str, meta: Mapping[str, Any]) -> None:
    """How a component was made; a record that is none of ours is shown as it is."""
    from lplr.cli.tables import columns

    what = "it" if path == "/" else path
    try:
        said = list(_made(what, meta))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        said = [f"\nabout {what}\n" + columns(_as_pairs(meta), indent="  ")]
    for text in said:
        print(text)


def _made(what: str, meta: Mapping[str, Any]) -> Iterator[str]:
    """How a component was made, by a record of ours."""
    from lplr.cli.compress_report import search_of, search_table
    from lplr.cli.tables import columns, table
    from lplr.provenance import as_call

    shown = ("call", "plan", "others", "history")
    rest = {name: meta[name] for name in meta if name not in shown}
    if call := as_call(meta):
        rest = {"call": call, **rest}
    if rest:
        yield f"\nhow {what} was made\n" + columns(_as_pairs(rest), indent="  ")
    if search := search_of(meta):
        yield "\nthe choice (*) and what else was considered"
        yield search_table(search)
    if history := meta.get("history"):
        yield f"\nthe error of {what} after each step; the best result was kept"
        steps = [
            [str(step["iteration"]), step["step"], f"{step['error']:.5f}"]
            if isinstance(step, Mapping)
            else [str(i), "L R", f"{step:.5f}"]
            for i, step in enumerate(history)
        ]
        yield table(("round", "step", "error"), steps, left=2)


def _briefly(value: Any) -> str:
    """A value of a component; of a long list, or one of lists, its length."""
    if isinstance(value, list) and (len(value) > 4 or len(json.dumps(value)) > _LONGEST):
        return f"({len(value)} items)"
    return _in_words(value)


def _as_pairs(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _in_words(value)) for name, value in record.items()]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
