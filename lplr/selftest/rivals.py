"""Two at one file: writers, jobs, and readers while somebody writes."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from lplr.exceptions import CorruptFileError, ExistingFileError, InputError, LplrError
from lplr.matrices.row_parts import RowParts
from lplr.selftest.children import Child, Ended, run
from lplr.selftest.jobs import JOBS
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import TEMPORARY, WRITINGS, Place, small
from lplr.storage.container import load, save, verify
from lplr.storage.folder_writer import write_folder

__all__ = ["campaign"]

# Jobs, and how often a second one is started in the long form.
_SECOND = {
    "a matrix in parts": 15,
    "factorizing in parts": 15,
    "compressing a model": 10,
    "adapting a model": 5,
    "forming output moments": 10,
    "comparing allocations": 1,
    "compressing many matrices": 5,
    "lplr bench": 5,
    "lplr bounds": 5,
}
_UNLOCKED = ("lplr bounds",)
_WHAT = {writing.what: writing for writing in (*WRITINGS, *JOBS)}


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Set writers on one another."""
    folder.joinpath("race").mkdir()
    for i in range(scale.count(50, 4)):
        yield Trial("G1 G8", "four writers of one new file", _race(folder / "race", i))
    place = Place(_WHAT["appending"], folder / "append")
    for _ in range(scale.count(20, 1)):
        yield Trial("G1", "three processes append at once", _appenders(place))
    place = Place(_WHAT["rows appended"], folder / "append-and-replace")
    for _ in range(scale.count(20, 2)):
        failure = _append_and_replace(place)
        yield Trial("G1 G8", "rows appended to a folder while it is replaced", failure)
    for name, count in _SECOND.items() if scale.long else [("a matrix in parts", 3)]:
        place = Place(_WHAT[name], folder / name.replace(" ", "-"))
        yield from _second_jobs(scale, place, count)
    yield Trial("G2", "a part exchanged once its folder is open", _exchanged(folder / "exchanged"))
    for name in ("a file replaced", "rows appended", "a folder replaced"):
        place = Place(_WHAT[name], folder / name.replace(" ", "-"))
        for _ in range(scale.count(10, 1)):
            yield _readers(place, scale.count(200, 30))


def _all(*works: Callable[[], object]) -> list[Ended]:
    """How processes end that run at the same time."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(work)) for work in works]
        return [child.wait() for child in children]


def _race(folder: Path, i: int) -> str:
    """Why not exactly one of four wins."""
    path = folder / f"{i}.h5"

    def work(seed: int) -> bool:
        try:
            save(path, small(seed))
        except ExistingFileError:
            return False
        return True

    ended = _all(*(partial(work, seed) for seed in range(4)))
    if any(end.code != 0 for end in ended):
        return f"a writer fails: {next(end.value for end in ended if end.code != 0)}"
    winners = [seed for seed, end in enumerate(ended) if end.value]
    if len(winners) != 1:
        return f"{len(winners)} of four writers say that they wrote the file"
    if (load(path).to_dense() != small(winners[0]).to_dense()).any():
        return "the file is of another writer than says so"
    left = [p.name for p in folder.iterdir() if TEMPORARY.fullmatch(p.name)]
    return f"leaves {left[0]}" if left else ""


def _appenders(place: Place) -> str:
    """Why three that append do not all add their rows."""
    place.reset()
    path = place.folder / "f"
    before = load(path).shape[0]
    place.write()
    added = load(path).shape[0] - before
    place.reset()
    ended = _all(*[place.write] * 3)
    if any(end.code != 0 for end in ended):
        return f"one fails: {next(end.value for end in ended if end.code != 0)}"
    verify(path)
    rows = load(path).shape[0]
    return "" if rows == before + 3 * added else f"{rows} rows, of {before + 3 * added}"


def _append_and_replace(place: Place) -> str:
    """Why a folder that one replaces while another adds to it is not what one of them wrote."""
    place.reset()

    def often(write: Callable[[], object]) -> None:
        for _ in range(10):
            with suppress(InputError):  # who comes second is told
                write()

    replace = partial(write_folder, place.folder / "f", [small(1), small(2)], {}, overwrite=True)
    ended = _all(partial(often, place.write), partial(often, replace))
    if any(end.code != 0 for end in ended):
        return f"one fails: {next(end.value for end in ended if end.code != 0)}"
    try:
        verify(place.folder / "f")
    except LplrError as error:
        return f"what is there is damaged: {error}"
    return ""


def _second_jobs(scale: Scale, place: Place, count: int) -> Iterator[Trial]:
    """The same job once more, while the first one stands still at a random moment."""
    start = time.perf_counter()
    place.run()
    alone = time.perf_counter() - start
    chance, told = scale.rng(place.writing.what), f"a second job: {place.writing.what}"
    for _ in range(count):
        share = chance.uniform(0.1, 0.9)
        begun, failure = _second_job(place, share * alone)
        failure = failure and f"the first one stands still after {share * alone:.4f} s: {failure}"
        yield Trial("G3 G8", told, failure, count=int(begun or failure != ""))


def _second_job(place: Place, seconds: float) -> tuple[bool, str]:
    """Whether there was one, and why it is not refused while the first one has its lock.

    One that has no lock, since it writes once at its end, does the same as the first.
    """
    place.reset()

    def second() -> str:
        try:
            place.write()
        except (InputError, RuntimeError) as error:  # the latter of a command
            return str(error)
        return "done"

    with Child(place.write) as first:
        time.sleep(seconds)
        first.send(signal.SIGSTOP)
        # Of a job, or of a table of a benchmark: whoever has it has written who it is.
        locked = any(path.stat().st_size for path in place.folder.rglob("*lock"))
        # Once its result has its name, a second one hears that this exists.
        tries = not first.ended() and place.seen() != place.new
        tries = tries and (locked or place.writing.what in _UNLOCKED)
        ended = run(second) if tries else None
        first.send(signal.SIGCONT)
        code = first.wait().code
    if ended is not None:
        refused = f"another process ({first.pid})" in str(ended.value)
        if not (refused if locked else ended.value == "done"):
            return True, f"the second job is not refused, or not done: {ended.value}"
    if code != 0:
        return tries, f"the first job ends with the code {code}"
    return tries, "" if place.seen() == place.new else "the first job makes something else"


def _exchanged(path: Path) -> str:
    """Why a part is read that another one has taken the place of."""
    save(path, RowParts((small(0), small(1))), parts=True)
    opened = load(path)
    shutil.copy(path / "part-00001.h5", path / "part-00000.h5")
    try:
        opened.part(0)
    except CorruptFileError:
        return ""
    return "it is read"


def _readers(place: Place, reads: int) -> Trial:
    """Read again and again while it is written again and again."""
    writing = place.writing
    guarantees, what = "G1 G2", f"reading while others write: {writing.what}"
    # Who opens a folder of parts that is replaced then may find parts that his manifest does not
    # name, which is a typed error. Rows that are added change nothing that a reader has seen.
    told, grows = writing.what == "a folder replaced", writing.what == "rows appended"
    place.reset()
    failures = []

    def write() -> None:
        for _ in range(10_000):
            writing.write(place.folder)

    with Child(write) as child:
        for _ in range(reads):
            try:
                failure = _rows(place.folder / "f") if grows else place.broken(place.read())
            except LplrError as error:
                if not told:
                    failures.append(f"{type(error).__name__}: {error}")
                continue
            failures.append(failure)
        if child.ended():
            failures.append("the writer has ended")
        child.send(signal.SIGKILL)
    failures = [failure for failure in failures if failure]
    return Trial(guarantees, what, failures[0] if failures else "", count=reads)


def _rows(path: Path) -> str:
    """Why not each writer so far has added all of its rows."""
    found = load(path)
    found.part(len(found.blocks) - 1)
    rows = found.shape[0] // small().shape[0]
    return "" if rows % 2 == 0 else f"{rows} parts"
