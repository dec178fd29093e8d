"""The command ``lplr``: parses, runs one command, and turns every error into one line.

Each command is a module with ``add_parser(subparsers)``, which describes it, and ``run(args)``,
which does it and returns the exit code. Everything heavy is imported inside `run`, so that
``lplr --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import lplr
from lplr.cli import bench, bounds, compress, decompress, demo, doctor, info, verify
from lplr.exceptions import LplrError

__all__ = ["main"]

DONE, FAILED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

_EPILOG = """\
examples:
  lplr demo                                          compress real data and draw the results
  lplr compress weights.npy -o weights.h5 --bits-per-entry 2
  lplr verify weights.h5 --against weights.npy
  lplr decompress weights.h5 -o restored.npy

exit codes: 0 done, 1 a bound is refuted (lplr bounds), 2 bad usage or input, 3 partly done,
130 interrupted (and 1 for a defect of lplr itself, 141 where the reader of the output went away)

LPLR_NUM_THREADS limits the threads; results do not depend on it.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose error is one line that names the remedy."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"lplr: error: {message}; see: {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; by default what the process was given.

    Returns
    -------
    int
        The exit code.
    """
    args = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = int(args.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("lplr: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if hasattr(args, "debug"):
            raise
        code, message = _explain(error)
        print(f"lplr: error: {' '.join(message.split())}", file=sys.stderr)
        if isinstance(error, OSError) and not isinstance(error, LplrError):
            _discard_output()  # what is left in the buffer would fail once more at exit
        return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the whole traceback"
    )
    parser = _Parser(
        prog="lplr",
        description="Compress matrices to low rank and low precision, as real packed bits.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"lplr {lplr.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (compress, decompress, info, verify, demo, bench, bounds, doctor):
        command.add_parser(subparsers, common)
    return parser


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error, without its traceback."""
    if isinstance(error, LplrError):
        return BAD_INPUT, str(error)
    if isinstance(error, MemoryError):
        return BAD_INPUT, f"not enough memory: {error}; use a smaller matrix or a larger machine"
    if isinstance(error, OSError):
        where = f"{error.filename!r}: " if error.filename else ""
        return BAD_INPUT, f"{where}{error.strerror or error}; check the file system and try again"
    if "cannot cache function" in str(error):
        return BAD_INPUT, (
            "no folder for compiled kernels is writable; set NUMBA_CACHE_DIR to one that is"
        )
    return FAILED, (
        f"this is a defect of lplr: {type(error).__name__}: {error}; "
        "please report it with the output of the same command and --debug"
    )


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"lplr: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _discard_output() -> None:
    """Send what Python flushes at exit to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
