"""Signals that ask a command to end, where the interpreter lets no exception pass."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
import weakref

import pytest

from lplr.cli.signals import Asked, heeded

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
