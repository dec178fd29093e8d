"""The command ``lplr``: parses, runs one command, and turns every error into one line.

Each command is a module with ``add_parser(subparsers)``, which describes it, and ``run(args)``,
which does it and returns the exit code. Everything heavy is imported inside `run`, so that
``lplr --help`` answers at once.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import lplr
from lplr.cli import (
    append,
    bench,
    bounds,
    compress,
    decompress,
    demo,
    doctor,
    info,
    model,
    selftest,
    verify,
)
from lplr.cli.options import near, with_option
from lplr.cli.signals import Asked, heeded
from lplr.cli.streams import Output, prepared
from lplr.exceptions import ExistingFileError, LplrError
from lplr.progress.display import in_one_line

__all__ = ["main"]

DONE, FAILED, BAD_INPUT, BROKEN_PIPE = 0, 1, 2, 141
_BY_SIGNAL = 128  # and its number

_EPILOG = """\
examples:
  lplr demo                                          compress real data and draw the results
  lplr compress weights.npy -o weights.h5 --bits-per-entry 2
  lplr compress model.safetensors -o model.h5 --bits-per-entry 2    all matrices of a file
  lplr verify weights.h5 --against weights.npy
  lplr decompress weights.h5 -o restored.npy

exit codes:
    0  done
    1  a bound is refuted (lplr bounds), a guarantee does not hold (lplr selftest), or a defect of
       lplr itself
    2  wrong usage, unusable input, or an output that could not be written
    3  partly done: some matrices (lplr compress), methods (lplr bench) or checks (lplr doctor)
       failed
  130  interrupted (Ctrl-C); 143 where it was terminated, 129 where its terminal was closed, and a
       shell says 137 of one that was killed. Outputs are complete or not there, and where a
       command keeps what is finished, the same command goes on.
  141  the reader of the output went away

environment:
  LPLR_NUM_THREADS  largest number of threads; results do not depend on it
  NO_COLOR          if set, progress is printed as plain lines (as with TERM=dumb)
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose error is one line that names the remedy, in the words of its command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.set_defaults(parser=self)  # of the innermost command, after parsing

    def parse_args(self, *args: Any) -> Any:  # type: ignore[override]
        """The options, or the error of the command that does not know one."""
        found, unknown = self.parse_known_args(*args)
        if unknown:
            found.parser.refuse(unknown)
        return found

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Name what this command does not take, and what it takes that looks alike."""
        first = unknown[0].partition("=")[0]
        if first.startswith("-"):
            known = [name for name in self._option_string_actions if name.startswith("--")]
            self.error(f"there is no option {first}{near(first, known)}")
        self.error(f"{first!r} is one argument too many")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            offered = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action,
                f"there is no {value!r}{near(str(value), offered)}; there are {', '.join(offered)}",
            )

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
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
    with prepared() as output:
        try:
            with heeded() as heed:
                code = _run(argv, heed)
                undelivered = _deliver(output)  # of a failed command too
                return code or undelivered
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Asked) else signal.SIGINT
            by = "" if number == signal.SIGINT else f" by {number.name}"
            _say(f"interrupted{by}")
            return _BY_SIGNAL + number


def _run(argv: Sequence[str] | None, heed: Callable[[Exception], None]) -> int:
    """Exit code of the command, whose errors have been told."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as exit:  # after --help, --version, or a refusal
        return int(exit.code or DONE)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, args)
            return int(args.run(args))
    except BrokenPipeError:  # of standard output, by a command that writes as it goes
        return BROKEN_PIPE
    except Exception as error:
        heed(error)
        if hasattr(args, "debug"):
            traceback.print_exc()
        code, message = _explain(error)
        _say(f"error: {with_option(message, args)}")
        return code


def _deliver(output: Output) -> int:
    """Exit code of writing what was printed."""
    try:
        output.deliver()
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        _say(
            f"error: standard output: {error.strerror or error}; the files that were written are "
            "complete, only what is printed is lost"
        )
        return BAD_INPUT
    return DONE


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
    for command in (
        compress, append, decompress, info, verify, model, demo, bench, bounds, doctor,
        selftest,
    ):  # fmt: skip
        command.add_parser(subparsers, common)
    return parser


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error, without its traceback."""
    if isinstance(error, ExistingFileError):
        return BAD_INPUT, f"{error.filename}: exists; pass --overwrite or name another file"
    if isinstance(error, LplrError):
        return BAD_INPUT, str(error)
    if isinstance(error, MemoryError):
        detail = f": {error}" if str(error) else ""
        return BAD_INPUT, f"not enough memory{detail}; use a smaller matrix or a larger machine"
    if isinstance(error, RecursionError):
        return BAD_INPUT, "a file has a record that is nested too deep to be shown"
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


def _show_warning(args: argparse.Namespace, message: Any, *_: Any, **__: Any) -> None:
    _say(f"warning: {with_option(str(message), args)}")


def _say(text: str) -> None:
    """A line on standard error."""
    print(f"lplr: {in_one_line(text)}", file=sys.stderr)
