"""Matrices in passes keep their limit of memory, as the system counts it, down to the least one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import lplr
from lplr.evaluation.resources import measured, run_fresh
from lplr.exceptions import InputError
from lplr.parallel import n_threads
from lplr.selftest.trials import Scale, Trial
from lplr.sources import open_source
from lplr.storage.temporary import temporary_folder

__all__ = ["campaign"]

_CALLS: dict[str, Callable[..., Any]] = {
    "quantize": lambda A, **how: lplr.quantize(A, bits=2, **how),
    "quantize rows": lambda A, **how: lplr.quantize(A, bits=4, granularity="row", **how),
    "factorize": lambda A, **how: lplr.factorize(A, rank=4, effort="fast", rng=0, **how),
    # An error below 1 % is measured, by another pass.
    "factorize finely": lambda A, **how: lplr.factorize(
        A, bits_per_entry=9, effort="fast", rng=0, **how
    ),
    "LPLR": lambda A, **how: lplr.factorize(A, rank=4, method="lplr-svd", rng=0, **how),
    "compress": lambda A, **how: lplr.compress(A, bits_per_entry=1, effort="fast", rng=0, **how),
    "quantize to parts": lambda A, **how: _to_parts(lplr.quantize, A, bits=8, **how),
}
_WARM = 4096  # rows of the call before the measured ones, which loads what is loaded once
# Kind of file, rows and columns: each takes several times the least limits.
_LONG = (
    ("npy", 400_000, 32),
    ("npy", 60_000, 256),
    ("npy in Fortran order", 200_000, 32),
    ("h5", 500_000, 32),
    ("h5 of float64", 250_000, 32),
)
_QUICK = (("npy", 150_000, 32),)


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Measure the peak of each call at its least limit and twice that, in a process of its own."""
    for kind, rows, columns in _LONG if scale.long else _QUICK:
        path = folder / f"rows.{kind.split()[0]}"
        _KINDS[kind](path, rows, columns)
        calls = tuple(_CALLS) if scale.long else ("quantize", "factorize")
        factors = (1, 2) if scale.long else (1,)
        about = f"{rows} x {columns} as {kind}"
        threads = str(max(2, n_threads()))
        try:
            found = run_fresh(
                __name__, "peaks", str(path), calls, factors, LPLR_NUM_THREADS=threads
            )
        except subprocess.CalledProcessError as error:
            found = []
            yield Trial("G9", "the peak of memory", f"{about}: {error.stderr[-500:]}")
        for name, limit, peak in found:
            over = peak is not None and peak > limit
            told = f"{name} of {about}: {peak} bytes, where the limit is {limit}" if over else ""
            yield Trial("G9", f"the peak of memory in passes over {kind}", told)
        path.unlink()


def peaks(
    path: str, calls: tuple[str, ...], factors: tuple[int, ...]
) -> list[tuple[str, int, float | None]]:
    """Call, limit and the bytes that were taken, in this process; None where nobody can tell."""
    found = []
    few = open_source(path).rows(0, _WARM).copy()
    for name in calls:
        call = _CALLS[name]
        call(few, memory_limit="1GB")
        least = _least(partial(call, path))
        for limit in (factor * least for factor in factors):
            _, cost = measured(partial(call, path, memory_limit=limit))
            found.append((name, limit, cost.extra_nbytes))
    return found


def _least(call: Callable[..., Any]) -> int:
    """The limit that the refusal of a tiny one names."""
    try:
        call(memory_limit=1000)
    except InputError as error:
        number, unit = re.search(r"at least '([0-9.]+)([KMG]B)'", str(error)).groups()  # type: ignore[union-attr]
        return int(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])
    raise ValueError("a limit of 1000 bytes was accepted")


def _to_parts(call: Callable[..., Any], A: Any, **how: Any) -> None:
    """The result goes to a folder, so that it takes no memory either."""
    with temporary_folder() as folder:
        call(A, out=Path(folder, "parts"), **how)


# --- the files -------------------------------------------------------------------------------


def _blocks(rows: int, columns: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    weights = np.arange(1, columns + 1, dtype=np.float32) ** -0.7
    for start in range(0, rows, 1 << 14):
        size = min(1 << 14, rows - start)
        yield rng.standard_normal((size, columns), dtype=np.float32) * weights


def _as_npy(path: Path, rows: int, columns: int, *, fortran: bool = False) -> None:
    shape = (rows, columns)
    A = np.lib.format.open_memmap(path, "w+", np.float32, shape, fortran_order=fortran)
    start = 0
    for block in _blocks(rows, columns):
        A[start : start + len(block)] = block
        start += len(block)
    A.flush()


def _as_hdf5(path: Path, rows: int, columns: int, dtype: type = np.float32) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "A", (rows, columns), dtype, chunks=(4096, columns), compression="lzf"
        )
        start = 0
        for block in _blocks(rows, columns):
            made[start : start + len(block)] = block
            start += len(block)


_KINDS: dict[str, Callable[[Path, int, int], None]] = {
    "npy": _as_npy,
    "npy in Fortran order": lambda path, n, d: _as_npy(path, n, d, fortran=True),
    "h5": _as_hdf5,
    "h5 of float64": lambda path, n, d: _as_hdf5(path, n, d, np.float64),
}
