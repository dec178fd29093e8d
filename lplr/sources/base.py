"""What every source is: a matrix that is read in blocks of rows, as floats."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from lplr.exceptions import InputError, LplrError
from lplr.inputs.forward import Forward
from lplr.memory import available_memory
from lplr.sources.elsewhere import recipe_of
from lplr.validation.matrices import as_array, check_shape

__all__ = ["Source"]

_BLOCK = 1 << 24  # bytes converted at a time where all is read


class Source:
    """A matrix that need not be in memory: what it holds is read a block of rows at a time.

    This class reads whatever has a shape, a dtype and slices of rows; its subclasses know more of
    the kind that they read. `open_source` chooses.

    Parameters
    ----------
    data : object
        ``data.shape`` is (n, d), ``data.dtype`` one of NumPy's real dtypes, and ``data[i:j]`` gives
        the rows i to j - 1.
    name : str
        What messages call it.

    Attributes
    ----------
    name : str
    shape : (int, int)
    dtype : dtype
        Of the data, as they are stored.
    row_dtype : dtype
        Of what `rows` gives by default: float64 where the data are float64, else float32.
    chunk_rows : int
        So many rows, at most, are kept beside those that are asked for, since they had to be
        decoded with them; 1 where any row can be read by itself.

    Raises
    ------
    InputError
        If it is no matrix of real numbers, or empty.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.sources import Source
    >>> source = Source(np.arange(6, dtype=np.float16).reshape(3, 2), "A")
    >>> source.rows(1, 3)
    array([[2., 3.],
           [4., 5.]], dtype=float32)
    """

    def __init__(self, data: Any, name: str) -> None:
        self._data = data
        self._lock = Lock()
        self.chunk_rows = data.height if isinstance(data, Forward) else 1
        self.name = name
        self.dtype = np.dtype(data.dtype)
        if self.dtype.kind not in "fiub":
            raise InputError(f"{name}: dtype {self.dtype} is not real; convert it to float32")
        self.shape = check_shape(data.shape, name)
        double = self.dtype.kind == "f" and self.dtype.itemsize == 8
        self.row_dtype = np.dtype(np.float64 if double else np.float32)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it lies in files, any rows of which another process reads as well."""
        return recipe_of(self._data) is not None

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "_lock"}
        recipe = recipe_of(self._data)
        return state if recipe is None else {**state, "_data": None, "recipe": recipe}

    def __setstate__(self, state: dict[str, Any]) -> None:
        make, arguments = state.pop("recipe", (None, ()))
        vars(self).update(state, _lock=Lock())
        if make is None:
            return
        advice = "both must see the same file, on a disk that they share"
        try:
            self._data = make(*arguments)
        except LplrError:
            raise
        except Exception as error:  # of any package that opens the data
            raise InputError(
                f"{self.name}: cannot be opened in another process: {type(error).__name__}: "
                f"{error}; {advice}"
            ) from error
        if (self._data.shape, self._data.dtype) != (self.shape, self.dtype):
            raise InputError(
                f"{self.name}: is {self.dtype} of shape {self.shape} where it was opened and "
                f"{self._data.dtype} of shape {self._data.shape} in another process; {advice}"
            )

    def rows(self, start: int, stop: int, dtype: Any = None) -> np.ndarray:
        """Rows ``start`` to ``stop - 1``, converted; whether they are finite is not checked.

        Threads may call it, and wait for each other. Read in order, nothing is decoded twice.

        Parameters
        ----------
        start, stop : int
            ``0 <= start <= stop <= n``.
        dtype : float32 or float64, optional
            Of what is returned; ``row_dtype`` by default.

        Returns
        -------
        ndarray of shape (stop - start, d), C-contiguous
            Not to be written to: it may be the data themselves.

        Raises
        ------
        InputError
            If there are no such rows, or the data do not give them.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise InputError(
                f"start, stop: must lie in 0 to {self.shape[0]}, found {start}, {stop}"
            )
        return self._converted(start, stop, np.dtype(dtype or self.row_dtype))

    def _converted(self, start: int, stop: int, dtype: np.dtype) -> np.ndarray:
        where = f"{self.name}: rows {start} to {stop}"
        try:
            with self._lock:
                block = as_array(self._read(start, stop), where)
        except (LplrError, MemoryError):
            raise
        except Exception as error:  # of any package that reads the data
            raise InputError(
                f"{where} cannot be read: {type(error).__name__}: {error}; mend the data"
            ) from error
        if block.shape != (stop - start, self.shape[1]):
            raise InputError(
                f"{where} have the shape {block.shape} where the data declare "
                f"{(stop - start, self.shape[1])}; mend the data"
            )
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return np.ascontiguousarray(block, dtype)

    def _read(self, start: int, stop: int) -> Any:
        """The rows as they are stored."""
        return self._data[start:stop]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it, as stored, if that takes at most a quarter of the memory that is available.

        Raises
        ------
        InputError
            If it would take more.
        """
        if copy is False:
            raise ValueError("a source has no array that could be shared")
        dtype = self.dtype.newbyteorder("=") if dtype is None else np.dtype(dtype)
        n, d = self.shape
        needed, available = n * d * dtype.itemsize, available_memory()
        if 4 * needed > available:
            raise InputError(
                f"{self.name}: takes {needed:,} bytes in memory, more than a quarter of the "
                f"{available:,} that are available, and what was asked for needs all of it at "
                "once; pass fewer rows"
            )
        out = np.empty(self.shape, dtype)
        step = max(_BLOCK // (d * dtype.itemsize), 1)
        for start in range(0, n, step):
            out[start : start + step] = self._converted(start, min(start + step, n), dtype)
        return out

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.name}; {self.shape[0]} x {self.shape[1]}; {self.dtype}>"
        )
