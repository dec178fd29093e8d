"""Work in other processes: the same results, in the same order, and errors that arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from pickle import PicklingError

import fresh
import numpy as np
import pytest

from lplr.parallel import n_threads, run_blocks
from lplr.processes import map_in_order


@pytest.fixture(params=["1", "2"])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("LPLR_NUM_THREADS", request.param)
    return int(request.param)


def slowly(item: int) -> tuple[int, int]:
    """Early items take longest, so that results do not come in order by themselves."""
    time.sleep(0.02 / (item + 1))
    return item, os.getpid()


def test_results_are_in_order(processes: int) -> None:
    items, pids = zip(*map_in_order(slowly, range(200), patience=0.01), strict=True)
    assert items == tuple(range(200))
    assert pids[0] == os.getpid()
    assert (pids[-1] == os.getpid()) == (processes == 1)
    assert len(set(pids)) <= processes + 1


def test_short_work_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    assert set(map_in_order(lambda item: os.getpid(), range(50), patience=60)) == {os.getpid()}


@pytest.mark.parametrize("n", [0, 1])
def test_few_items(processes: int, n: int) -> None:
    assert len(list(map_in_order(slowly, range(n), patience=0))) == n


def test_results_are_those_of_one_thread(processes: int) -> None:
    A = np.random.default_rng(0).standard_normal((300, 300))

    def product(item: int) -> bytes:
        return (A @ A.T).tobytes()

    assert len(set(map_in_order(product, range(8), patience=0.001))) == 1


def test_blocks_within_an_item_stay_on_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setenv("LPLR_NUM_THREADS", "2")

    def threads(item: int) -> int:
        seen = set()
        run_blocks(lambda start, stop: seen.add(threading.get_ident()), 100, 1)
        return len(seen)

    assert set(map_in_order(threads, range(20), patience=0.0)) == {1}
    assert n_threads() == 2


def test_errors_come_through(processes: int) -> None:
    def fail(item: int) -> int:
        time.sleep(0.002)
        if item == 30:
            raise ZeroDivisionError(f"item {item}")
        return item

    found: Iterator[int] = map_in_order(fail, range(100), patience=0.01)
    with pytest.raises(ZeroDivisionError, match="item 30"):
        list(found)
    assert list(map_in_order(fail, range(5), patience=0)) == list(range(5))  # and can go on


KILLED = """
import os, time
from lplr.processes import map_in_order

def slowly(item):
    time.sleep(0.05)
    return os.getpid()

for pid in map_in_order(slowly, range(10_000), patience=0):
    print(pid, flush=True)
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_parent_that_is_killed(
    how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        workers = {int(parent.stdout.readline()) for _ in range(20)}
        parent.send_signal(how)
        assert parent.wait() == -how
        assert parent.pid not in workers
        parent.communicate()  # ends when no worker holds the pipe
    deadline = time.monotonic() + 60
    while any(map(running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("earlier", [True, False])
def test_work_after_the_main_thread_has_ended(earlier: bool) -> None:
    script = f"""
import os, threading
from lplr.processes import map_in_order

def work():
    found = list(map_in_order(lambda item: (item, os.getpid()), range(8), patience=0))
    assert [item for item, _ in found] == list(range(8))
    print(os.getpid() in dict(map(reversed, found)))

def outlive():
    threading.main_thread().join()
    work()

if {earlier}:
    work()
threading.Thread(target=outlive).start()
"""
    found = fresh.run("-c", script, LPLR_NUM_THREADS="2").stdout.split()
    assert found == ["False", "True"][not earlier :]


def test_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "2")
    generator = (i for i in range(100))
    with pytest.raises(PicklingError):
        list(map_in_order(lambda item: next(generator), range(50), patience=0))


FORKED = """
import os
os.environ["LPLR_NUM_THREADS"] = "2"
from lplr.processes import map_in_order
list(map_in_order(abs, range(4), patience=0.0))
child = os.fork()
if child == 0:
    os._exit(0 if list(map_in_order(abs, range(4), patience=0.0)) == [0, 1, 2, 3] else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_a_process_with_workers_does_not_wait_for_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "0\n"
