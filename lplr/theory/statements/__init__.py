"""The statements of both papers as simulations: a registry by name."""

from lplr.theory.montecarlo import Statement
from lplr.theory.statements.sketches import RANGE_FINDER

__all__ = ["STATEMENTS"]

STATEMENTS: dict[str, Statement] = {s.name: s for s in (RANGE_FINDER,)}
