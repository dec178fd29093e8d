"""Power cuts: every state of the disk that they may leave is built, and read back.

The calls of a writer are recorded once. `lplr.selftest.disks` says what may be on disk after each
of them: there must be the old or the new, and once the writer has returned nothing but the new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lplr.selftest.calls import Call, watch
from lplr.selftest.children import run
from lplr.selftest.disks import Disk, State, build, states
from lplr.selftest.jobs import JOBS
from lplr.selftest.trials import Scale, Trial
from lplr.selftest.writings import WRITINGS, Place

__all__ = ["campaign", "recorded"]

_QUICK = 15  # states of each writer
_JOBS = ("compressing a model", "forming output moments", "compressing many matrices")


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Cut the power of writers."""
    jobs = [job for job in JOBS if scale.long and job.what in _JOBS]
    for i, writing in enumerate([*WRITINGS, *jobs]):
        yield from _crashes(scale, Place(writing, folder / str(i)))


def recorded(place: Place) -> list[Call]:
    """The system calls of a writing with all their bytes; the place is as before.

    What is written through the map of a file, which got its size before, is not seen, but lies in
    the file: it is noted as one write right before the call that makes it durable.
    """
    made: list[tuple[Any, ...]] = []
    mapped: set[str] = set()

    def note(call: Call, do: Callable[..., Any]) -> Any:
        if call.name == "allocate":
            mapped.add(call.path)
        if call.name == "fsync" and call.path in mapped:
            whole = (place.folder / call.path).read_bytes().decode("latin-1")
            made.append(("write", call.path, "", 0, whole))
        found = do()  # a call that fails has changed nothing
        made.append((*call[:4], call.data.decode("latin-1")))
        return found

    def work() -> list[tuple[Any, ...]]:
        watch(place.folder, note)
        place.write()
        return made

    place.reset()
    ended = run(work)
    if ended.code != 0:
        raise RuntimeError(f"{place.writing.what}: {ended.value}")
    place.reset()
    return [Call(*call)._replace(data=call[4].encode("latin-1")) for call in ended.value]


def _crashes(scale: Scale, place: Place) -> Iterator[Trial]:
    calls = recorded(place)
    disk = Disk.of(place.folder)
    found: Iterator[tuple[int, State]] = states(disk, calls)
    if not scale.long:
        few = list(found)
        step = max(1, len(few) // _QUICK)
        found = iter(few[int(scale.rng(place.writing.what).integers(step)) :: step])
    every = scale.count(8 if place.writing in WRITINGS else 24, 20)  # jobs take longer
    what = "a power cut while a writer works"
    for i, (k, state) in enumerate(found):
        build(state, place.folder)
        yield Trial("G1", what, _told(place, calls, k, place.broken()))
        if i % every == 0:
            failure = _told(place, calls, k, place.unfinished())
            yield Trial("G3", "the same call after a power cut", failure)
    for state in disk.after_a_crash():  # of the finished writer
        build(state, place.folder)
        failure = place.broken() or ("" if place.seen() == place.new else "the new one is lost")
        yield Trial("G1", "a power cut after a writer", _told(place, calls, len(calls), failure))


def _told(place: Place, calls: list[Call], k: int, failure: str) -> str:
    last = calls[k - 1]._replace(data=b"") if k else "nothing"
    return failure and f"{place.writing.what}, after call {k}, {last}: {failure}"
