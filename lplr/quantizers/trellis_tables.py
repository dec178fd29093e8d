"""The file of trained trellis tables, and how it stores them.

The tables that come with the package are part of its file format: a compressed file names the code
and holds no values, so a table must never change.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from lplr.exceptions import InputError

__all__ = ["TABLES", "on_grid", "read_tables", "rounded", "stored_table", "write_tables"]

TABLES = Path(__file__).with_name("trellis.npz")

Tables = dict[tuple[int, int], tuple[np.ndarray, float]]  # (L, 4 * bits): table, Gaussian error


def _step(table: np.ndarray, bits: int | float) -> np.float32:
    """Step of the grid of stored values; rounding to it adds less than 0.2 % to the error.

    Up to 2 bits per entry, int8 holds the multiples, so that products look up several at once.
    """
    return np.float32(np.abs(table).max() / 127 if bits <= 2 else 2.0 ** -(np.ceil(bits) + 4))


def rounded(table: np.ndarray, bits: int | float) -> np.ndarray:
    """A table, float32 of shape (2**L,), rounded to the grid of stored values."""
    step = _step(table, bits)
    return np.round(table / step).astype(np.float32) * step


def on_grid(table: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Integers, int16, and a unit whose product is a table, float32; else the nearest to it.

    The unit is that of a stored table of up to 2 bits, or a power of two.
    """
    largest = np.abs(table).max()
    step = np.float32(largest / 127)
    for unit in (step, np.nextafter(step, np.float32(0)), np.nextafter(step, np.float32(9))):
        if unit > 0:
            numbers = np.round(table / unit).astype(np.int16)
            if np.array_equal(numbers * unit, table):
                return numbers, unit
    unit = np.float32(2.0 ** (np.frexp(largest)[1] - 15))
    return np.minimum(np.round(table / unit), 32767).astype(np.int16), unit


def write_tables(path: Path, tables: Tables) -> None:
    """Write the lower half of each table; `rounded` made them, and they are antisymmetric."""
    keys = sorted(tables)
    halves = [tables[key][0][: 1 << (key[0] - 1)] for key in keys]
    steps = [_step(half, key[1] / 4) for half, key in zip(halves, keys, strict=True)]
    numbers = [np.round(half / step) for half, step in zip(halves, steps, strict=True)]
    values = np.concatenate(numbers).astype(np.int16)
    new = path.with_name(path.name + ".new")  # a run that is stopped here leaves the old file
    with new.open("wb") as file:
        np.savez_compressed(
            file,
            keys=np.array(keys, np.uint8),
            steps=np.array(steps, np.float32),
            errors=np.array([tables[key][1] for key in keys]),
            # The high bytes compress well once they are apart from the low ones.
            low=(values & 255).astype(np.uint8),
            high=(values >> 8).astype(np.int8),
        )
    new.replace(path)


def read_tables(path: Path) -> Tables:
    """The tables of a file that `write_tables` has written."""
    with np.load(path) as file:
        values = file["high"].astype(np.int16) << 8 | file["low"]
        keys, steps, errors = file["keys"], file["steps"], file["errors"]
    tables: Tables = {}
    first = 0
    for (state_bits, quarters), step, error in zip(keys.tolist(), steps, errors, strict=True):
        last = first + (1 << (state_bits - 1))
        half = values[first:last].astype(np.float32) * step
        tables[state_bits, quarters] = (np.concatenate([half, -half[::-1]]), float(error))
        first = last
    return tables


def stored_table(state_bits: int, bits: int | float) -> tuple[np.ndarray, float]:
    """Table and Gaussian mean squared error of a code that comes with the package.

    InputError refuses other codes than those of L from 6 to 14 and of 1 to 6 bits in steps of 1/4.
    """
    tables = _tables_of_package()
    if (state_bits, 4 * bits) not in tables:
        raise InputError(
            f"state_bits, bits: there is no table for {state_bits!r} state bits and {bits!r} bits; "
            "use 6 to 14 state bits, and 1 to 6 bits in steps of 1/4"
        )
    return tables[state_bits, int(4 * bits)]


@cache
def _tables_of_package() -> Tables:
    return read_tables(TABLES)
