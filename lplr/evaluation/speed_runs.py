"""Runs of ``lplr bench speed`` as documents, and one beside an earlier one of the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lplr.evaluation.machine import machine, package_versions
from lplr.exceptions import CorruptFileError, InputError
from lplr.storage.text import from_json

__all__ = ["compared", "read_speed", "speed_document"]

_SAME = ("benchmark", "matrix", "what", "threads")  # what makes two rows one measurement


def speed_document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``lplr bench speed --json`` prints.

    Parameters
    ----------
    rows : sequence of mapping
        Of `lplr.evaluation.speed.measure_speed`.

    Examples
    --------
    >>> from lplr.evaluation.speed_runs import speed_document
    >>> list(speed_document([]))
    ['rows', 'machine', 'versions']
    """
    return {
        "rows": [dict(row) for row in rows],
        "machine": machine(),
        "versions": package_versions(),
    }


def read_speed(text: bytes, name: str) -> dict[str, Any]:
    """A document of an earlier run, from its JSON.

    Parameters
    ----------
    text : bytes
    name : str
        What messages call it.

    Raises
    ------
    CorruptFileError
        If it is not what ``lplr bench speed --json`` prints.

    Examples
    --------
    >>> import json
    >>> from lplr.evaluation.speed_runs import read_speed, speed_document
    >>> read_speed(json.dumps(speed_document([])).encode(), "before.json")["rows"]
    []
    """
    found = from_json(text, name)
    rows = found.get("rows")
    if not isinstance(found.get("machine"), dict) or not isinstance(rows, list):
        raise CorruptFileError(f"{name} is not what lplr bench speed --json prints")
    for row in rows:
        seconds = row.get("seconds") if isinstance(row, dict) else None
        if not isinstance(seconds, (int, float)) or not seconds > 0:
            raise CorruptFileError(f"{name}: a row has no time")
    return found


def compared(found: Mapping[str, Any], before: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A run with ``before``, the seconds of an earlier one, and ``change``, the ratio to these.

    Parameters
    ----------
    found, before : mapping
        Documents; rows that the earlier one has not are None in both.
    name : str
        What messages call the earlier one.

    Raises
    ------
    InputError
        If it is of another machine or other threads, of which times cannot be compared, or has
        none of the rows.

    Examples
    --------
    >>> from lplr.evaluation.speed_runs import compared, speed_document
    >>> row = {"benchmark": "kernels", "matrix": "9 x 9", "what": "copy", "threads": 1}
    >>> now, then = (speed_document([{**row, "seconds": s}]) for s in (1.0, 2.0))
    >>> compared(now, then, "before.json")["rows"][0]["change"]
    0.5
    """
    for key, value in found["machine"].items():
        other = before["machine"].get(key)
        if key != "system" and other != value:  # a kernel that is updated is the same machine
            raise InputError(f"--compare: {name} is of {key} {other!r}, and this of {value!r}")
    known = {_key(row): float(row["seconds"]) for row in before["rows"]}
    rows = []
    for row in found["rows"]:
        then = known.get(_key(row))
        rows.append({**row, "before": then, "change": then and row["seconds"] / then})
    if not any(row["before"] for row in rows):
        raise InputError(f"--compare: {name} has none of these measurements; is one of them quick?")
    return {**found, "rows": rows, "compared": name}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _SAME)
