"""Progress: what computations report, and what is drawn of it."""

from __future__ import annotations

import io
import sys
import threading
import types
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import InputError
from lplr.progress import counter, parts, tracked, until
from lplr.progress.display import in_seconds

A = lplr.datasets.synthetic(120, 80, "power", exponent=1.0, rng=0)
# Each public function that reports: a call with this matrix.
CALLS: dict[str, Callable[..., Any]] = {
    "compress": lambda **k: lplr.compress(A, bits_per_entry=1, rng=0, **k),
    "predictions": lambda **k: lplr.predictions(A, bits_per_entry=1, rng=0, **k),
    "factorize": lambda **k: lplr.factorize(A, bits_per_entry=1, rng=0, **k),
    "factorize lplr": lambda **k: lplr.factorize(A, rank=5, method="lplr", rng=0, **k),
    "caldera": lambda **k: lplr.caldera(A, rank=5, rng=0, **k),
    "caldera faithful": lambda **k: lplr.caldera(A, rank=5, mode="faithful", rng=0, **k),
    "quantize": lambda **k: lplr.quantize(A, bits=2, **k),
}


class Told(list[tuple[float, str]]):
    """A listener that keeps what it hears."""

    def __call__(self, share: float, what: str) -> None:
        self.append((share, what))

    @property
    def shares(self) -> list[float]:
        return [share for share, _ in self]


class StopError(Exception):
    pass


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_shares_rise_from_zero_to_one(call: Callable[..., Any]) -> None:
    told = Told()
    call(progress=told)
    assert told.shares[0] == 0.0
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1.0 > told.shares[-2]
    assert all(what.isascii() and what for _, what in told)


@pytest.mark.parametrize("name", ["compress", "factorize", "caldera"])
def test_shares_come_in_small_steps(name: str) -> None:
    """At this size a step is one block of a factor."""
    told = Told()
    CALLS[name](progress=told)
    assert len(told) > 20
    assert max(b - a for a, b in pairwise(told.shares)) < 0.4


@pytest.mark.parametrize("name", [name for name in CALLS if name != "predictions"])
def test_progress_changes_nothing(name: str) -> None:
    silent, told = CALLS[name](), CALLS[name](progress=Told())
    assert silent.meta == told.meta
    assert "progress" not in told.meta["call"]["arguments"]
    assert silent.to_dense().tobytes() == told.to_dense().tobytes()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_exception_of_the_listener_stops_the_work(call: Callable[..., Any]) -> None:
    before, seen = A.copy(), Told()

    def stop(share: float, what: str) -> None:
        seen(share, what)
        if len(seen) == 2:
            raise StopError

    with pytest.raises(StopError):
        call(progress=stop)
    assert len(seen) == 2
    np.testing.assert_array_equal(A, before)
    told = Told()
    call(progress=told)  # as if nothing had happened
    assert told.shares[0] == 0.0
    assert told.shares[-1] == 1.0


@pytest.mark.parametrize("progress", [None, 1, "yes"])
def test_what_is_no_progress(progress: Any) -> None:
    with pytest.raises(InputError, match=r"progress: must be True, False or a callable"):
        lplr.quantize(A, bits=2, progress=progress)


def test_silence_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    lplr.compress(A, bits_per_entry=1, rng=0)
    assert capfd.readouterr() == ("", "")
    with tracked(False):
        assert threading.active_count() == threads


def test_a_computation_inside_another_is_a_part_of_it() -> None:
    told = Told()
    with tracked(told, "both"):
        for bits in parts((1, 2), weights=(1, 3)):
            lplr.compress(A, bits_per_entry=bits, rng=0, progress=bits == 2)
    assert told.shares == sorted(told.shares)
    assert told.shares.count(1.0) == 1
    assert 0.25 in told.shares


def test_a_listener_may_compute() -> None:
    inner: list[Told] = []

    def listen(share: float, what: str) -> None:
        inner.append(Told())
        lplr.quantize(A, bits=2, progress=inner[-1])
        lplr.quantize(A, bits=2)

    with tracked(listen, "outer"), until(0.5):
        pass
    assert [told.shares[-1] for told in inner] == [1.0] * 3


def test_work_is_counted_from_any_thread_and_told_by_one() -> None:
    told, tellers = Told(), set()

    def listen(share: float, what: str) -> None:
        told(share, what)
        tellers.add(threading.get_ident())

    with tracked(listen, "work"), until(0.5):
        count = counter(3.0)
        for _ in range(2):
            thread = threading.Thread(target=count, args=(1.0,))
            thread.start()
            thread.join()
        assert told.shares == [0.0]
        count(0.5)
    assert told.shares == pytest.approx([0.0, 2.5 / 6, 0.5, 1.0], abs=1e-6)
    assert tellers == {threading.get_ident()}


def test_shares_are_plain_floats() -> None:
    told = Told()
    with tracked(told, "work"):
        counter(3.0)(np.float64(1.0))
    assert {type(share) for share in told.shares} == {float}


def test_a_loop_that_is_left_early_gives_its_place_back() -> None:
    told = Told()
    with tracked(told, "loop"):
        with until(0.5):
            for i in parts(range(10)):
                if i == 3:
                    break
        with until(0.75):
            pass
    assert told.shares == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.5, 0.75, 1.0], abs=1e-6)


# --- what is drawn -------------------------------------------------------------------------------


@pytest.fixture
def without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


@pytest.mark.usefixtures("without_tqdm")
def test_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    lplr.compress(A, bits_per_entry=1, rng=0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()
    assert all(line.startswith("lplr: ") and "%" in line for line in err.splitlines())
    assert threading.active_count() == threads


@pytest.mark.usefixtures("without_tqdm")
def test_a_loop_that_outlives_its_error_keeps_no_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    loops = [parts(range(3))]  # as a traceback keeps them

    def work() -> None:
        with tracked(Told(), "first"):
            next(loops[0])
            raise ValueError("in the loop")

    with pytest.raises(ValueError, match="in the loop"):
        work()
    loops.clear()
    with tracked(True, "second"):
        pass
    assert "second" in capsys.readouterr().err


@pytest.mark.usefixtures("without_tqdm")
@pytest.mark.parametrize("kind", ["missing", "closed", "full"])
def test_standard_error_that_takes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    stream = None if kind == "missing" else Full()
    if kind == "closed":
        assert stream is not None
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert lplr.quantize(A, bits=2, progress=True).shape == A.shape


def test_a_bar_of_tqdm_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            self.options, self.n, self.words, self.closed = options, 0.0, [], False
            bars.append(self)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: Any) -> None:
            self.closed = True

        def set_description_str(self, text: str, refresh: bool) -> None:
            self.words.append(text)

        def update(self, step: float) -> None:
            self.n += step

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    lplr.compress(A, bits_per_entry=1, rng=0, progress=True)
    (bar,) = bars
    assert bar.closed
    assert bar.n == pytest.approx(bar.options["total"]) == 1.0
    assert "singular values" in bar.words


def test_durations_are_told_as_people_read_them() -> None:
    said = [in_seconds(s) for s in (0.423, 12.4, 185, 3599, 7505, 400_000)]
    assert said == ["0.42 s", "12 s", "3:05", "59:59", "2 h 05 min", "111 h 06 min"]
