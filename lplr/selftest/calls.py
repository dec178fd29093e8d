"""The system calls that change files in a folder, one by one, as Python makes them.

A child process calls `watch`, and from then on each call goes by a hook, which may record it, fail
in its place, or kill the process before, in the middle or after it. The functions of `os` and
`open` are replaced for that, since there is no tracing of processes on every machine: writes
through maps of files and by libraries in C are not seen, but a map that is flushed is.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lplr.storage import names

__all__ = ["Call", "Hook", "watch"]


class Call(NamedTuple):
    """A system call.

    Parameters
    ----------
    name : str
        ``create`` or ``open`` (of a file that is written), ``write``, ``truncate``, ``allocate``,
        ``fsync``, ``close``, ``rename``, ``swap``, ``link``, ``unlink``, ``mkdir``, ``rmdir``,
        ``chmod``.
    path : str
        Below the folder that is watched; "." is that itself.
    other : str
        The new name, of ``rename``, ``swap`` and ``link``.
    at : int
        Where bytes are written, or the size that a file is cut or extended to.
    data : bytes
        What is written.
    """

    name: str
    path: str
    other: str = ""
    at: int = 0
    data: bytes = b""


# ``hook(call, do)`` makes the call by ``do()``, or not; ``do(data)`` of a write writes other bytes.
Hook = Callable[[Call, Callable[..., Any]], Any]


def watch(folder: Path, hook: Hook) -> None:
    """Let each call below a folder go by the hook, in this process until its end."""
    _Watch(os.path.realpath(folder), hook).begin()


class _Watch:
    def __init__(self, root: str, hook: Hook) -> None:
        self._root, self._hook = root, hook
        self._paths: dict[int, str] = {}  # of descriptors, below the root
        self._new: dict[str, Callable[..., Any]] = {
            "open": self.open, "close": self.close, "write": self.write, "fsync": self.fsync,
            "truncate": self.truncate, "posix_fallocate": self.allocate, "rename": self.rename,
            "replace": self.rename, "link": self.link, "unlink": self.unlink,
            "remove": self.unlink, "mkdir": self.mkdir, "rmdir": self.rmdir, "chmod": self.chmod,
        }  # fmt: skip
        self._real = {name: getattr(os, name) for name in self._new if hasattr(os, name)}
        self._real_open, self._real_swap = builtins.open, names.swap
        self._real_flush = np.memmap.flush

    def begin(self) -> None:
        for name in self._real:
            setattr(os, name, self._new[name])
        names.swap = self.swap
        builtins.open = io.open = self.python_open
        np.memmap.flush = lambda array: self.flush(array)  # type: ignore[assignment]

    def _below(self, path: Any, dir_fd: int | None = None) -> str | None:
        """A path as calls name it; None if it is elsewhere."""
        if isinstance(path, int):
            return self._paths.get(path)
        name = os.fsdecode(path)
        if dir_fd is not None:
            if dir_fd not in self._paths:
                return None
            name = os.path.join(self._root, self._paths[dir_fd], name)
        folder, last = os.path.split(os.path.abspath(name))
        found = os.path.relpath(os.path.join(os.path.realpath(folder), last), self._root)
        return None if found.startswith("..") else found

    def _simple(self, name: str, called: str, path: Any, *args: Any, **options: Any) -> Any:
        """A call on one path that has no more to say."""
        real, below = self._real[name], self._below(path, options.get("dir_fd"))
        if below is None:
            return real(path, *args, **options)
        return self._hook(Call(called, below), lambda: real(path, *args, **options))

    def unlink(self, path: Any, **options: Any) -> Any:
        return self._simple("unlink", "unlink", path, **options)

    def mkdir(self, path: Any, *args: Any, **options: Any) -> Any:
        return self._simple("mkdir", "mkdir", path, *args, **options)

    def rmdir(self, path: Any, **options: Any) -> Any:
        return self._simple("rmdir", "rmdir", path, **options)

    def chmod(self, path: Any, *args: Any, **options: Any) -> Any:
        return self._simple("chmod", "chmod", path, *args, **options)

    def fsync(self, descriptor: int) -> Any:
        return self._simple("fsync", "fsync", descriptor)

    def flush(self, array: np.memmap) -> Any:
        below = self._below(array.filename) if array.filename else None
        if below is None:
            return self._real_flush(array)
        return self._hook(Call("fsync", below), lambda: self._real_flush(array))

    def allocate(self, descriptor: int, start: int, length: int) -> Any:
        return self._sized("posix_fallocate", "allocate", descriptor, start + length, start, length)

    def truncate(self, path: Any, length: int) -> Any:
        return self._sized("truncate", "truncate", path, length, length)

    def _sized(self, name: str, called: str, path: Any, size: int, *args: int) -> Any:
        real, below = self._real[name], self._below(path)
        if below is None:
            return real(path, *args)
        return self._hook(Call(called, below, at=size), lambda: real(path, *args))

    def rename(self, old: Any, new: Any, **options: Any) -> Any:
        return self._two("replace", "rename", old, new, **options)

    def swap(self, a: Any, b: Any) -> Any:
        source, target = str(self._below(a)), str(self._below(b))
        return self._hook(Call("swap", source, target), lambda: self._real_swap(a, b))

    def link(self, old: Any, new: Any, **options: Any) -> Any:
        return self._two("link", "link", old, new, **options)

    def _two(self, name: str, called: str, old: Any, new: Any, **options: Any) -> Any:
        real, source, target = self._real[name], self._below(old), self._below(new)
        if source is None or target is None:
            return real(old, new, **options)
        return self._hook(Call(called, source, target), lambda: real(old, new, **options))

    # --- files that are open ---

    def python_open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        """`open`, whose files pass their writes by the hook."""
        reads = not set(mode) & set("wax+")
        if reads or (isinstance(file, int) and file not in self._paths):
            return self._real_open(file, mode, *args, **options)
        if not isinstance(file, int):
            below = self._below(file)
            if below is None:
                return self._real_open(file, mode, *args, **options)
            flags = os.O_RDWR if "+" in mode else os.O_WRONLY
            flags |= {"w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND}.get(mode[0], 0)
            flags |= os.O_CREAT | os.O_EXCL if mode[0] == "x" else 0
            file = self.open(file, flags | os.O_CLOEXEC, 0o666)
        raw = _Raw(self, file, mode.replace("b", "").replace("x", "w"))
        buffered: Any = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **options)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        below = self._below(path, dir_fd)

        def do() -> int:
            return int(self._real["open"](path, flags, mode, dir_fd=dir_fd))

        if below is None:
            return do()
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if not writes:
            descriptor = do()
        else:
            new = flags & os.O_TRUNC or (flags & os.O_CREAT and not os.path.lexists(path))
            descriptor = self._hook(Call("create" if new else "open", below), do)
        self._paths[descriptor] = below
        return descriptor

    def write(self, descriptor: int, data: Any) -> Any:
        if descriptor not in self._paths:
            return self._real["write"](descriptor, data)
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        return self.written(descriptor, at, bytes(data))

    def written(self, descriptor: int, at: int, data: bytes) -> Any:
        def do(other: bytes | None = None) -> Any:
            return self._real["write"](descriptor, data if other is None else other)

        return self._hook(Call("write", self._paths[descriptor], at=at, data=data), do)

    def close(self, descriptor: int) -> None:
        below = self._paths.pop(descriptor, None)
        if below is None:
            self._real["close"](descriptor)
        else:
            self._hook(Call("close", below), lambda: self._real["close"](descriptor))


class _Raw(io.FileIO):
    """A file, unbuffered, whose writes and end pass by the hook."""

    def __init__(self, watched: _Watch, descriptor: int, mode: str) -> None:
        # The descriptor is closed below, by the function that passes the hook.
        super().__init__(descriptor, mode, closefd=False)
        self._watched = watched

    def write(self, data: Any) -> Any:
        at = self.seek(0, os.SEEK_END) if "a" in self.mode else self.tell()
        return self._watched.written(self.fileno(), at, bytes(data))

    def truncate(self, size: int | None = None) -> int:
        if size is None:
            size = self.tell()
        self._watched.truncate(self.fileno(), size)
        return size

    def close(self) -> None:
        if not self.closed:
            descriptor = self.fileno()
            super().close()
            os.close(descriptor)
