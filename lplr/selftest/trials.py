"""What is guaranteed, one attempt to break it, and how many attempts a campaign makes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from traceback import extract_tb

import numpy as np

__all__ = ["GUARANTEES", "Scale", "Trial", "described"]

GUARANTEES = {
    "G1": "a file at its final name is complete and verified, or the previous one",
    "G2": "every read verifies, parts and folders included",
    "G3": "a killed job loses at most the piece in progress and resumes to the same bytes",
    "G4": "loading executes no code and follows nothing",
    "G5": "memory taken while loading is at most the size of the file and 64 MB",
    "G6": "every failure is one typed error and an exit code, never a signal",
    "G7": "the same bytes at any number of threads, processes and callers' threads",
    "G8": "a second writer fails at once",
    "G9": "streaming keeps its limit of memory",
    "G10": "what is not finite or out of range never becomes a file silently",
}


@dataclass(frozen=True)
class Trial:
    """Attempts to break guarantees, all of which held or none.

    Parameters
    ----------
    guarantees : str
        Their numbers, ``"G2 G6"``.
    what : str
        The line of the table that it counts for, such as "a bit flipped in a packed file".
    failure : str
        Empty if all guarantees held; otherwise what happened, with what is needed to see it again.
    count : int
        How many attempts it stands for, each of which was made.
    """

    guarantees: str
    what: str
    failure: str = ""
    count: int = 1


@dataclass(frozen=True)
class Scale:
    """How much is tried, and from which seed.

    Parameters
    ----------
    long : bool
        The long form, which takes minutes, or the quick one, which takes seconds.
    seed : int
    """

    long: bool = False
    seed: int = 0

    def count(self, long: int, quick: int) -> int:
        """The number of attempts of the two forms that applies."""
        return long if self.long else quick

    def rng(self, *words: int | str) -> np.random.Generator:
        """A generator for what the words name: the same whatever else was drawn before.

        Examples
        --------
        >>> from lplr.selftest.trials import Scale
        >>> int(Scale(seed=3).rng("flips", 7).integers(100))
        49
        """
        numbers = [w if isinstance(w, int) else int.from_bytes(w.encode(), "little") for w in words]
        return np.random.default_rng([self.seed, *numbers])


def described(error: BaseException) -> str:
    """An error that is none of ours, and where it was raised."""
    where = "".join(
        f", at {os.path.basename(frame.filename)}:{frame.lineno}"
        for frame in extract_tb(error.__traceback__)[:-4:-1]
    )
    return f"{type(error).__name__}: {error}{where}"
