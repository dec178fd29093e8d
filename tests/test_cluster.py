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
from command import refused, report
from streamed import stored
from test_streaming import second_moment
from tiny_models import TOKENS, content, tiny_checkpoint

import lplr
from lplr.cluster import _apply, map_on_workers
from lplr.exceptions import ClusterError, InputError, LplrWarning, MissingPackageError
from lplr.parallel import at_most
from lplr.streaming.passes import tile_rows

distributed = pytest.importorskip("distributed")
dask_array = pytest.importorskip("dask.array")

N, D = 12_000, 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes, each of one thread, that are started again where they end."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def one() -> Iterator[Any]:
    """A client of one worker, of two threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
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
    "backbone": lambda A, **how: lplr.compress(
        A, bits_per_entry=2.5, hessian=H, effort="fast", rng=0, **how
    ),
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


def test_results_in_parts(
    client: Any, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lplr.streaming.part_rows._NBYTES", 1)
    for name, client_or_none in (("here", None), ("there", client)):
        f = CALLS["backbone"](path, out=tmp_path / name, client=client_or_none)
    assert len(f.blocks) == 2
    here, there = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("here", "there")
    )
    assert here == there


@pytest.mark.parametrize("chunks", [((7000, 1, 4999), (D,)), ((N,), (5, 7)), (999, 11)], ids=str)
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


# --- many matrices, and networks ----------------------------------------------------------------


def some_matrices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    easy = lplr.datasets.synthetic(90, 60, "power", exponent=1.2, rng=0)
    return {"up": easy, "bias": np.ones(5), "down": rng.standard_normal((60, 90), np.float32)}


def bytes_of(found: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Names, what is stored, and the records."""
    return [
        (name, stored(f), f.meta) if isinstance(f, lplr.PackedMatrix) else (name, f.tobytes(), None)
        for name, f in found.items()
    ]


def test_many_matrices_are_those_of_one_by_one(
    client: Any, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"rng": 3, "effort": "fast"}
    matrices, H = some_matrices(), {"down": np.linspace(1, 4, 90)}
    bits = {"up": 1.5, "down": 2, "large": 1}
    alone = {
        "up": lplr.compress(matrices["up"], bits_per_entry=1.5, **how),
        "bias": matrices["bias"],
        "down": lplr.compress(matrices["down"], bits_per_entry=2, hessian=H["down"], **how),
    }
    large = lplr.compress(path, bits_per_entry=1, memory_limit="2GB", **how)
    np.save(tmp_path / "up.npy", matrices["up"])
    files = matrices | {"up": tmp_path / "up.npy"}
    with at_most(2):  # the first one here, the others in processes
        many = lplr.compress_many(files, bits_per_entry=bits, hessians=H, **how)
    assert bytes_of(many) == bytes_of(alone)
    monkeypatch.setattr("lplr.streaming.limits.available_memory", lambda: 10**6)
    many = lplr.compress_many(
        matrices | {"large": path}, bits_per_entry=bits, hessians=H, client=client, **how
    )
    assert bytes_of(many) == bytes_of(alone | {"large": large})


def test_what_cannot_be_compressed_is_named(client: Any, tmp_path: Path) -> None:
    matrices = some_matrices()
    for options, said in (
        ({"bits_per_entry": {"up": 2}}, "bits_per_entry: has no number for 'down'"),
        ({"bits_per_entry": 0.01}, "up: bits_per_entry: nothing fits at shape"),
        ({"bits_per_entry": 0}, "bits_per_entry"),
        ({"bits_per_entry": 2, "hessians": {"left": 1}}, "hessians: there is no matrix"),
        ({"bits_per_entry": 2, "client": "tcp://x:1"}, "client: must be a client"),
    ):
        with pytest.raises(InputError, match=said):
            lplr.compress_many(matrices, **options)
    wrong = matrices | {"nan": np.full((3, 3), np.nan)}
    with pytest.raises(InputError, match=r"matrices\['nan'\]: has nan"):
        lplr.compress_many(wrong, bits_per_entry=2, client=client)
    np.save(tmp_path / "nan.npy", wrong["nan"])
    with pytest.raises(InputError, match=r"^matrices\['nan'\]: .*has nan at \(0, 0\)"):
        lplr.compress_many({"nan": tmp_path / "nan.npy"}, bits_per_entry=20, client=client)


def test_one_budget_for_all(client: Any) -> None:
    options: dict[str, Any] = {"bits_per_entry": 2, "effort": "fast", "rng": 0}
    alone = lplr.compress_all(some_matrices(), **options)
    assert bytes_of(lplr.compress_all(some_matrices(), **options, client=client)) == bytes_of(alone)


@pytest.mark.parametrize(
    "call",
    [
        {"bits_per_weight": 3, "effort": "fast", "calibration": TOKENS},
        {"bits_per_weight": 5, "method": "quantize"},
    ],
    ids=["compress", "quantize"],
)
def test_layers_of_a_network(client: Any, tmp_path: Path, call: dict[str, Any]) -> None:
    source = tiny_checkpoint(tmp_path / "source", num_hidden_layers=1)
    lplr.models.compress(source, tmp_path / "here", **call)
    lplr.models.compress(source, tmp_path / "there", **call, client=client)
    assert content(tmp_path / "here") == content(tmp_path / "there")


# --- the command line ---------------------------------------------------------------------------


def test_the_option_of_the_command(
    cluster: Any, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "many.npz", **some_matrices())
    there = ("--scheduler", cluster.scheduler_address)
    for source, how in ((path, ("--memory-limit", "2GB")), (tmp_path / "many.npz", ())):
        found = []
        for options in (how, there):
            out = tmp_path / "out.h5"
            command = ("compress", source, "-o", out, "--overwrite", "--bits-per-entry", "2")
            report(capsys, *command, "--effort", "fast", *options)
            packed = lplr.load(out)
            found.append(bytes_of(packed if isinstance(packed, dict) else {"A": packed}))
        assert found[0] == found[1]


@pytest.mark.parametrize("address", ["nothing", "tcp://127.0.0.1:1", "tcp://127.0.0.1"])
def test_an_address_where_no_scheduler_is(
    address: str,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lplr.cluster._PATIENCE", 1)
    command = ("compress", path, "-o", path.with_name("out.h5"), "--rank", "2")
    said = refused(capsys, *command, "--scheduler", address)
    assert said.startswith(f"--scheduler: none of dask answers at {address!r}")
    assert "dask scheduler" in said


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
    array = dask_array.from_array(A, chunks=(1000, D)).map_blocks(block, dtype=A.dtype)
    assert stored(coded(array, client=client)) == expected
    client.wait_for_workers(2)
    assert len(before & set(client.run(os.getpid).values())) == 1


def test_work_that_ends_every_worker_ends_with_one_error(cluster: Any, client: Any) -> None:
    cluster.scheduler.allowed_failures, before = 0, cluster.scheduler.allowed_failures
    try:
        with pytest.raises(ClusterError, match="workers ended .* smaller memory_limit"):
            list(map_on_workers(client, lambda: os.kill(os.getpid(), signal.SIGKILL), [()]))
    finally:
        cluster.scheduler.allowed_failures = before
    client.wait_for_workers(2)


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
            with (
                pytest.warns(LplrWarning, match="no workers yet.*dask worker tcp://"),
                pytest.raises(ClusterError, match="the scheduler is gone"),
            ):
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
    with pytest.raises(InputError, match=f"rows 0 to {tile_rows(N)} are others on .* than here"):
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
    with pytest.warns(LplrWarning, match="a worker computes with"):
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
