"""What several commands have in common: their options, output paths and reports."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lplr.exceptions import (
    ExistingFileError,
    FilePermissionError,
    FolderError,
    InputError,
    MissingFileError,
)

__all__ = [
    "INPUTS",
    "add_command",
    "add_jobs",
    "add_json",
    "add_name",
    "add_output",
    "add_scheduler",
    "add_seed",
    "bits",
    "check_output",
    "near",
    "print_json",
    "refuse_model",
    "with_option",
]

INPUTS = (
    "a .npy file; a member of an .npz (FILE.npz:MEMBER, or FILE.npz with one member); a dataset "
    "of an HDF5 file (FILE.h5:/PATH, or FILE.h5 with one dataset); a tensor of a .safetensors "
    "file (FILE.safetensors:NAME); vectors in a .fvecs or .bvecs file; columns of a Parquet table "
    "(FILE.parquet:NAME for one of lists, FILE.parquet:A,B for numbers); or an image (grey values "
    "in 0 to 1; colours become luminance; FILE.tif:2 is the second of several pages)"
)

# What arguments of the package are called here.
_ALIASES = {"rng": "seed", "client": "scheduler", "calibration": "tokens", "trained": "train"}
_ARGUMENT = re.compile(r"(?P<name>\w+)(\[(?P<quote>['\"])(?P<item>.*?)(?P=quote)\])?:")


def add_command(
    subparsers: Any,
    common: argparse.ArgumentParser,
    name: str,
    summary: str,
    example: str,
    description: str = "",
) -> Any:
    """A subparser with the summary as its help and the example at its end."""
    return subparsers.add_parser(
        name,
        parents=[common],
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {description}".strip(),
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
        formatter_class=_HelpFormatter,
    )


class _HelpFormatter(argparse.HelpFormatter):
    """Fills paragraphs and keeps examples, which have several lines, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


def add_json(parser: Any) -> None:
    """The option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_name(parser: Any) -> None:
    """The option ``--name``."""
    parser.add_argument("--name", metavar="NAME", help="of many matrices in the file, this one")


def add_output(parser: Any, metavar: str) -> None:
    """The options ``-o`` and ``--overwrite``."""
    parser.add_argument("-o", "--output", required=True, metavar=metavar, help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def add_seed(parser: Any) -> None:
    """The option ``--seed``, reproducible by default."""
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all random numbers (default: 0)"
    )


def add_jobs(parser: Any) -> None:
    """The option ``--jobs``."""
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="threads to use (default: one for each core); the result does not depend on it",
    )


def add_scheduler(parser: Any) -> None:
    """The option ``--scheduler``."""
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of dask, such as tcp://HOST:8786: its workers do the work, with the same result; "
        "they must see the same files",
    )


def refuse_model(name: str, command: str) -> None:
    """Point to ``lplr model`` where a whole network is named instead of a file.

    Parameters
    ----------
    name : str
    command : str
        The one of ``lplr model`` that does for networks what was asked for.

    Raises
    ------
    FolderError, InputError
        If it is a folder, or a GGUF file.
    """
    instead = f"this command takes none; for a whole network use: lplr model {command}"
    if os.path.isdir(name):
        raise FolderError(f"{name}: is a folder, and {instead}", name)
    if name.lower().endswith(".gguf"):
        raise InputError(f"{name}: is a GGUF file, and {instead}")


def check_output(
    name: str, suffixes: tuple[str, ...], overwrite: bool, *sources: str | None
) -> None:
    """Refuse an output that could not be written, before any work is done for it.

    Parameters
    ----------
    name : str
    suffixes : tuple of str
        What the name may end in.
    overwrite : bool
    *sources : str, optional
        Inputs, whose files the output must not replace.

    Raises
    ------
    InputError
        `ExistingFileError`, `MissingFileError`, `FolderError` or `FilePermissionError` where one
        of these fits.
    """
    from lplr.inputs import split_input  # here, since NumPy comes with it

    path = Path(name)
    if path.suffix.lower() not in suffixes or name.endswith(os.sep):
        ends = " or ".join(suffixes)
        raise InputError(f"{name}: an output of this command ends in {ends}; name it so")
    folder = path.parent
    if not folder.is_dir():
        message = f"{name}: the folder {str(folder)!r} does not exist; make it first"
        raise MissingFileError(message, str(folder))
    if not os.access(folder, os.W_OK):
        message = f"{name}: the folder {str(folder)!r} is not writable; name another one"
        raise FilePermissionError(message, str(folder))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:  # too long, or a loop of links
        raise InputError(f"{name}: cannot be written: {error.strerror}; name another") from None
    else:
        if stat.S_ISDIR(mode):
            raise FolderError(f"{name}: is a folder; name a file", name)
        if not stat.S_ISREG(mode):
            raise InputError(f"{name}: is a device or a pipe; name a file")
        for file in (split_input(source)[0] for source in sources if source):
            if os.path.exists(file) and os.path.samefile(path, file):
                raise InputError(f"{name}: is an input itself; name another file")
    if os.path.lexists(path) and not overwrite:
        message = f"{name}: exists; pass --overwrite or name another file"
        raise ExistingFileError(message, name)


def check_table(name: str, overwrite: bool, source: str = "") -> None:
    """Refuse a table that could not be written, or the file of its attributes, in the same way.

    Parameters
    ----------
    name, overwrite, source
        As in `check_output`.

    Raises
    ------
    InputError
        As `check_output`.
    """
    from lplr.storage.table import SUFFIXES, meta_path

    check_output(name, SUFFIXES, overwrite, source)
    about = meta_path(name)
    check_output(str(about), (about.suffix,), overwrite, source)


def bits(text: str) -> float:
    """Bits per entry: whole, or in quarters for some codes."""
    found = float(text)
    return int(found) if found.is_integer() else found


bits.__name__ = "number"  # what argparse calls it where a text is none


def near(name: str, known: Iterable[str], say: str = " (did you mean {}?)") -> str:
    """Words that suggest the known name which looks most like a wrong one; empty if none does."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return say.format(close[0]) if close else ""


def with_option(message: str, args: argparse.Namespace) -> str:
    """A message that begins with an argument, or an item ``argument['name']``, with its option."""
    match = _ARGUMENT.match(message)
    given = _as_given(_ALIASES.get(match["name"], match["name"]), args) if match else ""
    if not match or not given:
        return message.removeprefix("path: ")  # these messages name it
    item = f" {match['item']}:" if match["item"] else ""
    return f"{given}:{item}{message[match.end() :]}"


def _as_given(name: str, args: argparse.Namespace) -> str:
    """The option of an argument, or the word for its place; empty if there is none of the name."""
    if name == "tokens" and getattr(args, "texts", None) is not None:
        name = "texts"
    for action in args.parser._actions if hasattr(args, "parser") else ():
        if action.dest == name:
            return str(action.option_strings[-1] if action.option_strings else action.metavar)
    return ""


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON; what JSON cannot say, infinity and NaN, becomes null."""
    print(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
