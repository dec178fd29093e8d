"""The same results from any caller: any thread, any number of them, a fork, and at exit."""

from __future__ import annotations

import os
from pathlib import Path

import fresh
import numpy as np
import pytest

import lplr

METHODS = ("feedback", "lplr", "lplr-svd", "direct-svd")


def results() -> dict[str, lplr.LowRank | lplr.Quantized]:
    """One of each kind, of several blocks: more than 2**17 entries and 512 columns."""
    A = lplr.datasets.synthetic(700, 600, "power", exponent=1.0, rng=0).astype(np.float32)
    made = {m: lplr.factorize(A, rank=40, method=m, bits=4, rng=0) for m in METHODS}
    made["searched"] = lplr.factorize(A, bits_per_entry=0.3, rng=0)
    # A rank at which OpenBLAS would solve in threads of its own.
    made["lattice"] = lplr.factorize(A, rank=250, bits=2, rng=0)
    for sketch in ("rademacher", "srht", "sparse-sign"):
        made[sketch] = lplr.factorize(A, rank=40, method="lplr", sketch=sketch, bits=8, rng=0)
    made["dithered"] = lplr.factorize(
        A, rank=20, method="lplr", rounding="dithered", normalize=True, bits=4, rng=0
    )
    made["quantized"] = lplr.quantize(A, bits=3, scaling="mse", granularity="column")
    return made


def test_same_file_bytes_at_any_number_of_threads(monkeypatch, tmp_path: Path) -> None:
    files = []
    for threads in "13":
        monkeypatch.setenv("LPLR_NUM_THREADS", threads)
        made = results()
        for name, f in made.items():
            lplr.save(tmp_path / f"{name}.h5", f, overwrite=True)
        files.append({name: (tmp_path / f"{name}.h5").read_bytes() for name in made})
    one, three = files
    assert [name for name in one if one[name] != three[name]] == []


_DIGEST = f"""
import hashlib, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
import lplr
from test_callers import results
from test_parallel import InThread, blas_threads

def digest(f):
    data = [np.ascontiguousarray(f.to_dense()).tobytes(), repr(dict(f.meta)).encode()]
    return hashlib.sha256(b"".join(data)).hexdigest()
"""


def test_same_matrices_whatever_the_threads_of_blas() -> None:
    """In processes of their own: BLAS reads its number of threads when it is loaded."""
    script = _DIGEST + "for name, f in results().items(): print(name, digest(f))"
    outputs = [
        fresh.run(
            "-c", script, OPENBLAS_NUM_THREADS=threads, LPLR_NUM_THREADS=threads
        ).stdout.splitlines()
        for threads in "12"
    ]
    assert len(outputs[0]) > len(METHODS)
    assert outputs[0] == outputs[1]


def test_same_matrix_from_any_thread() -> None:
    """Where BLAS may use all cores, as it may in a program that does not know of this package."""
    script = (
        _DIGEST
        + """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from joblib import Parallel, delayed

A = lplr.datasets.synthetic(900, 600, "power", rng=0)
before = blas_threads()

def factors(_=0):
    return digest(lplr.factorize(A, rank=10, rng=0))

def others():
    W = A[:, :300]
    return [
        digest(lplr.compress(W, bits_per_entry=1, rng=0)), digest(lplr.caldera(W, rank=10, rng=0))
    ]

async def in_threads():
    return await asyncio.gather(*(asyncio.to_thread(factors) for _ in range(4)))

expected = factors(), others()
found = []
thread = threading.Thread(target=lambda: found.extend([factors(), others()]))
thread.start()
thread.join()
assert tuple(found) == expected
with ThreadPoolExecutor(4) as pool:
    found = {*pool.map(factors, range(6))}
found |= {*Parallel(4, backend="threading")(delayed(factors)(i) for i in range(6))}
found |= {*asyncio.run(in_threads())}
assert found == {expected[0]}
assert blas_threads() == before
print(max(before))
"""
    )
    if fresh.run("-c", script, OPENBLAS_NUM_THREADS=None).stdout == "1\n":
        pytest.skip("BLAS uses a single thread on this machine")


@pytest.mark.parametrize("when", ["in a thread, then at exit", "as garbage is collected"])
@pytest.mark.parametrize("earlier", [True, False])
def test_work_after_the_main_thread_has_ended(when: str, earlier: bool) -> None:
    script = f"""
import atexit, threading
import numpy as np
import lplr

A = np.random.default_rng(0).standard_normal((300, 200))

def work():
    f = lplr.factorize(A, rank=10, rng=0)
    print(repr((f @ np.ones(200)).tobytes()))

class Garbage:
    def __init__(self):
        self.cycle = self

    def __del__(self):
        work()

def outlive():
    threading.main_thread().join()
    work()

if {earlier}:
    work()
if "garbage" in {when!r}:
    Garbage()
else:
    threading.Thread(target=outlive).start()
    atexit.register(work)
"""
    lines = fresh.run("-c", script, LPLR_NUM_THREADS="3").stdout.splitlines()
    assert len(lines) == 1 + ("exit" in when) + earlier
    A = np.random.default_rng(0).standard_normal((300, 200))
    assert set(lines) == {repr((lplr.factorize(A, rank=10, rng=0) @ np.ones(200)).tobytes())}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_another_thread_computes() -> None:
    """The child, in which that thread is not, has the limits of before and can compute."""
    script = (
        _DIGEST
        + """
import os, threading
from threadpoolctl import threadpool_limits
from lplr.parallel import reproducible, run_blocks

threadpool_limits(3, user_api="blas")
other = InThread(reproducible)
assert blas_threads() == {1}
if (child := os.fork()) == 0:
    assert blas_threads() == {3}, blas_threads()
    seen = []
    run_blocks(lambda i, j: seen.append(i), 100, 1)
    assert sorted(seen) == list(range(100))
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
other.end()
"""
    )
    fresh.run("-c", script, LPLR_NUM_THREADS="3")
