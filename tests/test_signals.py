"""Signals that ask a command to end, at moments that are hard to meet by chance."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lplr.cli.main import main
from lplr.cli.signals import Asked, heeded
from lplr.selftest.children import Child
from lplr.storage.temporary import temporary_folder

_FOR_EVER = 10.0  # seconds; what is asked again comes in hundredths


class _Referred:
    pass


def _in_a_callback(number: int) -> None:
    referred = _Referred()
    kept = weakref.ref(referred, lambda _: signal.raise_signal(number))
    del referred
    assert kept() is None


def _in_a_destructor(number: int) -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(number)

    Dying()


def _swallowed(number: int) -> None:
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """No signal is ignored, as those of a terminal are under nohup."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("where", [_in_a_callback, _in_a_destructor, _swallowed])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_that_is_lost_comes_again(where, number, capfd) -> None:
    reached = False
    with pytest.raises(Asked) as asked, heeded():  # noqa: PT012
        where(number)
        reached = True  # the exception of the first one is gone
        time.sleep(_FOR_EVER)
        reached = False
    assert reached
    assert asked.value.number == number
    assert capfd.readouterr().err == ""


def _with_an_error_of_its_own(number: int) -> None:
    try:
        signal.raise_signal(number)
    except BaseException:
        raise ValueError("no such matrix") from None


def _with_the_error_of_a_library(number: int) -> None:
    _swallowed(number)
    raise ValueError("no such matrix")


@pytest.mark.parametrize("where", [_with_an_error_of_its_own, _with_the_error_of_a_library])
def test_an_error_that_takes_its_place(where, monkeypatch, capsys) -> None:
    monkeypatch.setattr("lplr.cli.doctor.run", lambda args: where(signal.SIGTERM))
    assert main(["doctor"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "lplr: interrupted by SIGTERM\n"


def test_nothing_comes_after_the_command() -> None:
    def alarm(*_: object) -> None:
        pytest.fail("asked after the end")

    hook, before = sys.unraisablehook, signal.signal(signal.SIGALRM, alarm)
    try:
        with heeded():
            _swallowed(signal.SIGTERM)
        time.sleep(0.1)
        assert signal.getsignal(signal.SIGALRM) is alarm
        assert sys.unraisablehook is hook
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_alarm_is_the_callers() -> None:
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(True))
    try:
        with heeded():
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [True]


def test_what_others_cannot_raise_is_told(monkeypatch) -> None:
    class Dying:
        def __del__(self) -> None:
            raise ValueError("told")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found.exc_value)))
    with heeded():
        Dying()
    assert told == ["told"]


# --- while something is begun or cleared up --------------------------------------------------


@contextlib.contextmanager
def asked_after(monkeypatch: pytest.MonkeyPatch, call: str) -> Iterator[None]:
    """The command is asked to end right after a function of `os` has been called once."""
    real, asked = getattr(os, call), False

    def called(*args: Any, **options: Any) -> Any:
        nonlocal asked
        result = real(*args, **options)
        if not asked and result != 0:  # of a fork, in the parent alone
            asked = True
            signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(os, call, called)
    with pytest.raises(Asked), heeded():
        yield
    assert asked


@pytest.mark.parametrize("call", ["mkdir", "unlink", "rmdir"])
def test_a_temporary_folder_is_removed(call, tmp_path: Path, monkeypatch) -> None:
    with asked_after(monkeypatch, call), temporary_folder(tmp_path) as folder:
        for name in "abc":
            (folder / name).mkdir()
            (folder / name / "x").write_bytes(b"x")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_ends_with_a_campaign_that_is_interrupted(monkeypatch) -> None:
    read, write = os.pipe()
    begun = time.monotonic()
    with asked_after(monkeypatch, "fork"), Child(lambda: time.sleep(60)):
        pytest.fail("goes on")
    os.close(write)
    assert os.read(read, 1) == b""  # nobody else has the other end
    os.close(read)
    assert time.monotonic() - begun < 60


_BEGINS = """
import runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "lplr.cli.doctor":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["lplr", "--version"]
runpy.run_module("lplr", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_an_interrupt_while_it_imports_prints_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _BEGINS], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
