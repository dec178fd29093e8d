"""Every command of the command line, on inputs so small that it takes a fraction of a second."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.selftest.jobs import JOBS, done
from lplr.selftest.smaller import (
    one_task,
    one_writing,
    small_peaks,
    three_grids,
    two_figures,
)
from lplr.selftest.writings import Seen, digest, nothing, small
from lplr.storage.container import load, save, verify
from lplr.storage.table import read_table

__all__ = ["COMMANDS", "Command"]

_WHAT = {job.what: job for job in JOBS}
_STATEMENT = "feedback-lplr-bound-never-larger"


@dataclass(frozen=True)
class Command:
    """What is given to ``lplr``, in a folder, and what is looked at then.

    Parameters
    ----------
    args : str
        Words; one with ``@`` before it is the name of a file in the folder.
    prepare : callable
        ``prepare(folder)`` makes what it reads.
    read : callable
        ``read(folder)`` reads each final name as users do; of a command that writes nothing, all
        that is there.
    writes : bool
    signals : int
        How many are sent to it in the long form: fewer where it takes seconds.
    anew : bool
        Whether its process is started, and no fork of this one.
    smaller : callable
        A context in which the command has less to do than its options can say.
    """

    args: str
    prepare: Callable[[Path], object]
    read: Callable[[Path], Seen]
    writes: bool = True
    signals: int = 10
    anew: bool = False
    smaller: Callable[[], AbstractContextManager[object]] = nullcontext

    def words(self, folder: Path) -> list[str]:
        """The arguments of ``lplr``."""
        return [
            str(folder / word[1:]) if word.startswith("@") else word for word in self.args.split()
        ]


# --- what is there before --------------------------------------------------------------------


def _matrix(folder: Path) -> None:
    A = np.random.default_rng(0).standard_normal((300, 60), np.float32)
    np.save(folder / "A.npy", A)


def _matrices(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {f"w{i}": rng.standard_normal((60, 40)) for i in range(4)}
    np.savez(folder / "A.npz", **arrays)


def _packed(folder: Path) -> None:
    save(folder / "q.h5", small(1))


def _model(folder: Path) -> None:
    """A network, the same compressed, and tokens."""
    from lplr.selftest.tiny import TOKENS

    _WHAT["adapting a model"].prepare(folder)
    np.save(folder / "tokens.npy", TOKENS)


def _results(folder: Path) -> None:
    _WHAT["lplr bench"].prepare(folder)
    done(*COMMANDS["bench layers"].words(folder))
    for path in folder.glob("t.*"):
        path.rename(folder / f"old{path.name[1:]}")


# --- what is there then ----------------------------------------------------------------------


def _everything(folder: Path) -> Seen:
    """Each file, of a command that changes none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in files}


def _file(folder: Path) -> Seen:
    path = folder / "x.h5"
    return {path.name: verify(path)} if path.exists() else {}


def _many(folder: Path) -> Seen:
    path = folder / "x.h5"
    return {path.name: str(sorted(load(path)))} if path.exists() else {}


def _npy(folder: Path) -> Seen:
    path = folder / "B.npy"
    return {path.name: digest(np.load(path).tobytes())} if path.exists() else {}


def _moments(folder: Path) -> Seen:
    path = folder / "H.safetensors"
    return {path.name: digest(path.read_bytes())} if path.exists() else {}


def _dense(folder: Path) -> Seen:
    """Every file of an exported model, which is there whole or not at all."""
    path = folder / "dense"
    return {path.name: digest(sorted(_everything(path).items()))} if path.exists() else {}


# Pages and pictures are whole; the times in them differ.
_ENDS = {".html": b"</html>", ".png": b"IEND\xaeB`\x82", ".pdf": b"%%EOF"}


def _drawn(folder: Path, names: str = "new.*") -> Seen:
    found = {}
    for path in folder.glob(names):
        whole = path.suffix in _ENDS and path.read_bytes().rstrip().endswith(_ENDS[path.suffix])
        found[path.name] = "whole" if whole else "cut"
    return found


def _rows(folder: Path, values: bool) -> Seen:
    """Each row of a table that is there: a run that was cut short has some of them."""
    path, found = folder / "t.jsonl", {}
    if path.exists():
        for row in read_table(path)[0]:
            about = [row.get(name) for name in ("dataset", "method", "budget", "metric", "rows")]
            kept = "rank", "status", *(("value", "stored_bytes") if values else ("nbytes",))
            found[str(about)] = digest([row[name] for name in kept])
    return found


def _table(folder: Path, values: bool = True) -> Seen:
    """The rows, whole CSV, attributes and images beside them, and the page."""
    found = dict(_rows(folder, values))
    if (path := folder / "t.csv").exists():
        text = path.read_text()
        lengths = {len(row) for row in csv.reader(text.splitlines())}
        found[path.name] = "whole" if len(lengths) == 1 and text.endswith("\n") else "cut"
    if (path := folder / "t.meta.json").exists():
        found[path.name] = str(sorted(json.loads(path.read_bytes())))
    if (path := folder / "t.pictures.npz").exists():
        with np.load(path) as arrays:
            found[path.name] = str([name for name in arrays if name != arrays[name].size])
    return {**found, **_drawn(folder)}


def _bounds(folder: Path) -> Seen:
    return {**_WHAT["lplr bounds"].read(folder), **_drawn(folder)}


def _scale(folder: Path) -> Seen:
    return _table(folder, values=False)


def _demo(folder: Path) -> Seen:
    """The table comes last, and every file that it names is there."""
    path = folder / "new" / "results.json"
    if not path.exists():
        return {}
    files = sorted({row["file"] for row in json.loads(path.read_bytes())["rows"]})
    digests = digest([verify(path.parent / name) for name in files])
    return {path.name: digests, **_drawn(path.parent, "*.png")}


# Several entries may be of one command; the words up to the first option tell of which.
COMMANDS = {
    "compress": Command("compress @A.npy -o @x.h5 --bits-per-entry 2", _matrix, _file),
    "compress many": Command(
        "compress @A.npz -o @x.h5 --bits-per-entry 2 --effort fast", _matrices, _many
    ),
    "append": Command("append @f @A.npy", _WHAT["appending"].prepare, _WHAT["appending"].read),
    "decompress": Command("decompress @q.h5 -o @B.npy", _packed, _npy),
    "info": Command("info @q.h5", _packed, _everything, writes=False),
    "verify": Command("verify @q.h5", _packed, _everything, writes=False),
    "model compress": Command(
        "model compress @source -o @small --tokens @tokens.npy --method caldera --rank 2",
        _model,
        _WHAT["compressing a model"].read,
    ),
    "model adapt": Command(
        "model adapt @packed @source -o @small --tokens @tokens.npy --rank 2 --steps 4 --batch 4",
        _model,
        _WHAT["adapting a model"].read,
        signals=5,
    ),
    "model calibrate": Command(
        "model calibrate @source -o @H.safetensors --tokens @tokens.npy", _model, _moments
    ),
    "model evaluate": Command(
        "model evaluate @packed --original @source --tokens @tokens.npy --html @new.html",
        _model,
        _drawn,
    ),
    "model generate": Command(
        "model generate @packed --ids 1 2 3 --max-tokens 20", _model, _everything, writes=False
    ),
    "model info": Command("model info @packed", _model, _everything, writes=False),
    "model export": Command("model export @packed -o @dense", _model, _dense),
    "demo": Command("demo --out @new", nothing, _demo, signals=5, smaller=three_grids),
    "bench knn": Command(
        "bench knn --budgets 1 --methods naive --seeds 0,1 --out @t.jsonl",
        nothing,
        _table,
        smaller=one_task,
    ),
    "bench layers": Command(
        "bench layers @A.npy --budgets 2,4 --methods naive,compress --out @t.jsonl",
        _WHAT["lplr bench"].prepare,
        _table,
    ),
    "bench image": Command(
        "bench image --budgets 1,2 --methods naive --out @t.jsonl --html @new.html",
        nothing,
        _table,
        smaller=one_task,
    ),
    "bench sklearn": Command(
        "bench sklearn --budgets 1 --families naive --seeds 0 --out @t.jsonl",
        nothing,
        _table,
        smaller=one_task,
    ),
    "bench all": Command(
        "bench all --budgets 1 --methods naive --seeds 0 --out @t.jsonl",
        nothing,
        _table,
        signals=5,
        smaller=one_task,
    ),
    "bench speed": Command(
        "bench speed --quick --html @new.html", nothing, _drawn, signals=5, smaller=two_figures
    ),
    "bench profile": Command(
        "bench profile --size 64x48 --method quantize --html @new.html",
        nothing,
        _drawn,
        smaller=small_peaks,
    ),
    "bench scale": Command(
        "bench scale --rows 1000 --columns 8 --methods feedback --out @t.jsonl --html @new.html",
        nothing,
        _scale,
        signals=5,
    ),
    "bench report": Command("bench report @old.jsonl --html @new.html", _results, _drawn),
    "bounds": Command(
        f"bounds {_STATEMENT} --trials 30 --out @t.jsonl --plot @new.png --overwrite",
        nothing,
        _bounds,
        signals=5,
    ),
    "bounds in workers": Command(
        f"bounds {_STATEMENT} --trials 300 --out @t.jsonl", nothing, _bounds, signals=5, anew=True
    ),
    "bounds --matrix": Command(
        "bounds --matrix @A.npy --values 2,4 --rank 4 --trials 30 --plot @new.pdf",
        _matrix,
        _drawn,
        signals=5,
    ),
    "doctor": Command("doctor", nothing, _everything, writes=False, signals=5),
    "selftest": Command(
        "selftest --only kills",
        nothing,
        _everything,
        writes=False,
        smaller=one_writing,
    ),
    "selftest of processes": Command(
        "selftest --only loading", nothing, _everything, writes=False, signals=5
    ),
}
