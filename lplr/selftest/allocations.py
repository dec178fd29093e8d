"""Arrays for which there is no memory: the allocator of NumPy in this process, replaced."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["failing_arrays"]

_SET_HANDLER = 304  # PyDataMem_SetHandler in NumPy's table of functions, since NumPy 1.22

_P, _N = ctypes.c_void_p, ctypes.c_size_t
_MALLOC = ctypes.CFUNCTYPE(_P, _P, _N)
_CALLOC = ctypes.CFUNCTYPE(_P, _P, _N, _N)
_REALLOC = ctypes.CFUNCTYPE(_P, _P, _P, _N)
_FREE = ctypes.CFUNCTYPE(None, _P, _P, _N)
_kept: list[Any] = []  # what NumPy goes on to call


class _Handler(ctypes.Structure):
    """PyDataMem_Handler of NumPy's C interface."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", _P),
        ("malloc", _MALLOC),
        ("calloc", _CALLOC),
        ("realloc", _REALLOC),
        ("free", _FREE),
    )


def failing_arrays(k: int) -> None:
    """From the k-th array on, counted from 0, none gets memory; until this process ends."""
    from numpy._core import _multiarray_umath

    libc: Any = ctypes.CDLL(None)
    for name, result, *arguments in (
        ("malloc", _P, _N), ("calloc", _P, _N, _N), ("realloc", _P, _P, _N), ("free", None, _P),
    ):  # fmt: skip
        function = getattr(libc, name)
        function.restype, function.argtypes = result, arguments
    left = k

    def there_is() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    handler = _Handler(
        b"failing",
        1,
        None,
        _MALLOC(lambda _, n: libc.malloc(n) if there_is() else None),
        _CALLOC(lambda _, n, size: libc.calloc(n, size) if there_is() else None),
        _REALLOC(lambda _, old, n: libc.realloc(old, n) if there_is() else None),
        _FREE(lambda _, old, n: libc.free(old)),
    )
    api: Any = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = _P
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = [_P, ctypes.c_char_p, _P]
    table = api.PyCapsule_GetPointer(_multiarray_umath._ARRAY_API, None)
    address = ctypes.cast(table, ctypes.POINTER(_P))[_SET_HANDLER]
    name = b"mem_handler"
    capsule = api.PyCapsule_New(ctypes.addressof(handler), name, None)
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address or 0)
    _kept.extend((handler, name, capsule, set_handler(capsule)))
