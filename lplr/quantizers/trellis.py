"""Trellis codes: one to six bits per entry; a window of the bit stream selects each value."""

from __future__ import annotations

from functools import cache, cached_property
from math import ceil
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.packing import read_only
from lplr.quantizers.trellis_parts import Parts
from lplr.quantizers.trellis_tables import on_grid, stored_table

__all__ = ["STATE_BITS", "Trellis", "symbol_widths"]

STATE_BITS = range(6, 15)

_WRAP = 5  # a sequence is tail-biting from this many windows of bits on; shorter ones lose by it
_WINDOW_OF_FOURS = 16  # bits of the longest that has a table, of 256 KB
_LOOK = 10  # windows before the start that the search for the state there sees
_ONE = read_only(np.ones(1, np.float32))


class Trellis:
    """A bitshift trellis code of sequences.

    The symbols of a sequence form one little-endian bit stream; symbol c_t has K_t bits. The value
    of entry t is ``table[state]``, where the state is the window of L bits that ends with the
    symbol::

        state_t = state_(t-1) >> K_t | c_t << (L - K_t)

    So L bits decide each value although it costs only K_t = ``widths[t % 4]`` bits, on the average
    ``bits``, from 1 to 6 in steps of 1/4. Each further bit of L, 6 to 14, doubles the time of the
    search and lowers the error. The Viterbi search finds the symbols whose values are nearest to a
    whole sequence. The code is tail-biting: the window before the first symbol holds the last bits
    of the sequence, so nothing is stored for the start. A sequence of less than 5 L bits starts
    from state 0 instead.

    The ``table`` has 2**L values; it is trained on N(0, 1), where its error on long sequences is
    ``gaussian_mse``. The bitshift trellis is that of QTIP (Tseng et al. 2024). There are three
    differences: the newest symbol is in the highest bits of the window; the tables are trained, not
    computed; and the state at the start is that of a search from a few windows before the end on.
    """

    group = 1
    dtype = np.dtype(np.uint8)
    gaussian_scale = 1.0

    def __init__(self, table: np.ndarray, bits: int | float, gaussian_mse: float) -> None:
        self.state_bits = len(table).bit_length() - 1
        self.name = f"trellis-{self.state_bits}"
        self.widths = symbol_widths(bits)
        self.bits = int(bits) if bits == int(bits) else float(bits)
        self.gaussian_mse = gaussian_mse
        self._numbers, self._unit = on_grid(np.array(table, np.float32))
        self.table = read_only(self._numbers * self._unit)
        self._search_table = read_only(self.table[_reversed_bits(self.state_bits)])
        self._widths = read_only(np.array(self.widths, np.int64))

    @classmethod
    def stored(cls, state_bits: int, bits: int | float) -> Trellis:
        """The code whose table comes with the package."""
        table, gaussian_mse = stored_table(state_bits, bits)
        return cls(table, bits, gaussian_mse)

    def sequence_bits(self, n: int) -> int:
        """Bits of a sequence of n entries: floor(n * bits)."""
        return n * int(4 * self.bits) // 4

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Bytes of ``shape[0]`` sequences of ``shape[1]`` entries."""
        return -(-shape[0] * self.sequence_bits(shape[1]) // 8)

    def wraps(self, n: int) -> bool:
        """Whether the window of a sequence of n entries goes on at its end."""
        return self.sequence_bits(n) >= _WRAP * self.state_bits

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Symbols, uint8 of shape (..., n), of sequences ``x`` of shape (..., n, 1).

        The search needs 2 * n * 2**(L - K) bytes of memory, so cut a very long sequence first.
        """
        codes = np.empty(x.shape[:-1], np.uint8)
        rows = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-2])
        free, ones = np.empty((0, 0), np.float32), np.ones(len(rows), np.float32)
        self.panel(rows, rows, free, ones, np.empty_like(rows), codes.reshape(rows.shape))
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values, float32 of shape (..., n, 1), of symbols of shape (..., n)."""
        rows = np.ascontiguousarray(codes, np.uint8).reshape(-1, codes.shape[-1])
        m, n = rows.shape
        out = self.unpack(self.pack(rows), (m, n), slice(0, m), slice(0, n))
        return out.reshape(*codes.shape, 1)

    def panel(self, *arrays: np.ndarray) -> None:
        """Quantize a panel of sequences with feedback; see `Codebook.panel`."""
        from lplr.kernels.trellis import trellis_panel

        target, base, coeff, scale, error, codes = arrays
        n = target.shape[1]
        if target.size == 0:
            return
        wrap = min(n, -(-_LOOK * self.state_bits // int(self.bits))) if self.wraps(n) else 0
        states = max(32, 1 << (self.state_bits - min(self.widths)))
        best = _aligned((n + wrap + 1) * states, np.uint16)
        scratch = best, np.empty(n, np.int16), np.empty(n, np.int64)
        code = self._widths, self._search_table, *self._integers, wrap
        trellis_panel(target, base, coeff, *code, scale, *scratch, error, codes)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """Bit stream, uint8, of sequences of symbols of shape (m, n), one after the other."""
        from lplr.kernels.bitpack import pack_sequences

        out = np.zeros(self.nbytes((codes.shape[0], codes.shape[1])), np.uint8)
        pack_sequences(np.ascontiguousarray(codes, np.uint8), self._widths, out)
        return out

    def unpack(
        self, packed: np.ndarray, shape: tuple[int, int], sequences: slice, entries: slice
    ) -> np.ndarray:
        """Values of some entries of some sequences of a packed array, float32, in code units.

        ``shape`` is the number of sequences and of entries of each; slices have a start and a stop.
        """
        out = np.empty((sequences.stop - sequences.start, entries.stop - entries.start), np.float32)
        self.unpack_into(packed, shape[1], sequences.start, entries.start, out, 0, out.shape[1])
        return out

    def unpack_into(
        self,
        packed: np.ndarray,
        n: int,
        sequence: int,
        start: int,
        out: np.ndarray,
        first: int,
        last: int,
    ) -> None:
        """As `unpack`, for consecutive sequences of n entries, to some columns of ``out``."""
        from lplr.kernels.project_trellis import decode

        whole = Parts([self.part(packed, n, 1)])
        decode(whole.table, sequence, self.sequence_bits(n), start, out, first, last)

    def part(self, packed: np.ndarray, length: int, count: int, **options: Any) -> dict[str, Any]:
        """What `Parts` has to know of ``count`` packed sequences of ``length`` entries.

        The options are other fields of `lplr.kernels.project_trellis.PART`.
        """
        packed = _readable(packed)
        stream = {"stream": packed, "nbytes": packed.size, "length": length, "count": count}
        return {"scale": _ONE, **self._code, **stream, **options}

    @cached_property
    def _integers(self) -> tuple[np.ndarray, np.float32, np.float32, int]:
        """Tables, entries per unit, bound and doublings of the search; see `trellis_panel`.

        With the tables of the package, the mean squared error of a code is 8 to 38 units of cost,
        so rounding costs loses less than 0.03 % of it. Costs go on counting up to 1200 times the
        error; the path that wins was never seen more than 43 times behind the cheapest one. An
        entry beyond the table counts as one that is somewhat beyond it, so that it cannot outweigh
        all others.
        """
        finer = max(0, ceil(self.bits) - 3)  # units of squares, by powers of 4
        largest = float(np.abs(self.table).max()) or 1.0
        per_unit = np.float32(min(2.0**self.bits * 1024 / 2**finer, 25000 / largest))
        numbers = np.rint(self._search_table * per_unit).astype(np.int16)
        flat = _aligned(3 * len(numbers), np.int16)
        tables = flat.reshape(3, -1)
        tables[2] = numbers
        for width in set(self.widths):
            groups = numbers.reshape(-1, max(32 >> width, 1), min(1 << width, 32))
            tables[width & 1] = groups.transpose(0, 2, 1).ravel()
        bound = np.float32(np.abs(numbers).max() + (6000 >> finer))
        return read_only(flat), per_unit, bound, max(0, 2 * finer - 1)

    @cached_property
    def _code(self) -> dict[str, Any]:
        """What kernels know of the code."""
        first, *widths = self.widths
        return {
            "shortest": _WRAP * self.state_bits,
            "state_bits": self.state_bits,
            "period": sum(self.widths),
            "first_width": first,
            "step": widths[0] + widths[1],
            "next_step": widths[2] + first,
            "unit": self._unit,
            **self._pairs,
            **self._fours,
        }

    @cached_property
    def _pairs(self) -> dict[str, Any]:
        """Two consecutive values by their joint window, for entries 0 and 1, and for 2 and 3."""
        _, even, _, odd = self.widths
        tables = {width: self._joint(width) for width in (even, odd)}
        return {
            "even": tables[even],
            "even_mask": len(tables[even]) - 1,
            "odd": tables[odd],
            "odd_mask": len(tables[odd]) - 1,
        }

    @cached_property
    def _fours(self) -> dict[str, Any]:
        """Four consecutive values by the window of all four.

        None where they take more than a byte each, or the table would outgrow the caches.
        """
        _, *widths = self.widths
        window = self.state_bits + sum(widths)
        if window > _WINDOW_OF_FOURS or np.abs(self._numbers).max() > 127:
            return {}
        table = self._joint(*widths, dtype=np.int8)
        return {"fours": table, "fours_mask": len(table) - 1}

    def _joint(self, *widths: int, dtype: type = np.int16) -> np.ndarray:
        """The values of entries whose windows follow one another, by their joint window.

        The table lies on a multiple of its size, as `lplr.kernels.trellis_vectors.rows_of` asks.
        """
        windows = np.arange(1 << (self.state_bits + sum(widths)))[:, None]
        states = windows >> np.cumsum([0, *widths]) & (len(self.table) - 1)
        raw = np.empty(2 * states.size, dtype)
        first = -(raw.ctypes.data // raw.itemsize) % states.size
        table = raw[first : first + states.size].reshape(states.shape)
        table[:] = self._numbers[states]
        return read_only(table)


def symbol_widths(bits: int | float) -> tuple[int, int, int, int]:
    """Widths of four consecutive symbols, with the wider ones spread evenly: (2, 2, 2, 3) for 2.25.

    Symbol t has ``floor((t + 1) * bits) - floor(t * bits)`` bits; InputError refuses other ``bits``
    than 1 to 6 in steps of 1/4.
    """
    if isinstance(bits, bool) or not 1 <= bits <= 6 or 4 * bits != int(4 * bits):
        raise InputError(f"bits: a trellis codes 1 to 6 bits in steps of 1/4, not {bits!r}")
    quarters = int(4 * bits)
    w = [(t + 1) * quarters // 4 - t * quarters // 4 for t in range(4)]
    return w[0], w[1], w[2], w[3]


def _readable(packed: np.ndarray) -> np.ndarray:
    """The stream, with zeros after one that is shorter than the words that kernels read."""
    return packed if packed.size >= 8 else np.append(packed, np.zeros(8, np.uint8))


@cache
def _reversed_bits(state_bits: int) -> np.ndarray:
    """For each state the one with its bits in reverse order."""
    state = np.arange(1 << state_bits)
    out = np.zeros_like(state)
    for i in range(state_bits):
        out = out << 1 | (state >> i & 1)
    return out


def _aligned(size: int, dtype: type) -> np.ndarray:
    """Empty array whose first entry is at a multiple of 64 bytes, the length of a cache line."""
    raw = np.empty(size * np.dtype(dtype).itemsize + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size * np.dtype(dtype).itemsize].view(dtype)
