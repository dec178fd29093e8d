"""Which function of the package the options of ``lplr compress`` mean, and with what arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from lplr.cli.hessians import OF
from lplr.exceptions import InputError

__all__ = ["Call", "call_of"]

_HESSIANS = {*OF, *OF.values()}
# The options that go with each function; --seed goes with all of them.
_TAKES = {
    "quantize": ("method", "bits", "quantizer", "memory_limit", "scheduler"),
    "compress": ("bits_per_entry", "effort", "memory_limit", "scheduler", *_HESSIANS),
    "caldera": (
        *("rank", "quantizer"),
        *("q_bits", "factor_bits", "mode", "n_iter", "damping", *_HESSIANS),
    ),
    "factorize": (
        *("rank", "bits_per_entry", "effort", "method", "sketch", "bits", "quantizer"),
        *("memory_limit", "scheduler"),
    ),
}
_ASK_FOR_Q = {"q_bits", "factor_bits", "mode", "n_iter", "damping", *_HESSIANS}


@dataclass(frozen=True)
class Call:
    """A call of the package.

    Parameters
    ----------
    function : str
        Name of a public function.
    arguments : dict
        All of its keyword arguments but the Hessians, which are in files, and the client.
    """

    function: str
    arguments: dict[str, Any]


def call_of(args: argparse.Namespace) -> Call:
    """The call that the options of the command stand for.

    ========================================================  ==========
    options                                                   function
    ========================================================  ==========
    ``--method naive``                                        quantize
    ``--bits-per-entry`` without rank, widths or method       compress
    ``--(output-)hessian(s)`` or any other option of Q        caldera
    everything else                                           factorize
    ========================================================  ==========

    Raises
    ------
    InputError
        If options do not go together, or the size is missing.
    """
    names = dict.fromkeys(name for taken in _TAKES.values() for name in taken)
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if given.get("method") == "naive":
        function = "quantize"
    elif given.keys() - {"effort", "memory_limit", "scheduler", *_HESSIANS} == {"bits_per_entry"}:
        function = "compress"
    elif given.keys() & _ASK_FOR_Q:
        function = "caldera"
    else:
        function = "factorize"
    _check_size(function, given)
    _check_together(function, given)
    arguments = {
        name: value for name, value in given.items() if name not in (*_HESSIANS, "scheduler")
    }
    if function == "quantize":
        del arguments["method"]
        arguments.setdefault("quantizer", "uniform")
    return Call(function, {**arguments, "rng": args.seed})


def _check_size(function: str, given: dict[str, Any]) -> None:
    if function == "factorize" and len(found := given.keys() & {"rank", "bits_per_entry"}) != 1:
        raise InputError(
            f"--bits-per-entry, --rank: found {'both' if found else 'neither'}; give one of them, "
            "for instance --bits-per-entry 2"
        )
    if function == "quantize" and not isinstance(given.get("bits"), (int, float)):
        raise InputError(
            f"--bits: --method naive needs one number, found {_text(given, 'bits')}; give --bits B"
        )


def _check_together(function: str, given: dict[str, Any]) -> None:
    for one, many in OF.items():
        if {one, many} <= given.keys():
            raise InputError(
                f"{_option(one)}: is one, {_option(many)} are many; leave out one or the other"
            )
    taken = [name for name in given if name in _TAKES[function]]
    for name in given:
        if name not in taken:
            raise InputError(
                f"{_option(name)}: does not go with {', '.join(map(_option, taken))}; "
                "leave out one or the other"
            )
    if function in ("quantize", "caldera") and isinstance(given.get("quantizer"), tuple):
        raise InputError(
            "--quantizer: only a factorization L R takes two, "
            f"found {_text(given, 'quantizer')}; name one"
        )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name, "nothing")
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
