"""How much memory a computation may take, and which matrices are therefore streamed."""

from __future__ import annotations

import math
import re
from typing import Any

from lplr.cluster import check_client
from lplr.exceptions import InputError
from lplr.memory import available_memory
from lplr.sources import Source, is_source, open_source
from lplr.validation.arguments import check_integer

__all__ = ["in_words", "memory_bytes", "streamed_source"]

_SHARE = 4  # of what is available, by default a quarter
_UNITS = {"": 1} | {
    f"{prefix}{binary}B": (1024 if binary else 1000) ** power
    for power, prefix in enumerate(("", "K", "M", "G", "T"))
    for binary in ("", "I")
    if prefix or not binary
}


def memory_bytes(memory_limit: Any) -> int:
    """The bytes of a limit: a number of them, or a text like ``"2GB"`` or ``"512 MiB"``.

    None stands for a quarter of what is available. InputError says that it is none of these.

    >>> memory_bytes("1.5 GB"), memory_bytes("2MiB"), memory_bytes(10**6)
    (1500000000, 2097152, 1000000)
    """
    if memory_limit is None:
        return available_memory() // _SHARE
    if isinstance(memory_limit, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", memory_limit)
        unit = _UNITS.get(found[2].upper()) if found else None
        nbytes = float(found[1]) * unit if found and unit else 0.0
        if not 1 <= nbytes < math.inf:
            raise InputError(
                "memory_limit: must be a number of bytes or a text such as '2GB' or '512MiB', "
                f"found {memory_limit!r}"
            )
        return int(nbytes)
    return check_integer(memory_limit, "memory_limit", 1)


def in_words(nbytes: int) -> str:
    """A number of bytes that are enough, as a limit can be given.

    >>> in_words(1_234_567)
    "'1.3MB'"
    """
    unit, name = next((u, n) for u, n in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
                      if nbytes >= u or u == 10**3)  # fmt: skip
    return f"'{-(-10 * nbytes // unit) / 10:g}{name}'"


def streamed_source(
    A: Any, memory_limit: Any, client: Any = None, name: str = "A", *, always: bool = False
) -> tuple[Source, int] | None:
    """The source of a matrix that is to be streamed, and the bytes that this may take.

    None means that the matrix is computed with in memory: neither a limit nor a client is given,
    and it is an array, or takes less than the default limit as float32, unless it is ``always`` to
    be streamed.
    """
    if check_client(client) is not None or memory_limit is not None or always:
        return open_source(A, name), memory_bytes(memory_limit)
    if not is_source(A):
        return None
    source, limit = open_source(A, name), memory_bytes(None)
    return None if 4 * source.shape[0] * source.shape[1] <= limit else (source, limit)
