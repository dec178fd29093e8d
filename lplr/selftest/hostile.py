"""Hostile files, made on the spot: each is refused with the very class of error that it deserves.

They link, point, repeat, nest, declare and swell. A pipe that nobody writes to lies where they
point: what would follow them would wait for ever.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lplr.exceptions import MissingPackageError
from lplr.progress import counter
from lplr.selftest.guarded import Attempt, attempts, outcome_of
from lplr.selftest.hostile_file import TRAP, Hostile
from lplr.selftest.hostile_folders import FOLDERS
from lplr.selftest.hostile_hdf5 import HDF5
from lplr.selftest.hostile_inputs import INPUTS
from lplr.selftest.hostile_jobs import JOBS
from lplr.selftest.hostile_json import TEXTS
from lplr.selftest.hostile_networks import NETWORKS
from lplr.selftest.hostile_places import PLACES
from lplr.selftest.hostile_tables import TABLES
from lplr.selftest.hostile_tokenizers import TOKENIZERS
from lplr.selftest.specimens import READERS
from lplr.selftest.trials import Scale, Trial

__all__ = ["campaign"]

_LEFT_OUT = ": left out, its package is not installed"


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Read each hostile file once."""
    count = len(_all(scale.long))
    tell = counter(count)
    maker = "lplr.selftest.hostile:attempt"
    for what, failure in attempts(maker, folder, count, scale, long=scale.long):
        tell(1)
        tried = int(not what.endswith(_LEFT_OUT))
        yield Trial("G2 G4 G5 G6", what, failure, count=tried)


def _all(slow: bool) -> dict[str, Hostile]:
    kinds = {
        "HDF5 structure": HDF5,
        "table of contents": TABLES,
        "folder": FOLDERS,
        "file of others": INPUTS,
        "file of a network": NETWORKS,
        "tokenizer": TOKENIZERS,
        "job": JOBS,
        "JSON": TEXTS,
        "place": PLACES,
    }
    return {
        f"{kind}: {name}": found
        for kind, table in kinds.items()
        for name, found in table.items()
        if slow or not found.slow
    }


def attempt(folder: str, long: bool) -> Attempt:
    """Make a hostile file and read it."""
    everything = list(_all(long).items())

    def tried(i: int) -> tuple[str, str]:
        name, hostile = everything[i]
        what = f"hostile {name.partition(':')[0]}"
        home = Path(folder) / "hostile"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        try:
            path = hostile.make(home)
        except MissingPackageError:
            return what + _LEFT_OUT, ""
        before = _files(home)
        outcome, found = outcome_of(lambda: READERS[hostile.reader](path), sum(before.values()))
        if outcome == "read":
            return what, f"{name}: accepted"
        if isinstance(found, MissingPackageError):
            return what + _LEFT_OUT, ""
        if type(found) is not hostile.error:
            wanted = hostile.error.__name__
            return what, f"{name}: {type(found).__name__} in place of {wanted}: {found}"
        if "\n" in str(found):
            return what, f"{name}: its message has several lines"
        if _files(home) != before or Path(TRAP).exists():
            return what, f"{name}: reading it changed its folder"
        return what, ""

    return tried


def _files(folder: Path) -> dict[str, int]:
    """The bytes of everything in a folder; links are not followed."""
    return {
        os.path.join(root, name): os.lstat(os.path.join(root, name)).st_size
        for root, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }
