"""The time of a call by steps: every moment belongs to one step, and to so many blocks of work."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from threading import Condition
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

from lplr.parallel import run_blocks

__all__ = ["REST", "Stopwatch", "Work"]

REST = "the rest"
# What a function does, by kind, from its local variables when it is called.
Work = Callable[[Mapping[str, Any]], tuple[str, float]]

_WAITING = "waiting"
_RUN_BLOCKS = run_blocks.__code__
_WAIT = Condition.wait_for.__code__  # by which `run_blocks` waits for its other threads


class Stopwatch:
    """A context manager that tells what the calling thread does meanwhile.

    The time from the call of a function of a step to its return is that of the step, but for what
    functions of other steps take that it calls. So no moment is counted twice, and all steps and
    `REST` add up to the time that passes.

    Only `lplr.parallel.run_blocks` starts threads, and the calling thread works there like the
    others. When it has no more to do it waits for them: this is time of the steps that it did in
    these blocks, in proportion.

    Parameters
    ----------
    step_of : callable
        The step of a function, from its code; None for one that belongs to the step that calls it.
    works : mapping
        `Work` by the code of functions. What one that is counted calls in its step is not counted.

    Attributes
    ----------
    seconds : dict
        By step and number of blocks; what is done outside of many blocks has the number 1.
    work : dict
        By step and kind.
    counted : dict
        By step: seconds of the functions whose work was counted.
    calls : Counter
        By step: from other steps.
    """

    def __init__(
        self, step_of: Callable[[CodeType], str | None], works: Mapping[CodeType, Work]
    ) -> None:
        self.seconds: dict[tuple[str, int], float] = defaultdict(float)
        self.work: dict[tuple[str, str], float] = defaultdict(float)
        self.counted: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._step_of, self._works = step_of, works
        self._steps: dict[CodeType, str | None] = {_WAIT: _WAITING}
        # Of each call: the step, whether its work is counted, and the frame.
        self._stack: list[tuple[str, bool, FrameType | None]] = [(REST, False, None)]
        self._runs: list[int] = []  # blocks of the calls of `run_blocks` that have not returned
        # Seconds since the first of them with many was called.
        self._inside: dict[str, float] = defaultdict(float)
        self._since = 0.0

    def __enter__(self) -> Stopwatch:
        self._before = sys.getprofile()
        self._since = perf_counter()
        sys.setprofile(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        self._charge()

    def _watch(self, frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "return"):  # of a function in C
            return
        code = frame.f_code
        if code is _RUN_BLOCKS:
            self._charge()
            if event == "call":
                given = frame.f_locals
                self._runs.append(-(-given["n"] // given["block"]))
            else:
                self._leave_blocks()
            return
        if code not in self._steps:
            self._steps[code] = self._step_of(code)
        step, work = self._steps[code], self._works.get(code)
        if step is None and work is None:
            return
        self._charge()
        around, counted, entered = self._stack[-1]
        if event == "return":
            if entered is frame:  # else a generator that is closed or thrown into, without a call
                self._stack.pop()
            return
        step = step or around
        if step != around:
            self.calls[step] += 1
            counted = False
        if work is not None and not counted:
            kind, amount = work(frame.f_locals)
            self.work[step, kind] += amount
        self._stack.append((step, counted or work is not None, frame))

    def _charge(self) -> None:
        """The time since the last change, to the step that was going on."""
        now = perf_counter()
        step, counted, _ = self._stack[-1]
        if self._is_shared:
            self._inside[step] += now - self._since
        else:
            self.seconds[step, 1] += now - self._since
        self.counted[step] += counted * (now - self._since)
        self._since = now

    @property
    def _is_shared(self) -> bool:
        return any(blocks > 1 for blocks in self._runs)

    def _leave_blocks(self) -> None:
        blocks = self._runs.pop()
        if blocks <= 1 or self._is_shared:
            return
        waited = self._inside.pop(_WAITING, 0.0)
        done = sum(self._inside.values())
        for step, seconds in self._inside.items():
            self.seconds[step, blocks] += seconds * (1 + waited / done)
        self._inside.clear()
