"""The loop: batches, steps, what sequences that are held out say, and when to stop.

All that the next step depends on is in one file of the job, written as a whole every minute, so
that an interrupted training goes on as if nothing had happened: batches follow from the seed and
the number of the step.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError
from lplr.inputs import safetensors as stored
from lplr.models.adaptation.gradient import Target, loss_and_gradient, mean_loss
from lplr.models.adaptation.optimizer import AdamW, rate_at
from lplr.models.adaptation.settings import Settings
from lplr.models.adaptation.student import Student
from lplr.progress import until
from lplr.storage.atomic import write_atomic
from lplr.storage.safetensors import safetensors
from lplr.storage.sealed import sealed, unsealed

__all__ = ["DONE", "SAME", "Training", "batch_rows", "train"]

# Why a training is over.
DONE = "all steps were taken"
SAME = "the model predicts what the original does, so that there is nothing to train"
ROSE = (
    "stopped after step {step}: on held-out sequences nothing was better than after step {best}, "
    "whose parameters are kept; more tokens would help, or fewer steps"
)
DIVERGED = (
    "stopped after step {step}: the loss went far above where it was at the start, so that the "
    "best parameters before are kept; use a smaller rate than {rate:g}"
)

_MEASURED = 15  # times that held-out sequences are looked at
_PATIENCE = 4  # times in a row at which they may be no better
_FAR = 5.0  # times the loss before any parameter: what no good step leads to
_SECONDS = 60.0  # between two saved states, at least
_DECAY = 0.01  # of L and R, times the learning rate
_SAID = "training"  # the metadata of the file: a sealed object, which has the digest of the arrays


@dataclass
class Training:
    """Where a training is.

    Parameters
    ----------
    optimizer : AdamW
        Its ``theta`` is the vector that the student follows.
    best : ndarray
        The parameters with the least loss on what is held out.
    before : float
        That loss without any parameter.
    history : list of (int, float)
        Steps taken, and that loss; it begins with what step 0 starts from.
    ranks : dict of str to int
        Columns of L of the layers that have one, which say where each parameter lies.
    stopped : str
        Why it is over; empty while it is not.
    coded : float, optional
        That loss of the model as it is stored in the end, once it is known.
    """

    optimizer: AdamW
    best: np.ndarray
    before: float
    history: list[tuple[int, float]]
    ranks: dict[str, int]
    stopped: str = ""
    coded: float | None = None

    def save(self, path: Path) -> None:
        """Write it as one .safetensors file."""
        arrays = {
            "theta": self.optimizer.theta,
            "mean": self.optimizer.mean,
            "square": self.optimizer.square,
            "best": self.best,
        }
        said = {
            "step": self.optimizer.step,
            "before": self.before,
            "history": self.history,
            "ranks": self.ranks,
            "stopped": self.stopped,
            "coded": self.coded,
            "arrays": _digest(arrays),
        }
        kinds = {name: ("F32", array.shape) for name, array in arrays.items()}
        metadata = {_SAID: json.dumps(sealed(said))}
        write_atomic(path, safetensors(kinds, arrays.__getitem__, metadata), overwrite=True)

    @classmethod
    def load(cls, path: Path) -> Training | None:
        """What was saved; None if there is nothing whole."""
        try:
            said = unsealed(stored.metadata(path).get(_SAID, "").encode())
            arrays = {n: np.array(stored.read(str(path), n).array) for n in stored.tensors(path)}
            if said is None or said["arrays"] != _digest(arrays):
                return None
            return cls(
                AdamW(arrays["theta"], arrays["mean"], arrays["square"], said["step"]),
                arrays["best"],
                said["before"],
                [(step, loss) for step, loss in said["history"]],
                said["ranks"],
                said["stopped"],
                said["coded"],
            )
        except (CorruptFileError, ValueError, KeyError, TypeError):  # there is none, or it lies
            return None


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """Of the names and bits of vectors, in the order of their names."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def batch_rows(step: int, batch: int, n: int, seed: int) -> np.ndarray:
    """Which of n sequences step 0, 1, ... takes: all of them once in random order, then anew."""
    places = np.arange(step * batch, (step + 1) * batch)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(n)
        for epoch in range(int(places[0]) // n, int(places[-1]) // n + 1)
    }
    return np.array([orders[int(place) // n][place % n] for place in places])


def train(
    state: Training,
    student: Student,
    target: Target,
    sequences: list[np.ndarray],
    held_out: tuple[list[np.ndarray], Any],
    settings: Settings,
    keep: Callable[[Training], None],
    log: Callable[..., None],
) -> None:
    """Go on until all steps are taken, or there is a reason to stop; the student is at its best.

    Parameters
    ----------
    state : Training
    student : Student
    target : Target
    sequences : list of ndarray of int of shape (tokens,)
    held_out : (list of ndarray, states)
        Other sequences, and what ``target`` knows of them.
    settings : Settings
    keep : callable
        Saves the state.
    log : callable
        ``log(step=, loss=, rate=, norm=, seconds=)`` after each step.
    """
    steps, optimizer = settings.steps, state.optimizer
    every = max(1, steps // _MEASURED)
    decay = np.zeros(student.layout.size, np.float32)
    for name, place in student.layout.places.items():
        if name.endswith((".L", ".R")):
            decay[place] = _DECAY
    saved = time.monotonic()
    words = "first step"
    while not state.stopped:
        at = optimizer.step
        if (at % every == 0 or at == steps) and state.history[-1][0] < at:
            with until(at / steps, words):
                _measure(state, mean_loss(student, target, *held_out), settings)
            keep(state)
            saved = time.monotonic()
            continue
        start = time.perf_counter()
        with until((at + 1) / steps, words):
            rows = batch_rows(at, settings.batch, len(sequences), settings.rng)
            loss, gradient = loss_and_gradient(student, target, [sequences[i] for i in rows])
        if not (loss <= _FAR * state.before and np.isfinite(gradient).all()):
            state.stopped = _diverged(state, settings)
            break
        rate = rate_at(at, steps, settings.rate)
        norm = optimizer.update(gradient, rate, decay)
        log(step=at + 1, loss=loss, rate=rate, norm=norm, seconds=time.perf_counter() - start)
        words = f"step {at + 1} of {steps}: loss {loss:.4g}, held out {state.history[-1][1]:.4g}"
        if time.monotonic() - saved > _SECONDS:
            keep(state)
            saved = time.monotonic()
    keep(state)
    student.theta[:] = state.best


def _measure(state: Training, loss: float, settings: Settings) -> None:
    """What a loss on the held-out sequences means for the training."""
    step, steps = state.optimizer.step, settings.steps
    if not loss <= _FAR * state.before:
        state.stopped = _diverged(state, settings)
        return
    state.history.append((step, loss))
    losses = [each for _, each in state.history]
    best = losses.index(min(losses))
    if best == len(losses) - 1:
        state.best[:] = state.optimizer.theta
    if len(losses) - 1 - best >= _PATIENCE:
        state.stopped = ROSE.format(step=step, best=state.history[best][0])
    elif step == steps:
        state.stopped = DONE


def _diverged(state: Training, settings: Settings) -> str:
    return DIVERGED.format(step=state.optimizer.step, rate=settings.rate)
