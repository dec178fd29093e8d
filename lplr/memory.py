"""How much memory there is to take, and how much a file may make its reader take."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["LOADING", "available_memory", "json_nbytes", "parse_json"]

LOADING = 64 << 20  # bytes that loading takes, at most, beside as many as the file has
_GROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that this process can take without swapping.

    What the system has to give, file cache that it can drop included, or what the control group of
    the process (versions 1 and 2, as containers set them) or its own limit (``ulimit -v``) leaves,
    if that is less. Where the system does not say what is free, half of the memory that is
    installed.

    Returns
    -------
    int

    Examples
    --------
    >>> from lplr.memory import available_memory
    >>> available_memory() > 0
    True
    """
    return max(0, min([_of_the_system(), *_of_the_groups(), *_of_the_process()]))


def json_nbytes(text: bytes) -> int:
    """Bytes that Python takes, at most, to parse a JSON text: known before it takes them.

    Measured for CPython on texts of each kind alone, and rounded up: empty objects, objects of one
    member, and lists in lists take most, 25 to 37 times their text.

    Examples
    --------
    >>> from lplr.memory import json_nbytes
    >>> json_nbytes(b"[" + b"[]," * 1000 + b"[]]")
    144188
    """
    each = {b"{": 230, b"[": 90, b",": 48, b":": 110, b'"': 25}
    letters = 2 if text.isascii() else 9  # the text and what it says; 4 bytes for each letter
    return letters * len(text) + sum(n * text.count(mark) for mark, n in each.items())


def parse_json(text: bytes, stored: int = 0, **options: Any) -> Any:
    """What a JSON text says, of a file of ``stored`` bytes where that is more than the text.

    ValueError refuses what is none, is nested too deeply, or would take too much memory.

    Examples
    --------
    >>> from lplr.memory import parse_json
    >>> parse_json(b"[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: it is nested too deeply
    """
    if json_nbytes(text) > LOADING + max(stored, len(text)):
        raise ValueError("it would take far more memory than it has bytes")
    try:
        return json.loads(text.decode("utf-8"), **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _of_the_system() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 1 << 32


def _of_the_process() -> list[int]:
    """What the limit of the process leaves; none where there is no limit."""
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError, ValueError):
        return []
    return [] if most == resource.RLIM_INFINITY else [most - pages * resource.getpagesize()]


def _of_the_groups() -> list[int]:
    """What is left in each control group around the process; a container sees its own as /."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left = []
    for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _GROUPS / "memory" if controllers else _GROUPS
        files = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        inside = root / name.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder.is_relative_to(root):
                left.extend(_left_in(folder, *files))
    return left


def _left_in(folder: Path, limit: str, usage: str) -> list[int]:
    """One number, or none where there is no limit; cache of files counts as free."""
    try:
        most = int((folder / limit).read_text())  # "max" is no number
        used = int((folder / usage).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return []
    stat = dict(line.split(maxsplit=1) for line in lines if " " in line)
    cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return [most - used + cache]
