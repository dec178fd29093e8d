"""Work on the workers of dask clusters: the bytes are those of this process, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_streaming import second_moment, stored

import lplr
from lplr.cluster import _apply, map_on_workers
from lplr.exceptions import ClusterError, InputError, MissingPackageError

distributed = pytest.importorskip("distributed")
dask_array = pytest.importorskip("dask.array")

N, D = 20_000, 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three worker processes, each of one thread, that are started again where they end."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def one() -> Iterator[Any]:
    """A client of one worker, which is in this process."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    X = np.random.default_rng(0).standard_normal((N, D)) * np.arange(1, D + 1) ** -0.7
    return X.astype(np.float32)


@pytest.fixture(scope="module")
def path(A: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "A.npy"
    np.save(path, A)
    return path


def coded(A: Any, **options: Any) -> Any:
    return lplr.factorize(A, rank=4, bits=4, method="lplr", rng=0, **options)


@pytest.fixture(scope="module")
def expected(A: np.ndarray) -> bytes:
    return stored(coded(A, memory_limit="2GB"))


# --- the same bytes -----------------------------------------------------------------------------

H = second_moment(D)
CALLS = {
    "feedback": lambda A, **how: lplr.factorize(A, rank=4, bits=2, rng=0, **how),
    "lplr": lambda A, **how: lplr.factorize(
        A, rank=4, bits=4, method="lplr", rounding="dithered", normalize=True, rng=0, **how
    ),
    "backbone": lambda A, **how: lplr.compress(A, bits_per_entry=2.5, hessian=H, rng=0, **how),
    "rounding": lambda A, **how: lplr.quantize(A, bits=3, granularity="row", **how),
}


@pytest.mark.parametrize("name", CALLS)
def test_workers_of_any_number_within_any_limit_give_the_bytes_of_this_process(
    client: Any, one: Any, A: np.ndarray, path: Path, name: str
) -> None:
    run = CALLS[name]
    f = run(A, memory_limit="2GB")
    g = run(path, client=one, memory_limit="200MB")
    h = run(path, client=client, memory_limit="2GB")
    assert stored(f) == stored(g) == stored(h)
    assert f.meta == g.meta == h.meta
    if name == "backbone":
        assert f.meta["plan"]["kind"] == "backbone + low-rank"


@pytest.mark.parametrize("chunks", [((7000, 1, 12_999), (D,)), ((N,), (5, 7)), (999, 11)], ids=str)
def test_arrays_of_dask_in_any_chunks(
    client: Any, A: np.ndarray, expected: bytes, chunks: Any
) -> None:
    array = dask_array.from_array(A, chunks=chunks)
    assert stored(coded(array, client=client)) == expected
    assert stored(coded(client.persist(array), client=client)) == expected


def test_arrays_in_memory_are_sent(client: Any, A: np.ndarray, expected: bytes) -> None:
    assert stored(coded(A, client=client)) == expected


def test_chunks_of_unknown_size_are_refused_with_the_way_out(
    client: Any, A: np.ndarray, expected: bytes
) -> None:
    array = dask_array.from_array(A, chunks=(3000, D))
    some = array[array[:, 0] > -99]
    with pytest.raises(InputError, match=r"A\.compute_chunk_sizes\(\)"):
        coded(some, client=client)
    assert stored(coded(some.compute_chunk_sizes(), client=client)) == expected


# --- faults -------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_changes_nothing(
    client: Any, A: np.ndarray, expected: bytes, tmp_path: Path
) -> None:
    def block(X: np.ndarray, block_info: Any) -> np.ndarray:
        """The process that computes block 7 for the second time is killed."""
        if block_info[0]["chunk-location"][0] == 7:
            first, second = tmp_path / "first", tmp_path / "second"
            if not first.exists():
                first.touch()
            elif not second.exists():
                second.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return X

    before = set(client.run(os.getpid).values())
    array = dask_array.from_array(A, chunks=(2000, D)).map_blocks(block, dtype=A.dtype)
    assert stored(coded(array, client=client)) == expected
    client.wait_for_workers(3)
    assert len(before & set(client.run(os.getpid).values())) == 2


def test_work_that_ends_every_worker_ends_with_one_error(cluster: Any, client: Any) -> None:
    cluster.scheduler.allowed_failures, before = 0, cluster.scheduler.allowed_failures
    try:
        with pytest.raises(ClusterError, match="workers ended .* smaller memory_limit"):
            list(map_on_workers(client, lambda: os.kill(os.getpid(), signal.SIGKILL), [()]))
    finally:
        cluster.scheduler.allowed_failures = before
    client.wait_for_workers(3)


def test_a_scheduler_that_vanishes_ends_with_one_error(path: Path) -> None:
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
    with subprocess.Popen(
        [*command, "--no-dashboard", "--host", "127.0.0.1"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "Scheduler at" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with distributed.Client(line.split()[-1], timeout=5) as client:
            threading.Timer(0.5, process.kill).start()  # while it waits for workers
            with pytest.raises(ClusterError, match="the scheduler is gone"):
                coded(path, client=client)


def test_what_is_wrong_is_told_as_in_this_process(client: Any, A: np.ndarray, path: Path) -> None:
    B = A.copy()
    B[N - 1, 3] = np.nan
    array = dask_array.from_array(B, chunks=(3000, D))
    with pytest.raises(InputError, match=rf"^A: has nan at \({N - 1}, 3\)"):
        coded(array, client=client)


def test_a_file_that_is_another_one_for_workers_is_refused(
    client: Any, A: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "B.npy"
    np.save(path, A)
    mapped = np.load(path, mmap_mode="r")
    np.save(tmp_path / "new.npy", A + 1)
    os.replace(tmp_path / "new.npy", path)
    monkeypatch.setattr("lplr.streaming.passes.socket.gethostname", lambda: "another machine")
    with pytest.raises(InputError, match="rows 0 to 1632 are others on .* than here"):
        coded(mapped, client=client)
    path.unlink()
    with pytest.raises(InputError, match=r"B\.npy"):
        coded(mapped, client=client)


def test_other_versions_and_other_processors_are_told(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match="a worker has .* where this process has numpy 0.1"):
        _apply(abs, {"numpy": "0.1"}, 1)
    monkeypatch.setattr("lplr.cluster.blas_name", lambda: "another BLAS")
    with pytest.warns(lplr.exceptions.LplrWarning, match="a worker computes with"):
        assert list(map_on_workers(client, abs, [(-1,), (2,), (-3,)])) == [1, 2, 3]


def test_what_is_no_client_is_refused(
    path: Path, A: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("tcp://127.0.0.1:8786", 4, True):
        with pytest.raises(InputError, match="^client: must be a client of dask"):
            coded(path, client=wrong)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingPackageError, match=r"client: needs distributed.*distributed\]"):
        coded(path, client=4)
