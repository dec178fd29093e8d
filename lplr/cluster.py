"""Work on the workers of a dask cluster, whose results come back in the order of the items.

A task depends on nothing but its item, so that it can be done again where a worker is lost: the
scheduler sees to that, and all that changes is the time. Each task runs on one thread.
"""

from __future__ import annotations

import functools
import logging
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from lplr.exceptions import ClusterError, InputError, LplrError, LplrWarning
from lplr.extras import optional
from lplr.parallel import blas_name, single_threaded
from lplr.provenance import versions
from lplr.validation.arguments import warn_caller

__all__ = ["check_client", "connected", "map_on_workers", "present_client", "using", "workers"]

_AHEAD = 2  # tasks that wait for each thread of the workers, beside the one that is done
_PATIENCE = 10.0  # seconds until a scheduler must have answered
_LOOK = 1.0  # seconds between two looks at the number of workers

_GONE = (
    "client: the scheduler is gone, or no longer answers; start it and its workers anew, and "
    "repeat the call"
)

_current: ContextVar[Any] = ContextVar("lplr_client", default=None)


@contextmanager
def using(client: Any) -> Iterator[None]:
    """Inside, passes over the rows of a source are made by the workers of this client, if any."""
    before = _current.set(client)
    try:
        yield
    finally:
        _current.reset(before)


def present_client() -> Any:
    """The client of the innermost `using`, or None."""
    return _current.get()


def check_client(client: Any) -> Any:
    """A client of dask that is connected, or None.

    Raises
    ------
    InputError
        If it is none.
    MissingPackageError
        If dask.distributed is not installed.
    ClusterError
        If it has lost its scheduler.
    """
    if client is None:
        return None
    distributed = optional("distributed", "client")
    if not isinstance(client, distributed.Client) or client.asynchronous:
        found = "an asynchronous one" if hasattr(client, "asynchronous") else repr(client)
        raise InputError(
            "client: must be a client of dask that waits for results, "
            "dask.distributed.Client('tcp://HOST:8786'), "
            f"found {found}"
        )
    if client.status != "running":
        raise ClusterError(_GONE)
    return client


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """A client of the scheduler at an address, closed in the end; None without an address.

    Raises
    ------
    MissingPackageError
        If dask.distributed is not installed.
    ClusterError
        If no scheduler answers there.
    """
    if address is None:
        yield None
        return
    distributed = optional("distributed", "scheduler")
    for name in logging.root.manager.loggerDict:  # what counts is raised
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        distributed.comm.get_address_host_port(address, strict=True)  # a client would wait
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:  # of any kind of address
        raise ClusterError(
            f"scheduler: none of dask answers at {address!r} ({type(error).__name__}); start one "
            "by: dask scheduler, which prints its address, and workers by: dask worker ADDRESS"
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=_PATIENCE)


def workers(client: Any) -> int:
    """The threads of all workers, at least 1.

    Warns
    -----
    LplrWarning
        If there are no workers yet.
    """
    with _typed(client):
        threads = sum(client.nthreads().values())
    if not threads:
        warn_caller(
            "client: the scheduler has no workers yet, and is waited for; start some by: dask "
            f"worker {client.scheduler.address}",
            LplrWarning,
        )
    return max(1, threads)


def map_on_workers(
    client: Any,
    fn: Callable[..., Any],
    items: Iterable[tuple[Any, ...]],
    most: int | None = None,
) -> Iterator[Any]:
    """Apply ``fn(*item)`` to each item on the workers, and yield the results in order.

    A few items for each thread are looked up and sent ahead. If too many results wait for an
    earlier one, they wait where they were made.

    Parameters
    ----------
    client : dask.distributed.Client
    fn : callable
        Sent once. Its result may depend on its arguments alone.
    items : iterable of tuple
        A dask collection among the arguments is computed by the workers, and stays there.
    most : int, optional
        Items that are sent ahead, at most.

    Yields
    ------
    The results.

    Raises
    ------
    InputError
        If ``fn`` or an item cannot be sent to another process.
    ClusterError
        If the scheduler is lost, workers end again and again, or have other versions of packages.

    Warns
    -----
    LplrWarning
        If a worker computes with other instructions, which can change last bits.
    """
    work = _pickled(fn)
    there, own, threads, looked = versions_here(), blas_name(), workers(client), time.monotonic()
    waiting: deque[Any] = deque()
    said = False
    shared = _submitted(client, pickle.loads, work)
    rest = iter(items)
    try:
        while True:
            ahead = min((1 + _AHEAD) * threads, most or sys.maxsize)
            for item in islice(rest, max(0, ahead - len(waiting))):
                waiting.append(_submitted(client, _apply, shared, there, *item))
            if not waiting:
                return
            name, result = _result(client, waiting[0])
            waiting.popleft().release()
            if name != own and not said:
                said = True
                warn_caller(
                    f"client: a worker computes with {name}, and this process with {own}: last "
                    "bits can depend on who does what; set OPENBLAS_CORETYPE alike everywhere",
                    LplrWarning,
                )
            yield result
            del result
            if time.monotonic() - looked > _LOOK:
                threads, looked = workers(client), time.monotonic()
    finally:
        for future in (*waiting, shared):
            future.release()


@functools.cache
def versions_here() -> dict[str, str]:
    """The versions that bits may depend on, as `lplr.provenance.versions`, and of Python."""
    return {**versions(), "Python": "{}.{}".format(*sys.version_info)}


def _apply(fn: Callable[..., Any], there: dict[str, str], *arguments: Any) -> tuple[str, Any]:
    """A task: the result, and what it was computed with."""
    here = versions_here()
    if there != here:
        other = (f"{name} {here.get(name)}" for name in there if here.get(name) != there[name])
        wanted = (f"{name} {there[name]}" for name in there if here.get(name) != there[name])
        raise ClusterError(
            f"client: a worker has {', '.join(other)} where this process has {', '.join(wanted)}; "
            "results depend on them, install the same everywhere"
        )
    with single_threaded():
        return blas_name(), fn(*arguments)


def _pickled(fn: Callable[..., Any]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(fn))
    except Exception as error:  # of any object
        raise InputError(
            f"client: what workers need cannot be sent to them: {type(error).__name__}: {error}; "
            "pass the name of a file that they can read, or a dask array"
        ) from error


def _submitted(client: Any, fn: Callable[..., Any], *arguments: Any) -> Any:
    """The future of a call; that rows are sent along with it is meant so."""
    import dask
    from dask.base import is_dask_collection

    with (
        _typed(client),
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}),
    ):
        sent = (client.compute(x) if is_dask_collection(x) else x for x in arguments)
        return client.submit(fn, *sent, pure=False)


def _result(client: Any, future: Any) -> Any:
    """What a task gave; that the last worker is lost meanwhile is told."""
    while True:
        with _typed(client, future):
            try:
                return future.result(timeout=_PATIENCE)
            except TimeoutError:
                if future.status != "pending":  # it is the error of the task
                    raise
        workers(client)


@contextmanager
def _typed(client: Any, future: Any = None) -> Iterator[None]:
    """What is raised where something is lost becomes a `ClusterError`."""
    from concurrent.futures import CancelledError

    try:
        yield
    except (LplrError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "KilledWorker":
            raise ClusterError(
                "client: several workers ended one after the other at the same task, most likely "
                "for lack of memory; give them more, or a smaller memory_limit"
            ) from error
        if future is not None and future.status == "error":
            raise ClusterError(
                f"client: a worker failed: {type(error).__name__}: {error}; look at its log"
            ) from error
        if isinstance(error, (CancelledError, OSError)) or client.status != "running":
            raise ClusterError(_GONE) from error
        raise
