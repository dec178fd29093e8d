"""How kernels are compiled and kept: Numba's cache, with no way for it to stop a computation.

Where the cache cannot be read or written, kernels are compiled in memory, and one warning a
process names the folder. With NUMBA_DISABLE_JIT=1 nothing is compiled: kernels run as the plain
Python that they are, and each intrinsic as the plain function that is given with it.
"""

# mypy: ignore-errors
# (The parts of Numba that are used here have no usable types.)

import functools
import hashlib
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numba
import numpy as np
from numba.core import caching
from numba.extending import intrinsic as numba_intrinsic

from lplr.exceptions import LplrWarning

disabled = bool(numba.config.DISABLE_JIT)
troubles = []  # what went wrong with the cache in this process: pairs (folder, reason)


def kernel(*arguments, **options):
    """Compile a function without the GIL, at its first call or for the signatures given.

    Use it as ``@kernel``, ``@kernel(inline="always")`` or ``@kernel([void(float32[::1])])``.
    """
    if arguments and callable(arguments[0]):
        return kernel()(arguments[0])
    signatures = arguments[0] if arguments else None

    def decorate(function):
        if disabled:
            return _as_compiled(function)
        dispatcher = numba.njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _Cache(function)
        except (RuntimeError, OSError):  # what Numba raises where it finds no folder
            folder = Path(__file__).with_name("__pycache__")
            _warn(folder, "it cannot be written, nor can a folder of the user")
        if signatures:
            for signature in signatures:
                dispatcher.compile(signature)
            dispatcher.disable_compile()
        return dispatcher

    return decorate


def _as_compiled(function):
    """The function without reports of floating-point errors, which compiled code does not make."""

    @functools.wraps(function)
    def quiet(*arguments):
        with np.errstate(all="ignore"):
            return function(*arguments)

    return quiet


def intrinsic(plain, **options):
    """As `numba.extending.intrinsic`, with the function to call where nothing is compiled."""

    def decorate(generate):
        if disabled:
            return plain
        return numba_intrinsic(**options)(generate) if options else numba_intrinsic(generate)

    return decorate


def _careful(locator):
    """A cache locator that notices a change in other files which a kernel takes something from.

    It refuses a path in which "~" stands for no home directory.
    """

    class Locator(locator):
        def __init__(self, function, *arguments):
            super().__init__(function, *arguments)
            self._others = _others(function)

        def get_source_stamp(self):
            own = super().get_source_stamp()
            return (own, *map(_contents, self._others)) if self._others else own

        def ensure_cache_path(self):
            if "~" in Path(self.get_cache_path()).parts:
                raise OSError("no home directory")
            super().ensure_cache_path()

    return Locator


def _others(function):
    """The other files of kernels that the file of a kernel takes something from, or these do."""
    found, new = set(), {function.__module__: function.__globals__}
    while new:
        found |= new.keys()
        values = [value for names in new.values() for value in names.values()]
        names = {getattr(value, "__module__", None) or "" for value in values}
        names = {name for name in names if name.startswith(f"{__package__}.")}
        new = {name: vars(sys.modules[name]) for name in names - found - {__name__}}
    return [sys.modules[name].__file__ for name in sorted(found - {function.__module__})]


def _contents(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class _Place(caching.CompileResultCacheImpl):
    _locator_classes = tuple(
        _careful(locator) for locator in caching.CompileResultCacheImpl._locator_classes
    )


class _Cache(caching.FunctionCache):
    _impl_class = _Place

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # an unpickler raises anything on a damaged file
            _warn(self.cache_path, f"{type(error).__name__}: {error}")
            if not isinstance(error, OSError):
                with suppress(OSError):
                    self.flush()  # the index may be damaged; the kernel is saved anew
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn(self.cache_path, f"{type(error).__name__}: {error}")


def _warn(folder, reason):
    troubles.append((os.fspath(folder), reason))
    if len(troubles) == 1:
        warnings.warn(
            f"the cache of compiled kernels in {folder} cannot be used ({reason}); kernels are "
            "compiled anew, which takes some seconds; see: lplr doctor",
            LplrWarning,
            stacklevel=2,
        )
