"""Hostile numbers: every stated error is true to 1e-6, or there is one typed error.

A property is a function of what it draws and of a folder, and returns what is wrong, or nothing.
The tests draw the same properties with Hypothesis.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from lplr.exceptions import LplrError, LplrWarning
from lplr.progress import unheard
from lplr.selftest.arguments import ARGUMENTS
from lplr.selftest.invariances import KEPT_OUT, UNCHANGED
from lplr.selftest.matrices import Draw, Property, SeededDraw
from lplr.selftest.stated_errors import STATED
from lplr.selftest.trials import Scale, Trial, described

__all__ = ["PROPERTIES", "campaign", "holds"]


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Draw every property many times."""
    for name, prop in PROPERTIES.items():
        answered = 0
        for i in range(scale.count(500, 6)):
            draw = SeededDraw(scale.rng(name, i))
            wrong, refused = holds(prop, draw, folder)
            answered += not refused
            drawn = f" (seed {scale.seed}, draw {i}: {draw.drawn})"
            yield Trial("G6 G10", name, wrong and wrong + drawn)
        if scale.long and not answered:  # of a few it may be chance
            yield Trial("G6 G10", name, "every matrix was refused, so that nothing was tried")


def holds(prop: Property, draw: Draw, folder: Path) -> tuple[str, bool]:
    """What is wrong with one draw, or nothing; and whether the matrix was refused.

    A typed error refuses it. Any other exception is wrong, and so is a warning of NumPy.
    """
    try:
        with warnings.catch_warnings(), unheard():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", LplrWarning)
            return prop(draw, folder), False
    except LplrError:
        return "", True
    except Exception as error:
        return described(error), False


PROPERTIES: dict[str, Property] = {**STATED, **UNCHANGED, **KEPT_OUT, **ARGUMENTS}
