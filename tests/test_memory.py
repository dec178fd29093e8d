"""The memory that is available, from what the system and the control groups say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lplr import memory


def group(folder: Path, names: tuple[str, str], limit: object, used: int, stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip((*names, "memory.stat"), (limit, used, stat), strict=True):
        (folder / name).write_text(f"{content}\n")


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2 = ("memory.max", "memory.current")


def test_the_tightest_limit_around_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits lie on the group of the process or on those around it, in both versions."""
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    read = Path.read_text
    files = {
        "/proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 9000 kB\n",
        "/proc/self/cgroup": "0::/a/b\n3:cpu,memory:/job\n2:cpu:/other\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files.get(str(path)) or read(path))
    assert memory.available_memory() == 9000 * 1024  # no limits
    group(tmp_path / "a" / "b", V2, "max", 10, "inactive_file 5")
    assert memory.available_memory() == 9000 * 1024
    group(tmp_path / "a", V2, 5000, 3000, "anon 7\ninactive_file 500")
    assert memory.available_memory() == 2500  # cache of files can be dropped
    group(tmp_path / "memory" / "job", V1, 4000, 3000, "inactive_file 1\ntotal_inactive_file 900")
    assert memory.available_memory() == 1900
    group(tmp_path / "memory", V1, 100, 300, "total_inactive_file 0")
    assert memory.available_memory() == 0
