"""Trellis codes: one to six bits an entry, each value chosen by a window of the bit stream."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np

from lplr.exceptions import InputError
from lplr.quantizers.trellis_tables import stored_table

__all__ = ["STATE_BITS", "Trellis", "symbol_widths"]

STATE_BITS = range(6, 15)

_WRAP = 5  # a sequence wraps if its bits are this many windows, where that begins to pay
_LOOK = 12  # windows on either side of the start that are searched for the state before it


class Trellis:
    """A bitshift trellis code of sequences.

    Symbol c_t of K_t bits follows the symbols before it in one little-endian bit stream, and the
    value of entry t is ``table[state]``, the state being the L bits of the stream that end with
    the symbol::

        state_t = state_(t-1) >> K_t | c_t << (L - K_t)

    So L bits decide each value although it costs only K_t, and the Viterbi search finds the
    symbols whose values are nearest to a whole sequence. The bits before a sequence are those at
    its end (tail-biting): nothing is stored for the start. A sequence of less than 5 L bits
    starts from state 0 instead.

    Parameters
    ----------
    state_bits : int, 6 to 14
        L: each further bit doubles the time of the search and lowers the error.
    bits : int or float
        1 to 6 in steps of 1/4. The width of symbol t is
        ``floor((t + 1) * bits) - floor(t * bits)``.

    Attributes
    ----------
    name, bits, group : "trellis-L", bits an entry, 1
    dtype : numpy dtype of symbols, uint8
    state_bits : int
    widths : tuple of 4 int
        Symbol t has ``widths[t % 4]`` bits.
    table : ndarray of shape (2**L,), float32, read-only
    gaussian_scale, gaussian_mse : float
        1, the scale at which the table was trained, and the mean squared error on N(0, 1),
        measured on long sequences.

    Raises
    ------
    InputError

    Notes
    -----
    The bitshift trellis is that of QTIP (Tseng et al. 2024). Unlike there, the window starts
    with the newest symbol in its highest bits, the tables are trained, not computed, and the
    state at the start is estimated from a few windows on either side of it.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.quantizers.trellis import Trellis
    >>> book = Trellis(8, 2)
    >>> x = np.random.default_rng(0).standard_normal((100, 1), dtype=np.float32)
    >>> codes = book.encode(x)
    >>> int(codes.max()), book.pack(codes[None]).size
    (3, 25)
    >>> bool(np.mean((x - book.decode(codes)) ** 2) < 0.1)
    True
    """

    group = 1
    gaussian_scale = 1.0

    def __init__(self, state_bits: int, bits: int | float) -> None:
        table, mse = stored_table(state_bits, bits)
        self._build(state_bits, bits, table, mse)

    @classmethod
    def from_table(cls, table: np.ndarray, bits: int | float, gaussian_mse: float) -> Trellis:
        """A code with a table of one's own; see `lplr.quantizers.train_trellis`.

        Parameters
        ----------
        table : ndarray of shape (2**L,), float32
        bits : int or float
        gaussian_mse : float

        Returns
        -------
        Trellis
        """
        self = cls.__new__(cls)
        self._build(len(table).bit_length() - 1, bits, table, gaussian_mse)
        return self

    def _build(self, state_bits: int, bits: int | float, table: np.ndarray, mse: float) -> None:
        self.name = f"trellis-{state_bits}"
        self.state_bits = state_bits
        self.widths = symbol_widths(bits)
        self.bits = int(bits) if bits == int(bits) else float(bits)
        self.dtype = np.dtype(np.uint8)
        self.gaussian_mse = mse
        self.table = np.array(table, np.float32)
        self._search_table = _aligned((1, len(table)))[0]
        self._search_table[:] = self.table[_reversed_bits(state_bits)]
        self._widths = np.array(self.widths, np.int64)
        for array in (self.table, self._search_table, self._widths):
            array.setflags(write=False)

    @property
    def width(self) -> float:
        """Bits of one symbol, on average."""
        return self.bits

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

        The search keeps 4 * n * 2**(L - K) bytes, so a very long sequence is better cut.
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

    def panel(
        self,
        target: np.ndarray,
        base: np.ndarray,
        coeff: np.ndarray,
        scale: np.ndarray,
        error: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        """Feedback-quantize a panel of sequences; see `lplr.kernels.trellis.trellis_panel`."""
        from lplr.kernels.trellis import trellis_panel

        n = target.shape[1]
        if target.size == 0:
            return
        wrap = min(n, -(-_LOOK * self.state_bits // int(self.bits))) if self.wraps(n) else 0
        steps, states = max(n, 2 * wrap) + 1, 1 << (self.state_bits - min(self.widths))
        scratch = _aligned((steps, max(16, states))), np.empty((2, n), np.float32)
        code = self._widths, self._search_table, wrap
        trellis_panel(target, base, coeff, *code, scale, *scratch, error, codes)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """Bit stream, uint8, of sequences of symbols of shape (m, n), one after the other."""
        from lplr.kernels.project_trellis import pack

        out = np.zeros(self.nbytes((codes.shape[0], codes.shape[1])), np.uint8)
        pack(np.ascontiguousarray(codes, np.uint8), self._widths, out)
        return out

    def unpack_codes(self, packed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Symbols, uint8 of the given shape; the inverse of `pack`."""
        from lplr.kernels.project_trellis import unpack

        codes = np.empty(shape, np.uint8)
        unpack(_read_only(packed), self._widths, codes)
        return codes

    def unpack(
        self, packed: np.ndarray, shape: tuple[int, int], sequences: slice, entries: slice
    ) -> np.ndarray:
        """Values of some entries of some sequences of a packed array.

        Parameters
        ----------
        packed : ndarray, uint8
        shape : (int, int)
            Number of sequences and entries of each.
        sequences, entries : slice
            With start and stop.

        Returns
        -------
        ndarray of shape (sequences, entries), float32, in code units
        """
        from lplr.kernels.project_trellis import decode

        rows, n = sequences.stop - sequences.start, entries.stop - entries.start
        out = np.empty((rows, n), np.float32)
        decode(*self._stream(packed, shape, sequences.start), self.table, entries.start, out)
        return out

    def dot(
        self, packed: np.ndarray, shape: tuple[int, int], entries: slice, x: np.ndarray
    ) -> np.ndarray:
        """Sum of all sequences, each times an entry of a vector, without expanding them.

        Parameters
        ----------
        packed, shape, entries
            As in `unpack`.
        x : ndarray of shape (m,), float32

        Returns
        -------
        ndarray of shape (entries,), float32, in code units
        """
        from lplr.kernels.project_trellis import multiply
        from lplr.kernels.project_trellis_bytes import multiply_bytes

        start, n = entries.start, entries.stop - entries.start
        out = np.zeros(n, np.float32)
        packed, _, total, wraps, widths = self._stream(packed, shape, 0)
        done = 0
        if self._bytewise(shape[1]) and start % 16 == 0:
            done = n - n % 16
            table, step = self._four
            multiply_bytes(packed, total // 8, wraps, table, start, step, x, out[:done])
        if done < n:
            values = np.empty(n - done, np.float32)
            multiply(packed, total, wraps, widths, self.table, start + done, x, values, out[done:])
        return out

    def dot_transposed(
        self, packed: np.ndarray, shape: tuple[int, int], sequences: slice, y: np.ndarray
    ) -> np.ndarray:
        """Inner products of some sequences with a vector, without expanding them.

        Parameters
        ----------
        packed, shape, sequences
            As in `unpack`.
        y : ndarray of shape (n,), float32

        Returns
        -------
        ndarray of shape (sequences,), float32, in code units
        """
        from lplr.kernels.project_trellis import multiply_transposed
        from lplr.kernels.project_trellis_bytes import multiply_bytes_transposed

        out = np.empty(sequences.stop - sequences.start, np.float32)
        packed, first, total, wraps, widths = self._stream(packed, shape, sequences.start)
        if self._bytewise(shape[1]) and shape[1] % 16 == 0:
            table, step = self._four
            multiply_bytes_transposed(packed, first, total // 8, wraps, table, step, y, out)
        else:
            values = np.empty(shape[1], np.float32)
            multiply_transposed(packed, first, total, wraps, widths, self.table, y, values, out)
        return out

    def _bytewise(self, n: int) -> bool:
        """Whether products may look up four entries of sequences of n entries at a time."""
        return self.bits == 2 and n >= 16 and n % 4 == 0 and bool(self._four[1] > 0)

    @cached_property
    def _four(self) -> tuple[np.ndarray, np.float32]:
        """Four consecutive values at two bits by the window of all four, as int8, and their step.

        Step 0 if the values are not such multiples, or the table outgrows the caches.
        """
        step = np.abs(self.table).max() / np.float32(127)
        numbers = np.round(self.table / step)
        if self.state_bits > 12 or not np.allclose(numbers * step, self.table, 0, 1e-5 * step):
            return np.zeros((1, 4), np.int8), np.float32(0.0)
        window = np.arange(1 << (self.state_bits + 6))[:, None] >> np.array([0, 2, 4, 6])
        return numbers.astype(np.int8)[window & (len(self.table) - 1)], step

    def _stream(
        self, packed: np.ndarray, shape: tuple[int, int], sequence: int
    ) -> tuple[np.ndarray, int, int, bool, np.ndarray]:
        """What the kernels need to read a sequence."""
        n = shape[1]
        return _read_only(packed), sequence, self.sequence_bits(n), self.wraps(n), self._widths


def symbol_widths(bits: int | float) -> tuple[int, int, int, int]:
    """Widths of four consecutive symbols, the wider ones spread evenly.

    Parameters
    ----------
    bits : int or float, 1 to 6 in steps of 1/4

    Raises
    ------
    InputError

    Examples
    --------
    >>> from lplr.quantizers.trellis import symbol_widths
    >>> symbol_widths(2.25), symbol_widths(2.5)
    ((2, 2, 2, 3), (2, 3, 2, 3))
    """
    if isinstance(bits, bool) or not 1 <= bits <= 6 or 4 * bits != int(4 * bits):
        raise InputError(f"bits: a trellis codes 1 to 6 bits in steps of 1/4, not {bits!r}")
    quarters = int(4 * bits)
    w = [(t + 1) * quarters // 4 - t * quarters // 4 for t in range(4)]
    return w[0], w[1], w[2], w[3]


@cache
def _reversed_bits(state_bits: int) -> np.ndarray:
    """For each state the one with its bits in reverse order."""
    state = np.arange(1 << state_bits)
    out = np.zeros_like(state)
    for i in range(state_bits):
        out = out << 1 | (state >> i & 1)
    return out


def _aligned(shape: tuple[int, int]) -> np.ndarray:
    """Empty float32 array that starts on a multiple of 64 bytes, as vectors of 16 like it."""
    size = shape[0] * shape[1]
    raw = np.empty(size + 16, np.float32)
    first = -(raw.ctypes.data // 4) % 16
    return raw[first : first + size].reshape(shape)


def _read_only(packed: np.ndarray) -> np.ndarray:
    """A read-only view: one compilation then serves all arrays of bytes."""
    view = packed.view()
    view.setflags(write=False)
    return view
