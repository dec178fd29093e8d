"""The statements of both papers as simulations: a registry by name."""

from __future__ import annotations

import difflib
import re
from typing import Any

from lplr.exceptions import InputError
from lplr.theory import bounds
from lplr.theory.records import Statement
from lplr.theory.statements.baselines import BASELINE_STATEMENTS
from lplr.theory.statements.caldera import CALDERA_STATEMENTS
from lplr.theory.statements.ldlq import LDLQ_STATEMENTS
from lplr.theory.statements.lplr import LPLR_STATEMENTS
from lplr.theory.statements.quantizers import QUANTIZER_STATEMENTS
from lplr.theory.statements.sketches import SKETCH_STATEMENTS
from lplr.theory.statements.two_sided import TWO_SIDED_STATEMENTS

__all__ = ["STATEMENTS", "find_statements"]

STATEMENTS: dict[str, Statement] = {
    s.name: s
    for s in (
        *LPLR_STATEMENTS,
        *BASELINE_STATEMENTS,
        *QUANTIZER_STATEMENTS,
        *SKETCH_STATEMENTS,
        *LDLQ_STATEMENTS,
        *TWO_SIDED_STATEMENTS,
        *CALDERA_STATEMENTS,
    )
}


def find_statements(name: Any, argument: str = "statements") -> list[Statement]:
    """The statement of a name, or all statements about the function of that name.

    Parameters
    ----------
    name : str
        The name of a statement or of a function of `lplr.theory.bounds`; hyphens, underscores and
        dots are the same.
    argument : str
        What an error calls it.

    Returns
    -------
    list of Statement

    Raises
    ------
    InputError
        If there is none; the message has the nearest names.

    Examples
    --------
    >>> from lplr.theory.statements import find_statements
    >>> [s.name for s in find_statements("dithered_moments")]
    ['dithered-moments-mean', 'dithered-moments-variance']
    """
    if not isinstance(name, str):
        raise InputError(f"{argument}: {name!r} is neither a statement nor the name of one")
    key = _hyphens(name.strip().removeprefix("lplr.theory.bounds."))
    if key in STATEMENTS:
        return [STATEMENTS[key]]
    found = [s for s in STATEMENTS.values() if _hyphens(s.function) == key]
    if found and key:
        return found
    if key in map(_hyphens, bounds.__all__):
        raise InputError(
            f"{argument}: {name!r} is a function without a statement; others use its value"
        )
    near = _nearest_names(key) if key else []
    hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(STATEMENTS)}"
    raise InputError(f"{argument}: no statement and no function is called {name!r}; {hint}")


def _hyphens(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.strip().lower()).strip("-")


def _nearest_names(key: str) -> list[str]:
    """Names that have the beginnings of all words of the key; else those that are spelt alike."""
    words = key.split("-")
    having = [
        name
        for name in STATEMENTS
        if all(any(part.startswith(word) for part in name.split("-")) for word in words)
    ]
    return having[:3] or difflib.get_close_matches(key, STATEMENTS, 3)
