"""How long the rest of a long computation will take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

__all__ = ["Estimate"]


class Estimate:
    """Estimates the remaining time of work that is done piece by piece.

    Parameters
    ----------
    work : float or mapping of str to float
        All of the work, in any unit; or the work of each kind.
    clock : callable
        Returns the time in seconds.

    Notes
    -----
    Each kind of work is expected to go on at its own speed so far; a kind that has not begun, at
    the speed of all work so far. Between two calls of `add` the remaining time counts down.

    Examples
    --------
    Two seconds for each "slow" piece and one for each "fast" one:

    >>> from lplr.progress.estimate import Estimate
    >>> times = iter([0, 2, 3, 3, 3, 3, 5])
    >>> estimate = Estimate({"slow": 3, "fast": 2}, clock=lambda: next(times))
    >>> estimate.add(1, "slow")
    >>> estimate.add(1, "fast")
    >>> estimate.remaining, estimate.share
    (5.0, 0.375)
    >>> estimate.remaining
    3.0
    """

    def __init__(
        self, work: float | Mapping[str, float], clock: Callable[[], float] = perf_counter
    ) -> None:
        self._work = dict(work) if isinstance(work, Mapping) else {"": float(work)}
        self._done = dict.fromkeys(self._work, 0.0)
        self._seconds = dict.fromkeys(self._work, 0.0)
        self._clock = clock
        self._start = self._last = clock()

    def add(self, work: float, kind: str = "") -> None:
        """Count work as done; the time since the last call was spent on it.

        Parameters
        ----------
        work : float
        kind : str
            One of the kinds that the estimate was made with.
        """
        now = self._clock()
        self._done[kind] += work
        self._seconds[kind] += now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """All of the work."""
        return sum(self._work.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def remaining(self) -> float | None:
        """Expected seconds until everything is done; None before anything is."""
        expected = self._expected()
        return None if expected is None else max(0.0, expected - (self._clock() - self._last))

    @property
    def share(self) -> float:
        """The part of the time that is over, from 0 to 1."""
        remaining = self.remaining
        if remaining is None:
            return 0.0
        elapsed = self.elapsed
        return elapsed / (elapsed + remaining) if elapsed else 1.0

    def _expected(self) -> float | None:
        """Expected seconds from the last call of `add` to the end."""
        done = sum(self._done.values())
        if not done:
            return None
        usual = sum(self._seconds.values()) / done
        return sum(
            (work - self._done[kind])
            * (self._seconds[kind] / self._done[kind] if self._done[kind] else usual)
            for kind, work in self._work.items()
        )
