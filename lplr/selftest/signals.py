"""Signals at random moments of commands: no partial file, no process left, a documented code."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import LplrError
from lplr.selftest.calls import Call, watch
from lplr.selftest.children import Child, run
from lplr.selftest.jobs import JOBS, command, done
from lplr.selftest.kills import calls_of
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import TEMPORARY, WRITINGS, Place, Seen, Writing, small
from lplr.storage.container import load, save, verify

__all__ = ["campaign"]

_ASKING = ("SIGINT", "SIGTERM", "SIGHUP")
_OUTSIDE = 77  # exit code of a child that a signal reaches before or after the command
_WHAT = {job.what: job for job in JOBS}


@dataclass(frozen=True)
class _Command:
    """What is given to ``lplr``, in a folder, and what is looked at then."""

    args: Callable[[Path], tuple[str | Path, ...]]
    prepare: Callable[[Path], object]
    read: Callable[[Path], Seen]


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Send signals to writers and commands."""
    for i, writing in enumerate(WRITINGS):
        yield from _at_each_call(scale, Place(writing, folder / f"calls-{i}"))
    codes: list[int] = []
    for name, given in _COMMANDS.items():
        if scale.long or name in _QUICK:
            writing = Writing(name, given.prepare, partial(_done, given), given.read)
            place = Place(writing, folder / name.replace(" ", "-"))
            yield from _interrupted(scale, place, given, codes)
    # Most come while a command is at work, and few before its first line or behind its last.
    heeded, outside = sum(code > 128 for code in codes), codes.count(_OUTSIDE)
    failure = f"only {heeded} of {heeded + outside}" if heeded <= outside else ""
    yield Trial("G6", "signals that commands heed", failure)


def _at_each_call(scale: Scale, place: Place) -> Iterator[Trial]:
    """SIGINT right after each system call of a writer, which raises KeyboardInterrupt there."""
    calls = calls_of(place)
    step = max(1, scale.count(1, len(calls) // 2))
    for k in range(int(scale.rng(place.writing.what).integers(step)), len(calls), step):
        place.reset()
        ended = run(partial(_interrupted_at, place, k))
        failure = "" if ended.code == 0 else f"exit code {ended.code}: {ended.value}"
        failure = failure or _partial(place) or place.broken() or place.unfinished()
        told = f"{place.writing.what}, after call {k}, {calls[k]}: {failure}"
        yield Trial("G1 G6", "SIGINT after a system call of a writer", failure and told)


def _interrupted_at(place: Place, k: int) -> None:
    made = -1

    def interrupt(call: Call, do: Callable[..., Any]) -> Any:
        nonlocal made
        made += 1
        try:
            return do()
        finally:
            if made == k:
                signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch(place.folder, interrupt)
    with suppress(KeyboardInterrupt, LplrError):
        place.write()


def _done(given: _Command, folder: Path) -> None:
    done(*given.args(folder))


def _interrupted(scale: Scale, place: Place, given: _Command, codes: list[int]) -> Iterator[Trial]:
    """One command; its exit codes are added to ``codes``."""
    chance = scale.rng(place.writing.what)

    def work() -> None:
        command(*given.args(place.folder))

    start = time.perf_counter()
    with Child(work) as child:
        failure = "" if child.wait().code == 0 else "it fails when nobody disturbs it"
    alone = time.perf_counter() - start
    for i in range(scale.count(32, 3)):
        place.reset()
        name = (*_ASKING, "SIGSTOP")[i % 4 if scale.long else int(chance.integers(4))]
        pause = chance.uniform(0, alone)
        with Child(work, _OUTSIDE) as child:
            time.sleep(pause)
            child.send(getattr(signal, name))
            if name == "SIGSTOP":
                time.sleep(0.02)
                child.send(signal.SIGCONT)
            ended = child.wait()
        codes.append(ended.code)
        expected = (0, 128 + getattr(signal, name), _OUTSIDE) if name != "SIGSTOP" else (0,)
        if ended.code not in expected:
            failure = f"exit code {ended.code}: {ended.printed[-1000:]} {ended.value or ''}"
        elif "Traceback" in ended.printed:
            failure = f"prints {ended.printed[-1000:]}"
        elif ended.left:
            failure = "a process is left"
        failure = failure or _partial(place) or place.broken()
        if not failure and ended.code == 0 and place.seen() != place.new:
            failure = "it says that it is done, and is not"
        if not failure and i % 4 == 0:
            failure = place.unfinished()
        told = f"{name} after {pause:.4f} s of lplr {place.writing.what}: {failure}"
        yield Trial("G1 G6", f"{name} of a command", failure and told)
        failure = ""


def _partial(place: Place) -> str:
    """What is there that is no result and no folder of a job."""
    left = [path.name for path in place.folder.rglob("*") if TEMPORARY.fullmatch(path.name)]
    left += [name for name in place.left() if not name.endswith(".job")]
    return f"leaves {left[0]}" if left else ""


# --- the commands ----------------------------------------------------------------------------


def _matrix(folder: Path) -> None:
    A = np.random.default_rng(0).standard_normal((300, 60), np.float32)
    np.save(folder / "A.npy", A)


def _matrices(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {f"w{i}": rng.standard_normal((60, 40)) for i in range(6)}
    np.savez(folder / "A.npz", **arrays)


def _packed(folder: Path) -> None:
    save(folder / "q.h5", small(1))


def _file(folder: Path) -> Seen:
    path = folder / "x.h5"
    return {path.name: verify(path)} if path.exists() else {}


def _many(folder: Path) -> Seen:
    path = folder / "x.h5"
    return {path.name: str(sorted(load(path)))} if path.exists() else {}


def _npy(folder: Path) -> Seen:
    path = folder / "B.npy"
    return {path.name: np.load(path).tobytes().hex()} if path.exists() else {}


def _prepare_tokens(folder: Path) -> None:
    from lplr.selftest.tiny import TOKENS

    _WHAT["compressing a model"].prepare(folder)
    np.save(folder / "tokens.npy", TOKENS)


def _folder(path: Path) -> Seen:
    """Every file of an exported model, which is there whole or not at all."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {path.name: str([(p.name, p.read_bytes()) for p in files])} if path.exists() else {}


def _prepare_adaptation(folder: Path) -> None:
    from lplr.selftest.tiny import TOKENS

    _WHAT["adapting a model"].prepare(folder)
    np.save(folder / "tokens.npy", TOKENS)


def _moments(folder: Path) -> Seen:
    path = folder / "H.safetensors"
    return {path.name: path.read_bytes().hex()} if path.exists() else {}


def _page(folder: Path) -> Seen:
    """A page is whole; its times differ."""
    path = folder / "page.html"
    whole = path.exists() and path.read_text().rstrip().endswith("</html>")
    return {path.name: "whole" if whole else "cut"} if path.exists() else {}


_COMMANDS = {
    "compress": _Command(
        lambda f: ("compress", f / "A.npy", "-o", f / "x.h5", "--bits-per-entry", "2"),
        _matrix,
        _file,
    ),
    "compress many": _Command(
        lambda f: ("compress", f / "A.npz", "-o", f / "x.h5", "--bits-per-entry", "2"),
        _matrices,
        _many,
    ),
    "decompress": _Command(
        lambda f: ("decompress", f / "q.h5", "-o", f / "B.npy"), _packed, _npy
    ),
    "append": _Command(
        lambda f: ("append", f / "f", f / "A.npy"),
        _WHAT["appending"].prepare,
        _WHAT["appending"].read,
    ),
    "bounds": _Command(
        lambda f: (
            "bounds", "feedback-lplr-bound-never-larger", "--trials", "30",
            "--out", f / "t.jsonl",
        ),
        lambda f: None,
        _WHAT["lplr bounds"].read,
    ),
    "bench": _Command(
        lambda f: (
            "bench", "layers", f / "A.npy", "--budgets", "2,4", "--methods", "naive,compress",
            "--out", f / "t.jsonl",
        ),
        _WHAT["lplr bench"].prepare,
        _WHAT["lplr bench"].read,
    ),
    "model compress": _Command(
        lambda f: (
            "model", "compress", f / "source", "-o", f / "small", "--tokens", f / "tokens.npy",
            "--method", "caldera", "--rank", "2",
        ),
        _prepare_tokens,
        _WHAT["compressing a model"].read,
    ),
    "model calibrate": _Command(
        lambda f: (
            "model", "calibrate", f / "source", "-o", f / "H.safetensors",
            "--tokens", f / "tokens.npy",
        ),
        _prepare_tokens,
        _moments,
    ),
    "model adapt": _Command(
        lambda f: (
            "model", "adapt", f / "packed", f / "source", "-o", f / "small",
            "--tokens", f / "tokens.npy", "--rank", "2", "--steps", "12", "--batch", "4",
        ),
        _prepare_adaptation,
        _WHAT["adapting a model"].read,
    ),
    "model evaluate": _Command(
        lambda f: (
            "model", "evaluate", f / "packed", "--original", f / "source",
            "--tokens", f / "tokens.npy", "--html", f / "page.html",
        ),
        _prepare_adaptation,
        _page,
    ),
    "model export": _Command(
        lambda f: ("model", "export", f / "packed", "-o", f / "dense"),
        _WHAT["adapting a model"].prepare,
        lambda f: _folder(f / "dense"),
    ),
}  # fmt: skip
_QUICK = ("compress", "append", "decompress")
