"""Writers, readers and commands for which there is not enough memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lplr.exceptions import CorruptFileError, LplrError
from lplr.selftest.allocations import failing_arrays
from lplr.selftest.children import run
from lplr.selftest.jobs import command, done
from lplr.selftest.lacking import tried
from lplr.selftest.specimens import Specimen, make
from lplr.selftest.trials import Scale, Trial, described
from lplr.selftest.unfinished import make_jobs
from lplr.selftest.writings import Place, small
from lplr.storage.container import save
from lplr.storage.folder_writer import write_folder

__all__ = ["commands", "readers", "writers"]

_ARRAYS = 40  # of a writer that are tried, at most


def writers(scale: Scale, place: Place) -> Iterator[Trial]:
    """The k-th array that is made has no room, or none from there on; and limits of the process."""

    def counted() -> int:
        made = failing_arrays(lambda i: False)
        place.write()
        return made()

    place.reset()
    count = run(counted).value
    ks = sorted({*np.linspace(0, count, min(_ARRAYS, count), endpoint=False, dtype=int).tolist()})
    for n, k in enumerate(ks[:: max(1, scale.count(1, len(ks) // 3))]):
        failing = {"alone": lambda i, k=k: i == k, "and all behind": lambda i, k=k: i >= k}
        for how in list(failing)[: 1 + (n % 4 == 0)]:
            place.reset()
            failure = tried(place, partial(failing_arrays, failing[how]), again=False)
            told = failure and f"{place.writing.what}, array {k} of {count} {how}: {failure}"
            yield Trial("G1 G6", f"no memory for the k-th array {how}", told)
    for more in range(0, 24, scale.count(1, 8)):
        place.reset()
        failure = tried(place, partial(_limited_to, more << 17), again=False)
        told = failure and f"{place.writing.what}, {more << 17} bytes more: {failure}"
        yield Trial("G1 G6", "RLIMIT_AS", told)


def readers(scale: Scale, folder: Path) -> Iterator[Trial]:
    """A sound file is read without memory for one of its arrays, and is not called damaged."""
    folder.mkdir()
    for specimen in make(folder) if scale.long else _few(folder):
        ended = run(partial(_read, specimen))
        count, failures = ended.value if ended.code == 0 else (1, [f"{ended.code}: {ended.value}"])
        told = f"{specimen.kind}, {failures[0]}" if failures else ""
        yield Trial("G6", "reading without memory for the k-th array", told, count)


def _few(folder: Path) -> list[Specimen]:
    """Some that are made quickly."""
    save(folder / "x.h5", small())
    write_folder(folder / "f", [small(1), small(2)], {})
    made = {"packed": folder / "x.h5", "folder": folder / "f", "job": make_jobs(folder)["job"]}
    return [Specimen(reader, path, reader, True) for reader, path in made.items()]


def _read(specimen: Specimen) -> tuple[int, list[str]]:
    """Each array alone fails; how many that are, and what was wrong of the first ones."""
    whole, at, failures = specimen.read(), -1, []
    made = failing_arrays(lambda i: i == at)
    specimen.read()
    count, start = made(), made()
    for k in range(count):
        at = start + k
        try:
            found = specimen.read()
        except MemoryError:
            found = whole
        except CorruptFileError as error:
            failures.append(f"array {k} of {count}: {described(error)}")
            found = whole
        except LplrError:
            found = whole
        except Exception as error:
            failures.append(f"array {k} of {count}: {described(error)}")
            found = whole
        if found != whole:
            failures.append(f"array {k} of {count}: is read with other contents")
        start, at = made(), -1
    return count, failures[:3]


def _limited_to(more: int) -> None:
    """The process gets so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def commands(scale: Scale, folder: Path) -> Iterator[Trial]:
    """The exit code of a command is 0 or 2, and its error is one line."""
    folder.mkdir()
    np.save(folder / "A.npy", small().to_dense())
    out = folder / "x.h5"
    given = "compress", folder / "A.npy", "-o", out, "--bits-per-entry", "2"
    done(*given)  # everything is imported from now on

    def work(more: int) -> None:
        _limited_to(more)
        command(*given)

    for more in range(0, 24, scale.count(1, 8)):
        out.unlink(missing_ok=True)
        ended = run(partial(work, more << 20))
        failure, what = "", "a command without memory"
        if ended.code == 130 and "blas_thread_init" in ended.printed:
            what += ": OpenBLAS interrupts it, which has no room for its threads"
        elif ended.code not in (0, 2):
            failure = f"exit code {ended.code}: {ended.printed[-500:]} {ended.value or ''}"
        elif ended.code == 2 and "lplr: error: " not in ended.printed.splitlines()[-1]:
            failure = f"its last line is no error: {ended.printed[-500:]}"
        elif (ended.code == 0) != out.exists() or len(os.listdir(folder)) != 1 + out.exists():
            failure = f"exit code {ended.code}, and there are {os.listdir(folder)}"
        yield Trial("G6", what, failure and f"{more} MB more: {failure}")
