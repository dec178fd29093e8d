"""Matrices in passes: what is refused, what is noticed, and what it takes in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamed import LARGE, N, clusters, least_limit

import lplr
from lplr.exceptions import InputError
from lplr.streaming.fingerprint import fingerprint


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return clusters()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_entry_that_is_not_finite_is_named_in_the_first_pass(A: np.ndarray, bad: float) -> None:
    B = A.copy()
    B[N - 1, 3] = bad
    with pytest.raises(InputError, match=rf"A: has {bad} at \({N - 1}, 3\)"):
        lplr.factorize(B, rank=2, memory_limit=LARGE)


def test_float64_beyond_float32_is_told_by_its_magnitude(A: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"A: its largest magnitude is .*e\+39, .* multiply it"):
        lplr.factorize(A.astype(np.float64) * 1e39, rank=2, memory_limit=LARGE)


class Changing:
    """A matrix one entry of which changes once all of it was read."""

    def __init__(self, A: np.ndarray) -> None:
        self.A, self.shape, self.dtype = A.copy(), A.shape, A.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        block = self.A[rows].copy()
        if rows.stop >= len(self.A):
            self.A[17, 1] = np.nextafter(self.A[17, 1], np.float32(np.inf))
        return block


def test_any_entry_of_a_block_shows_in_its_fingerprint(A: np.ndarray) -> None:
    B = A[:381, :23].copy()  # two whole sums, words beside them, and half a word
    known = {fingerprint(B), fingerprint(B[::-1].copy()), fingerprint(B[:, ::-1].copy())}
    for i in range(0, B.size, 97):
        C = B.copy()
        C.reshape(-1)[i] = np.nextafter(C.reshape(-1)[i], np.float32(np.inf))
        known.add(fingerprint(C))
    B[-1, -1] *= 2
    assert len({*known, fingerprint(B)}) == 4 + len(range(0, B.size, 97))


def test_a_source_that_changes_between_the_passes_is_refused(A: np.ndarray) -> None:
    with pytest.raises(InputError, match="rows 0 to .* changed"):
        lplr.factorize(Changing(A), rank=2, rng=0, memory_limit=LARGE)


@pytest.mark.parametrize("limit", ["", "2 XB", "-1MB", 0, -5, 1.5, True, "0B", "9" * 400])
def test_what_is_no_limit_is_refused(A: np.ndarray, limit: Any) -> None:
    with pytest.raises(InputError, match="memory_limit"):
        lplr.factorize(A, rank=2, memory_limit=limit)


def test_the_limit_is_refused_before_any_row_is_read(A: np.ndarray) -> None:
    class Unread(Changing):
        def __getitem__(self, rows: slice) -> np.ndarray:
            raise AssertionError

    with pytest.raises(InputError, match="use at least"):
        lplr.factorize(Unread(A), rank=2, memory_limit="1MB")


# --- memory -------------------------------------------------------------------------------------


def growth(path: str, limit: str) -> tuple[float, int]:
    """In a fresh process: bytes that the peak grows by, and those of the result."""
    from lplr.evaluation.resources import measured

    small = np.random.default_rng(0).standard_normal((100, 128))
    lplr.factorize(small, rank=8, bits=4, rng=0, memory_limit=LARGE)  # what is loaded on first use
    f, cost = measured(lambda: lplr.factorize(path, rank=8, bits=4, rng=0, memory_limit=limit))
    assert cost.extra_nbytes is not None
    return cost.extra_nbytes, f.nbytes


def test_the_peak_grows_by_less_than_the_limit(tmp_path: Path) -> None:
    from lplr.evaluation.resources import run_fresh

    n, d = 120_000, 128
    path = tmp_path / "A.npy"
    M = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    rng = np.random.default_rng(0)
    for start in range(0, n, 10_000):
        M[start : start + 10_000] = rng.standard_normal((10_000, d), np.float32)
    M.flush()
    least = least_limit(lambda limit: lplr.factorize(path, rank=8, bits=4, memory_limit=limit))
    folders = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": folders, "LPLR_NUM_THREADS": "2"}
    used, nbytes = run_fresh("test_streaming_faults", "growth", str(path), least, **environment)
    assert float(least.removesuffix("MB")) < 40  # of the 61 MB of the matrix
    print(f"grew by {used:,.0f} of {least}")
    assert nbytes < used < 1e6 * float(least.removesuffix("MB"))
