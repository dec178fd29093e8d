"""What the package writes, each as a call on a folder that can be cut short and looked at."""

from __future__ import annotations

import hashlib
import io
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lplr.exceptions import MissingFileError
from lplr.matrices.quantized import Quantized
from lplr.progress import unheard
from lplr.selftest.children import Ended, run
from lplr.storage.container import load, save, verify
from lplr.storage.folder_writer import add_parts, write_folder
from lplr.storage.table import meta_path, read_table, write_table

__all__ = ["ABSENT", "JOBS", "WRITINGS", "Place", "Writing", "command", "done", "small"]

ABSENT = "nothing"
TEMPORARY = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")  # never a result, see lplr.storage.atomic

Seen = Mapping[str, str]  # of each final name, a digest of what a reader finds there


@dataclass(frozen=True)
class Writing:
    """A call that writes into a folder.

    Parameters
    ----------
    what : str
    prepare : callable
        ``prepare(folder)`` makes what is there before.
    write : callable
        ``write(folder)`` is the call.
    read : callable
        ``read(folder)`` reads each final name as users do, and verifies it.
    finished : callable
        ``finished(folder)`` counts the pieces that are kept, of a call that resumes.
    """

    what: str
    prepare: Callable[[Path], Any]
    write: Callable[[Path], Any]
    read: Callable[[Path], Seen]
    finished: Callable[[Path], int] = lambda folder: 0


class Place:
    """A folder in which a writing is tried again and again.

    Attributes
    ----------
    old, new : mapping
        What is read before the call, and after one that nobody disturbs.
    """

    def __init__(self, writing: Writing, folder: Path) -> None:
        self.writing = writing
        self._model, self.folder = folder / "model", folder / "tried"
        self._model.mkdir(parents=True)
        with unheard():
            writing.prepare(self._model)
        self.reset()
        self.old = self.seen()
        with unheard():
            self.write()  # which compiles and imports what it needs
        self.new = self.seen()
        self._names = set(os.listdir(self.folder))
        assert self.old != self.new, writing.what
        self.reset()

    def reset(self) -> None:
        """Everything as before the call."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._model, self.folder, symlinks=True)

    def seen(self) -> Seen:
        """What is read now."""
        with unheard():
            return self.writing.read(self.folder)

    def broken(self, seen: Seen | None = None) -> str:
        """Why what is read is neither the old nor the new; empty if each file is one of them."""
        try:
            seen = self.seen() if seen is None else seen
        except Exception as error:  # of any kind: it is told
            return f"what is there cannot be read: {type(error).__name__}: {error}"
        odd = [name for name in seen if seen[name] not in self._allowed(name)]
        return f"{odd[0]} is neither the old nor the new" if odd else ""

    def _allowed(self, name: str) -> tuple[str, str]:
        return self.old.get(name, ABSENT), self.new.get(name, ABSENT)

    def run(self) -> Ended:
        """How a child that makes the call ends."""
        return run(self.write)

    def write(self) -> None:
        """Make the call."""
        self.writing.write(self.folder)

    def unfinished(self) -> str:
        """Why the call, made once more, does not end as one that nobody disturbed."""
        if self.seen() == self.new:
            return ""
        ended = self.run()
        if ended.code != 0:
            return f"the same call fails: {ended.value or ended.printed}"
        if self.seen() != self.new:
            return "the same call makes something else"
        left = [name for name in self.left() if not TEMPORARY.fullmatch(name)]
        return f"the same call leaves {left[0]}" if left else ""

    def left(self) -> list[str]:
        """Names that an undisturbed call does not leave."""
        return sorted(set(os.listdir(self.folder)) - self._names)


# --- what is written -------------------------------------------------------------------------


def small(seed: int = 0, n: int = 40, d: int = 300) -> Quantized:
    """A matrix of random bytes, about 12 kB of them, more than a buffer holds."""
    codes = np.random.default_rng(seed).integers(0, 256, n * d, np.uint8)
    return Quantized((n, d), "uniform", 8, codes, np.full((1, 1), 0.5, np.float32))


def _digest(*what: Any) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _file(folder: Path) -> Seen:
    path = folder / "x.h5"
    try:
        load(path)
        return {path.name: verify(path)}
    except MissingFileError:
        return {path.name: ABSENT}


def _parts(folder: Path) -> Seen:
    path = folder / "f"
    return {path.name: verify(path) if path.exists() else ABSENT}


def _table(folder: Path) -> Seen:
    path = folder / "t.jsonl"
    try:
        rows, about = read_table(path)
    except MissingFileError:
        return {path.name: ABSENT, meta_path(path).name: ABSENT}
    return {path.name: _digest(rows), meta_path(path).name: _digest(about)}


def _write_table(folder: Path, value: int) -> None:
    rows = [{"value": value, "note": "x" * 200} for _ in range(100)]
    write_table(folder / "t.jsonl", rows, attrs={"value": value}, overwrite=True)


@contextmanager
def _small_parts() -> Iterator[None]:
    """Results in parts of 4096 rows, which are small."""
    from lplr.streaming import part_rows

    before, part_rows._NBYTES = part_rows._NBYTES, 1
    try:
        yield
    finally:
        part_rows._NBYTES = before


def _stream(folder: Path) -> None:
    import lplr

    with _small_parts():
        lplr.quantize(str(folder / "A.npy"), bits=2, out=folder / "f")


def _prepare_matrix(folder: Path) -> None:
    A = np.random.default_rng(0).standard_normal((8300, 6), np.float32)
    np.save(folder / "A.npy", A)


def _kept(folder: Path) -> int:
    return len(list((folder / "f.job").glob("*.h5")))


def _two(folder: Path, seed: int, overwrite: bool) -> None:
    write_folder(folder / "f", [small(seed), small(seed + 1)], {"n": seed}, overwrite=overwrite)


def _nothing(folder: Path) -> None:
    pass


WRITINGS = (
    Writing("a new file", _nothing, lambda f: save(f / "x.h5", small(1)), _file),
    Writing(
        "a file replaced",
        lambda f: save(f / "x.h5", small(2)),
        lambda f: save(f / "x.h5", small(1), overwrite=True),
        _file,
    ),
    Writing("a new folder", _nothing, lambda f: _two(f, 1, False), _parts),
    Writing("a folder replaced", lambda f: _two(f, 5, False), lambda f: _two(f, 1, True), _parts),
    Writing(
        "rows appended",
        lambda f: _two(f, 5, False),
        lambda f: add_parts(f / "f", [small(7), small(8)]),
        _parts,
    ),
    Writing("a table replaced", lambda f: _write_table(f, 1), lambda f: _write_table(f, 2), _table),
    Writing("a matrix in parts", _prepare_matrix, _stream, _parts, _kept),
)


# --- jobs ------------------------------------------------------------------------------------


def command(*args: str | Path) -> NoReturn:
    """What the process ``python -m lplr ...`` does, SystemExit included."""
    before, sys.argv = sys.argv, ["lplr", *map(str, args)]
    try:
        runpy.run_module("lplr", run_name="__main__")
    finally:
        sys.argv = before
    raise SystemExit(0)


def done(*args: str | Path) -> None:
    """A command that must succeed, unheard."""
    told = io.StringIO()
    try:
        with redirect_stdout(told), redirect_stderr(told):
            command(*args)
    except SystemExit as exit:
        if exit.code:
            raise RuntimeError(told.getvalue()) from None


def _factorize(folder: Path) -> None:
    import lplr

    with _small_parts():
        lplr.factorize(
            str(folder / "A.npy"), rank=2, bits=4, effort="fast", rng=0, out=folder / "f"
        )


def _append(folder: Path) -> None:
    import lplr

    lplr.append(folder / "f", np.load(folder / "A.npy")[:200])


def _prepare_rows(folder: Path) -> None:
    import lplr

    _prepare_matrix(folder)
    A = np.load(folder / "A.npy")
    lplr.save(folder / "f", lplr.factorize(A, rank=2, bits=4, effort="fast", rng=0), parts=True)


def _save_often(folder: Path) -> None:
    for _ in range(20):
        save(folder / "x.h5", small(2), overwrite=True)
        save(folder / "x.h5", small(1), overwrite=True)


def _model(folder: Path) -> Seen:
    from lplr.models.packed import PackedModel
    from lplr.selftest.tiny import content

    path = folder / "small"
    if not path.exists():
        return {path.name: ABSENT}
    PackedModel(path).verify()
    return {path.name: _digest(sorted(content(path).items()))}


def _compress_model(folder: Path, out: str = "small") -> None:
    from lplr.models.compress_model import compress
    from lplr.selftest.tiny import TOKENS

    compress(folder / "source", folder / out, calibration=TOKENS, method="caldera", rank=2)


def _prepare_model(folder: Path) -> None:
    from lplr.selftest.tiny import tiny_checkpoint

    tiny_checkpoint(folder / "source")


def _prepare_adaptation(folder: Path) -> None:
    _prepare_model(folder)
    _compress_model(folder, "packed")


def _adapt(folder: Path) -> None:
    from lplr.models.adaptation.adapt_model import adapt
    from lplr.selftest.tiny import TOKENS

    models = folder / "packed", folder / "source"
    adapt(*models, TOKENS, folder / "small", rank=2, steps=12, batch=4, rate=1e-3)


def _adapted(folder: Path) -> Seen:
    from lplr.models.packed import PackedModel

    path = folder / "small"
    if not path.exists():
        return {path.name: ABSENT}
    PackedModel(path).verify()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {path.name: _digest([(str(p.relative_to(path)), p.read_bytes()) for p in files])}


def _layers(folder: Path) -> int:
    from lplr.models.job import progress_of

    return progress_of(folder / "small")


def _bench(folder: Path) -> None:
    done(
        "bench", "layers", folder / "A.npy", "--budgets", "2,4", "--methods", "naive,compress",
        "--out", folder / "t.jsonl",
    )  # fmt: skip


def _prepare_bench(folder: Path) -> None:
    np.save(folder / "A.npy", np.random.default_rng(0).standard_normal((64, 16), np.float32))


def _results(folder: Path) -> Seen:
    """Each row that is there, without its times: a run that was cut short has some of them."""
    try:
        rows, _ = read_table(folder / "t.jsonl")
    except MissingFileError:
        return {}
    names = "dataset", "method", "budget", "metric"
    kept = "value", "stored_bytes", "rank", "status"
    return {str([row[n] for n in names]): _digest([row[k] for k in kept]) for row in rows}


def _bounds(folder: Path) -> None:
    done(
        "bounds", "feedback-lplr-bound-never-larger", "--trials", "30", "--overwrite",
        "--out", folder / "t.jsonl",
    )  # fmt: skip


JOBS = (
    Writing("saving", lambda f: save(f / "x.h5", small(2)), _save_often, _file),
    Writing("appending", _prepare_rows, _append, _parts),
    Writing("factorizing in parts", _prepare_matrix, _factorize, _parts, _kept),
    Writing("compressing a model", _prepare_model, _compress_model, _model, _layers),
    Writing("adapting a model", _prepare_adaptation, _adapt, _adapted),
    Writing("lplr bench", _prepare_bench, _bench, _results, lambda f: len(_results(f))),
    Writing("lplr bounds", _nothing, _bounds, _table),
)
