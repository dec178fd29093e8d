"""Jobs that take a while: what the package computes and writes, piece by piece."""

from __future__ import annotations

import io
import runpy
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np

from lplr.exceptions import MissingFileError
from lplr.selftest.writings import (
    ABSENT,
    Pieces,
    Seen,
    Writing,
    digest,
    identities,
    kept_parts,
    nothing,
    prepare_matrix,
    read_file,
    read_parts,
    read_results,
    small,
    small_parts,
)
from lplr.storage.container import load, save
from lplr.storage.sealed import read_sealed
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
    adapt(*models, TOKENS, folder / "small", rank=2, steps=_STEPS, batch=4, rate=1e-3)


def _adapted(folder: Path) -> Seen:
    from lplr.models.packed import PackedModel

    path = folder / "small"
    if not path.exists():
        return {path.name: ABSENT}
    PackedModel(path).verify()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {path.name: digest([(str(p.relative_to(path)), p.read_bytes()) for p in files])}


# They are of the result in the end.
_layers = identities("small.job/model/layers/*.h5", "small/layers/*.h5")
_STEPS = 12


def _steps(folder: Path) -> Pieces:
    """Steps, which all are in one file that is written again, and layers."""
    from lplr.models.adaptation.training import Training

    job = folder / "small.job" / "training.safetensors"
    state = Training.load(job) if job.exists() else None
    taken = _STEPS if (folder / "small").exists() else state.optimizer.step if state else 0
    return {**{f"step {k + 1}": "taken" for k in range(taken)}, **_layers(folder)}


def _form_moments(folder: Path) -> None:
    from lplr.models.moments import output_moments
    from lplr.selftest.tiny import TOKENS

    with patch("lplr.models.moments_pass.BATCH", 2):
        output_moments(folder / "source", TOKENS, folder / "H.safetensors")


def _moments(folder: Path) -> Seen:
    from lplr.models.moments_file import open_moments

    path = folder / "H.safetensors"
    if not path.exists():
        return {path.name: ABSENT}
    open_moments(path).verify()
    return {path.name: digest(path.read_bytes())}


def _batches(folder: Path) -> Pieces:
    """Batches, the sums of which take turns in two files."""
    found = read_sealed(folder / "H.safetensors.job" / "done.json") or {"batches": 0}
    return {f"batch {k + 1}": "summed" for k in range(found["batches"])}


def _prepare_small_model(folder: Path) -> None:
    from lplr.selftest.tiny import tiny_checkpoint

    small = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}
    tiny_checkpoint(folder / "source", **small, num_attention_heads=2, num_key_value_heads=1)


def _compare(folder: Path) -> None:
    from lplr.models.allocation import allocate
    from lplr.selftest.tiny import TOKENS

    with patch("lplr.models.moments_pass.BATCH", 2):
        allocate(
            folder / "source",
            folder / "bits.json",
            bits_per_weight=4.0,
            calibration=TOKENS,
            output_moments=True,
        )


def _compared(folder: Path) -> Seen:
    path = folder / "bits.json"
    return {path.name: digest(path.read_bytes()) if path.exists() else ABSENT}


def _known(folder: Path) -> Pieces:
    """What is known of candidates, and the moments; the candidates themselves are forgotten."""
    work = folder / "bits.json.job"
    known = read_sealed(work / "known.json") or {}
    about = {f"{what}, {name}": digest(known[what][name]) for what in known for name in known[what]}
    return {**about, **identities("bits.json.job/moments.safetensors")(folder)}


def _prepare_many(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {f"w{i}": rng.standard_normal((24, 16)) for i in range(4)}
    np.savez(folder / "A.npz", **arrays)


def _compress_many(folder: Path) -> None:
    done(
        "compress", folder / "A.npz", "-o", folder / "x.h5", "--bits-per-entry", "2",
        "--effort", "fast",
    )  # fmt: skip


def _many(folder: Path) -> Seen:
    """All but the times, which are told beside the matrices."""
    path = folder / "x.h5"
    if not path.exists():
        return {path.name: ABSENT}
    found = load(path)
    return {path.name: digest([(name, found[name].to_dense().tobytes()) for name in found])}


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


def _finished_rows(folder: Path) -> Pieces:
    """Rows with their times, which would be others if they were made anew."""
    try:
        rows, _ = read_table(folder / "t.jsonl")
    except MissingFileError:
        return {}
    return {f"row {k + 1}": digest(row) for k, row in enumerate(rows)}


JOBS = (
    # One call after the other, of which each writes once.
    Writing("saving", lambda f: save(f / "x.h5", small(2)), _save_often, read_file),
    # All of the new rows or none.
    Writing("appending", _prepare_rows, _append, read_parts),
    Writing("factorizing in parts", prepare_matrix, _factorize, read_parts, kept_parts),
    Writing("compressing a model", _prepare_model, _compress_model, _model, _layers),
    Writing("adapting a model", _prepare_adaptation, _adapt, _adapted, _steps),
    Writing("forming output moments", _prepare_model, _form_moments, _moments, _batches),
    Writing("comparing allocations", _prepare_small_model, _compare, _compared, _known),
    Writing(
        "compressing many matrices",
        _prepare_many,
        _compress_many,
        _many,
        identities("x.h5.job/*.h5", "x.h5.job/*.json"),
    ),
    Writing("lplr bench", _prepare_bench, _bench, _results, _finished_rows),
    # Seconds of work in memory, and a table at the end.
    Writing("lplr bounds", nothing, _bounds, read_results),
)
