"""Jobs that take a while: what the package computes and writes, piece by piece."""

from __future__ import annotations

import io
import runpy
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn

import numpy as np

from lplr.exceptions import MissingFileError
from lplr.selftest.writings import (
    ABSENT,
    Seen,
    Writing,
    digest,
    kept_parts,
    nothing,
    prepare_matrix,
    read_file,
    read_parts,
    read_results,
    small,
    small_parts,
)
from lplr.storage.container import save
from lplr.storage.table import read_table

__all__ = ["JOBS", "command", "done"]


def command(*args: str | Path) -> NoReturn:
    """What the process ``python -m lplr ...`` does, SystemExit included."""
    before, sys.argv = sys.argv, ["lplr", *map(str, args)]
    heard = signal.getsignal(signal.SIGINT)
    try:
        runpy.run_module("lplr", run_name="__main__")
    finally:
        sys.argv = before
        signal.signal(signal.SIGINT, heard)
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

    with small_parts():
        lplr.factorize(
            str(folder / "A.npy"), rank=2, bits=4, effort="fast", rng=0, out=folder / "f"
        )


def _append(folder: Path) -> None:
    import lplr

    lplr.append(folder / "f", np.load(folder / "A.npy")[:200])


def _prepare_rows(folder: Path) -> None:
    import lplr

    prepare_matrix(folder)
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
    return {path.name: digest(sorted(content(path).items()))}


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
    return {path.name: digest([(str(p.relative_to(path)), p.read_bytes()) for p in files])}


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
    return {str([row[n] for n in names]): digest([row[k] for k in kept]) for row in rows}


def _bounds(folder: Path) -> None:
    done(
        "bounds", "feedback-lplr-bound-never-larger", "--trials", "30", "--overwrite",
        "--out", folder / "t.jsonl",
    )  # fmt: skip


JOBS = (
    Writing("saving", lambda f: save(f / "x.h5", small(2)), _save_often, read_file),
    Writing("appending", _prepare_rows, _append, read_parts),
    Writing("factorizing in parts", prepare_matrix, _factorize, read_parts, kept_parts),
    Writing("compressing a model", _prepare_model, _compress_model, _model, _layers),
    Writing("adapting a model", _prepare_adaptation, _adapt, _adapted),
    Writing("lplr bench", _prepare_bench, _bench, _results, lambda f: len(_results(f))),
    Writing("lplr bounds", nothing, _bounds, read_results),
)
