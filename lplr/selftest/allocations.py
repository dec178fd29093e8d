"""Arrays for which there is no memory: the allocator of NumPy in this process, replaced."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

__all__ = ["failing_arrays"]

# PyDataMem_SetHandler and PyDataMem_GetHandler in NumPy's table of functions, since NumPy 1.22
_SET_HANDLER, _GET_HANDLER = 304, 305
_NAME = b"mem_handler"  # of the capsules that hold one

_P, _N = ctypes.c_void_p, ctypes.c_size_t
_MALLOC = ctypes.CFUNCTYPE(_P, _P, _N)
_CALLOC = ctypes.CFUNCTYPE(_P, _P, _N, _N)
_REALLOC = ctypes.CFUNCTYPE(_P, _P, _P, _N)
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
        ("free", _P),
    )


def failing_arrays(fails: Callable[[int], bool]) -> Callable[[], int]:
    """Arrays, counted from 0, of which ``fails`` says so get no memory; until this process ends.

    Returns what tells how many have been asked for.
    """
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    api: Any = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = _P
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = [_P, ctypes.c_char_p, _P]
    table = ctypes.cast(
        api.PyCapsule_GetPointer(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(_P)
    )
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(table[_GET_HANDLER] or 0)
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[_SET_HANDLER] or 0)
    before = get_handler()
    usual = _Handler.from_address(api.PyCapsule_GetPointer(before, _NAME))
    malloc, calloc, realloc = usual.malloc, usual.calloc, usual.realloc
    made = 0

    def there_is() -> bool:
        nonlocal made
        made += 1
        return not fails(made - 1)

    # What is freed is freed in C: it may happen while an exception is on its way.
    handler = _Handler(
        b"failing",
        1,
        usual.context,
        _MALLOC(lambda at, n: malloc(at, n) if there_is() else None),
        _CALLOC(lambda at, n, size: calloc(at, n, size) if there_is() else None),
        _REALLOC(lambda at, old, n: realloc(at, old, n) if there_is() else None),
        usual.free,
    )
    capsule = api.PyCapsule_New(ctypes.addressof(handler), _NAME, None)
    _kept.extend((before, handler, capsule, set_handler(capsule)))
    return lambda: made
