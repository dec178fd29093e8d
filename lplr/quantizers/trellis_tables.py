"""The file of trained trellis tables: what it holds and how.

The tables that the package comes with are part of its file format: a file names the code, not the
values, so no table may ever change under its name.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np

from lplr.exceptions import InputError

__all__ = ["TABLES", "read_tables", "rounded", "stored_table", "write_tables"]

TABLES = Path(__file__).with_name("trellis.npz")

Tables = dict[tuple[int, int], tuple[np.ndarray, float]]  # (L, 4 * bits): table, Gaussian error


def _step(table: np.ndarray, bits: int | float) -> np.float32:
    """Grid of the stored values, which adds less than 0.2 % to the error of the code.

    Up to 2 bits an entry int8 will do, and then products can look up several values at once.
    """
    return np.float32(np.abs(table).max() / 127 if bits <= 2 else 2.0 ** -(np.ceil(bits) + 4))


def rounded(table: np.ndarray, bits: int | float) -> np.ndarray:
    """A table on the grid that it is stored on.

    Parameters
    ----------
    table : ndarray of shape (2**L,), float32
    bits : int or float

    Returns
    -------
    ndarray of shape (2**L,), float32
    """
    step = _step(table, bits)
    return np.round(table / step).astype(np.float32) * step


def write_tables(path: Path, tables: Tables) -> None:
    """Write antisymmetric tables that `rounded` has returned, the lower half of each.

    Parameters
    ----------
    path : pathlib.Path
    tables : dict
        By (L, 4 * bits): table and Gaussian mean squared error.
    """
    from lplr.storage.atomic import write_atomic

    keys = sorted(tables)
    steps, numbers = [], []
    for key in keys:
        table = tables[key][0]
        step = _step(table, key[1] / 4)
        steps.append(step)
        numbers.append(np.round(table[: len(table) // 2] / step).astype(np.int16))
    values = np.concatenate(numbers)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        keys=np.array(keys, np.uint8),
        steps=np.array(steps, np.float32),
        errors=np.array([tables[key][1] for key in keys]),
        # The bytes apart: the high ones compress well.
        low=(values & 255).astype(np.uint8),
        high=(values >> 8).astype(np.int8),
    )
    write_atomic(path, [file.getvalue()], overwrite=True)


def read_tables(path: Path) -> Tables:
    """The tables of a file that `write_tables` has written.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    dict
        By (L, 4 * bits): table and Gaussian mean squared error.
    """
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


@cache
def stored_table(state_bits: int, bits: int | float) -> tuple[np.ndarray, float]:
    """Table and Gaussian mean squared error of a code that the package comes with.

    Parameters
    ----------
    state_bits : int, 6 to 14
    bits : int or float, 1 to 6 in steps of 1/4

    Returns
    -------
    table : ndarray of shape (2**L,), float32
    error : float

    Raises
    ------
    InputError
    """
    tables = _shipped()
    if (state_bits, 4 * bits) not in tables:
        raise InputError(f"there is no table for {state_bits} state bits and {bits!r} bits")
    return tables[state_bits, int(4 * bits)]


@cache
def _shipped() -> Tables:
    return read_tables(TABLES)
