"""How much memory there is to take."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_memory"]

_GROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that this process can take without swapping.

    What the system has to give, file cache that it can drop included, or what the control group of
    the process (versions 1 and 2, as containers set them) leaves, if that is less. Where the system
    does not say what is free, half of the memory that is installed.

    Returns
    -------
    int

    Examples
    --------
    >>> from lplr.memory import available_memory
    >>> available_memory() > 0
    True
    """
    return max(0, min([_of_the_system(), *_of_the_groups()]))


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
