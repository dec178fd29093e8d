"""What a disk may hold after a power cut: every state that the calls of a writer allow.

POSIX promises little. What is written to a file is on disk once the file is synced, and a name once
its folder is; of what was done since, any part may be there, in any order. A rename is there or
not, never in part. Of the bytes that are not synced, all may be there, none, the first ones, the
last ones behind a hole of zeros, or nothing but the length of the file. Disks that lie about fsync
are beyond this model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from lplr.selftest.calls import Call

__all__ = ["Disk", "State", "build", "states"]

State = Mapping[str, bytes | None]  # paths to contents; None is a folder
_FEW = 5  # names that are not durable, all subsets of which are tried
_ROOT = 0


@dataclass
class _Names:
    """Names that change together: (folder, name, inode), None for a name that is gone."""

    sets: tuple[tuple[int, str, int | None], ...]
    durable: bool = False


@dataclass
class _Bytes:
    """Bytes written to a file, or the size that it is cut or extended to."""

    at: int
    data: bytes | None
    durable: bool = False


@dataclass
class Disk:
    """Folders and files as inodes, changed call by call from what is there at first."""

    files: dict[int, bytes] = field(default_factory=dict)  # at first
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {_ROOT: {}})  # at first
    _now: dict[int, dict[str, int]] = field(default_factory=lambda: {_ROOT: {}})
    _names: list[_Names] = field(default_factory=list)
    _bytes: dict[int, list[_Bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """What a folder holds, all of it durable."""
        disk = cls()
        for path in sorted(folder.rglob("*")):
            inode = disk._new(path.is_dir())
            if not path.is_dir():
                disk.files[inode] = path.read_bytes()
            parent, name = disk._find(os.path.relpath(path, folder))
            disk.folders[parent][name] = disk._now[parent][name] = inode
        return disk

    def _new(self, is_folder: bool) -> int:
        inode = 1 + len(self.files) + len(self.folders)
        if is_folder:
            self.folders[inode], self._now[inode] = {}, {}
        else:
            self.files[inode] = b""
        return inode

    def _find(self, path: str) -> tuple[int, str]:
        """The folder that a path leads to, and the name in it."""
        *folders, name = path.split(os.sep)
        inode = _ROOT
        for folder in folders:
            inode = self._now[inode][folder]
        return inode, name

    def _inode(self, path: str) -> int | None:
        if path == ".":
            return _ROOT
        folder, name = self._find(path)
        return self._now[folder].get(name)

    def call(self, call: Call) -> None:
        """Change it as a system call does."""
        if call.name in ("open", "close", "chmod"):
            return
        inode = self._inode(call.path)
        place = self._find(call.path)
        if call.name in ("create", "mkdir"):
            if inode is None:
                self._set((*place, self._new(call.name == "mkdir")))
            else:
                self._bytes.setdefault(inode, []).append(_Bytes(0, None))
        elif call.name in ("unlink", "rmdir"):
            self._set((*place, None))
        elif call.name == "link":
            self._set((*self._find(call.other), inode))
        elif call.name == "rename":
            self._set((*self._find(call.other), inode), (*place, None))
        elif call.name == "swap":
            self._set((*self._find(call.other), inode), (*place, self._inode(call.other)))
        elif call.name in ("write", "truncate", "allocate"):
            assert inode is not None
            data = call.data if call.name == "write" else None
            self._bytes.setdefault(inode, []).append(_Bytes(call.at, data))
        elif call.name == "fsync":
            for change in self._bytes.get(inode, []) if inode is not None else []:
                change.durable = True
            for names in self._names:
                names.durable |= any(folder == inode for folder, *_ in names.sets)

    def _set(self, *sets: tuple[int, str, int | None]) -> None:
        self._names.append(_Names(sets))
        _apply(self._now, sets)

    def after_a_crash(self) -> Iterator[State]:
        """Every state that may be found now."""
        waiting = [i for i, names in enumerate(self._names) if not names.durable]
        for there in _subsets(waiting):
            folders = {inode: dict(names) for inode, names in self.folders.items()}
            for i, names in enumerate(self._names):
                if names.durable or i in there:
                    _apply(folders, names.sets)
            reached = dict(_walk(folders, _ROOT, ""))
            files = {i for i in reached.values() if i in self.files}
            variants = {i: self._contents(i) for i in files}
            for k in range(max(map(len, variants.values()), default=1)):
                contents = {i: found[min(k, len(found) - 1)] for i, found in variants.items()}
                yield {path: contents.get(inode) for path, inode in reached.items()}

    def _contents(self, inode: int) -> list[bytes]:
        """What may be in a file."""
        changes = self._bytes.get(inode, [])
        waiting = [i for i, change in enumerate(changes) if not change.durable]
        if not waiting:
            return [self._content(changes, inode, {})]
        cut = {i: len(changes[i].data or b"") for i in waiting}
        found = [
            self._content(changes, inode, {}),  # all
            self._content(changes, inode, {i: 0 for i in waiting}),  # none
            self._content(changes, inode, {waiting[-1]: cut[waiting[-1]] // 2}),  # torn
            self._content(changes, inode, {waiting[0]: 0}),  # dropped
        ]
        longer = found[1].ljust(len(found[0]), b"\0")  # the length alone
        return [*dict.fromkeys([*found, longer])]

    def _content(self, changes: Sequence[_Bytes], inode: int, cut: Mapping[int, int]) -> bytes:
        """The file, of some changes only so many first bytes."""
        content = bytearray(self.files[inode])
        for i, change in enumerate(changes):
            if change.data is None:
                if i not in cut:
                    content = content[: change.at].ljust(change.at, b"\0")
                continue
            data = change.data[: cut.get(i)] if i in cut else change.data
            if data:
                content = content.ljust(change.at, b"\0")
                content[change.at : change.at + len(data)] = data
        return bytes(content)


def _apply(folders: dict[int, dict[str, int]], sets: Iterable[tuple[int, str, int | None]]) -> None:
    for folder, name, inode in sets:
        if inode is None:
            folders[folder].pop(name, None)
        else:
            folders[folder][name] = inode


def _walk(
    folders: Mapping[int, Mapping[str, int]], inode: int, path: str
) -> Iterator[tuple[str, int]]:
    for name, found in folders[inode].items():
        yield path + name, found
        if found in folders:
            yield from _walk(folders, found, path + name + os.sep)


def _subsets(waiting: Sequence[int]) -> Iterator[set[int]]:
    """All subsets of a few; of many the first so many, all but one, and each alone."""
    if len(waiting) <= _FEW:
        for size in range(len(waiting) + 1):
            yield from map(set, combinations(waiting, size))
        return
    yield from (set(waiting[:size]) for size in range(len(waiting) + 1))
    for one in waiting:
        yield {one}
        yield set(waiting) - {one}


def states(disk: Disk, calls: Iterable[Call]) -> Iterator[tuple[int, State]]:
    """Each state that may be found after so many calls, once."""
    known: set[int] = set()
    for k, call in enumerate([None, *calls]):
        if call is not None:
            disk.call(call)
        for state in disk.after_a_crash():
            key = hash(tuple(sorted(state.items(), key=lambda item: item[0])))
            if key not in known:
                known.add(key)
                yield k, state


def build(state: State, folder: Path) -> None:
    """Make a folder that holds nothing but a state."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in sorted(state.items()):
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
