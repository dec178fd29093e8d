"""The statements of both papers as simulations: a registry by name."""

from lplr.theory.records import Statement
from lplr.theory.statements.baselines import BASELINE_STATEMENTS
from lplr.theory.statements.caldera import CALDERA_STATEMENTS
from lplr.theory.statements.ldlq import LDLQ_STATEMENTS
from lplr.theory.statements.lplr import LPLR_STATEMENTS
from lplr.theory.statements.quantizers import QUANTIZER_STATEMENTS
from lplr.theory.statements.sketches import SKETCH_STATEMENTS

__all__ = ["STATEMENTS"]

STATEMENTS: dict[str, Statement] = {
    s.name: s
    for s in (
        *LPLR_STATEMENTS,
        *BASELINE_STATEMENTS,
        *QUANTIZER_STATEMENTS,
        *SKETCH_STATEMENTS,
        *LDLQ_STATEMENTS,
        *CALDERA_STATEMENTS,
    )
}
