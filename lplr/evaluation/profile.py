"""Where the time of one compression goes: by steps, on one thread and on all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from inspect import signature
from typing import Any

import numpy as np

from lplr.evaluation.machine import machine, package_versions
from lplr.evaluation.peaks import measured_peaks
from lplr.evaluation.profile_steps import STEPS, coded_works, function_of, step_finder
from lplr.evaluation.resources import threads
from lplr.evaluation.stopwatch import REST, Stopwatch
from lplr.exceptions import InputError
from lplr.parallel import n_threads
from lplr.progress import Progress, parts, tracked, unheard, until

__all__ = ["MANY", "METHODS", "ProfileSettings", "measure_profile"]

METHODS = ("compress", "caldera", "factorize", "quantize")
MANY = 16  # threads for which the time is foretold
_COUNTED = 0.9  # of the time of a step whose work is known, at least
_SMALL = 256  # side of the matrix that loads what the clock should not see


@dataclass(frozen=True)
class ProfileSettings:
    """What is compressed, and how; None is the default of the method."""

    method: str = "compress"
    rows: int = 2048
    columns: int = 2048
    bits: float = 2.0
    rank: int | None = None
    effort: str | None = None
    quantizer: str | None = None
    hessian: bool = True
    seed: int = 0

    @property
    def has_weights(self) -> bool:
        """Whether there is a Hessian."""
        return self.hessian and self.method in ("compress", "caldera")

    def run(self, rows: int, columns: int) -> Callable[[], Any]:
        """The call, on a matrix of some size; InputError if the method has no such option."""
        import lplr

        A, H = _problem(rows, columns, self.seed)
        method = getattr(lplr, self.method)
        optional = {
            "effort": self.effort,
            "quantizer": self.quantizer,
            "rank": self.rank and min(self.rank, rows, columns),
            "hessian": H if self.has_weights else None,
        }
        given = {name: value for name, value in optional.items() if value is not None}
        for name in given.keys() - signature(method).parameters.keys():
            raise InputError(f"{name}: lplr.{self.method} takes none; leave it out")
        bits = {"compress": "bits_per_entry", "caldera": "q_bits", "quantize": "bits"}.get(
            self.method, "bits_per_entry" if self.rank is None else "bits"
        )
        return lambda: method(A, rng=self.seed, **{bits: self.bits}, **given)


def measure_profile(
    settings: ProfileSettings, *, functions: bool = False, progress: Progress = False
) -> dict[str, Any]:
    """Compress a matrix on one thread and on all, and say where the time went.

    Parameters
    ----------
    settings : ProfileSettings
    functions : bool
        Whether each function of the package is a step, those with most serial time first.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`.

    Returns
    -------
    dict
        ``rows``: of each step its calls; ``seconds`` on one thread, those of them that are
        ``serial``, being outside of blocks that threads share, and how many would be left
        ``at_best`` on `MANY` threads, if all blocks took the same time; ``shared_seconds`` on
        all threads; ``work`` by kind, and ``of_peak`` and ``shared_of_peak``, the share of the
        time in which this machine could have done it. ``total``: the same of all steps.
        ``peaks``, by number of threads; ``settings``, ``machine``, ``versions``.
    """
    counts = list(dict.fromkeys((1, n_threads())))
    watches: dict[int, Stopwatch] = {}
    peaks: dict[int, dict[str, float]] = {}
    with tracked(progress, "profile"):
        with until(0.2, "peaks of this machine"):
            for count in parts(counts):
                with unheard(), threads(count):
                    settings.run(_SMALL, _SMALL)()  # kernels, threads
                    peaks[count] = measured_peaks(count)
        run = settings.run(settings.rows, settings.columns)
        for count in parts(counts, None, lambda count: f"on {count} thread{'s' * (count > 1)}"):
            table = (function_of, {}) if functions else (step_finder(), coded_works())
            with unheard(), threads(count), Stopwatch(*table) as watch:
                run()
            watches[count] = watch
    one, many = watches[1], watches[counts[-1]]
    steps = dict.fromkeys(step for step, _ in one.seconds)
    rows = [
        _row(step, one, many, peaks[1], peaks[counts[-1]])
        for step in (steps if functions else (*STEPS, REST))
        if step in steps
    ]
    if functions:
        rows.sort(key=lambda row: -row["serial"])
    summed = ("seconds", "serial", "at_best", "shared_seconds")
    return {
        "rows": rows,
        "total": {name: sum(row[name] for row in rows) for name in summed},
        "peaks": {str(count): found for count, found in peaks.items()},
        "settings": asdict(replace(settings, hessian=settings.has_weights)),
        "machine": machine(),
        "versions": package_versions(),
    }


def _row(
    step: str,
    one: Stopwatch,
    many: Stopwatch,
    peak: dict[str, float],
    shared_peak: dict[str, float],
) -> dict[str, Any]:
    spent = {blocks: t for (name, blocks), t in one.seconds.items() if name == step}
    seconds = sum(spent.values())
    shared = sum(t for (name, _), t in many.seconds.items() if name == step)
    work = {kind: amount for (name, kind), amount in one.work.items() if name == step}
    if one.counted[step] < _COUNTED * seconds:
        work = {}

    def of_peak(peak: dict[str, float], seconds: float) -> float | None:
        if not work.keys() or not work.keys() <= peak.keys():
            return None
        return sum(amount / peak[kind] for kind, amount in work.items()) / seconds

    return {
        "step": step,
        "calls": one.calls[step],
        "seconds": seconds,
        "serial": spent.get(1, 0.0),
        "at_best": sum(t * -(-blocks // MANY) / blocks for blocks, t in spent.items()),
        "shared_seconds": shared,
        "work": work,
        "of_peak": of_peak(peak, seconds),
        "shared_of_peak": of_peak(shared_peak, shared),
    }


def _problem(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian matrix, and the second moment of inputs of decaying variance."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((rows, columns), dtype=np.float32)
    X = rng.standard_normal((2 * columns, columns), dtype=np.float32)
    X /= np.sqrt(1 + np.arange(columns, dtype=np.float32))
    X += np.float32(0.3) * np.roll(X, 1, axis=1)
    return A, X.T @ X / len(X)
