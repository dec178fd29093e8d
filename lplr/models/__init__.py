"""Whole models: checkpoints, networks in NumPy, and their compression.

Names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Public name -> module that defines it.
_PUBLIC = {
    "answer": "lplr.models.evaluation.choices",
    "compare": "lplr.models.evaluation.scores",
    "compress": "lplr.models.compress_model",
    "export": "lplr.models.exporting",
    "generate": "lplr.models.generation",
    "load": "lplr.models.opening",
    "open_checkpoint": "lplr.models.checkpoint",
    "open_network": "lplr.models.opening",
    "open_tokenizer": "lplr.models.tokenizer",
    "plan": "lplr.models.compress_model",
    "read_questions": "lplr.models.evaluation.choices",
    "score": "lplr.models.evaluation.scores",
    "token_windows": "lplr.models.texts",
}

__all__ = [
    "answer",
    "compare",
    "compress",
    "export",
    "generate",
    "load",
    "open_checkpoint",
    "open_network",
    "open_tokenizer",
    "plan",
    "read_questions",
    "score",
    "token_windows",
]

if TYPE_CHECKING:
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.compress_model import compress, plan
    from lplr.models.evaluation.choices import answer, read_questions
    from lplr.models.evaluation.scores import compare, score
    from lplr.models.exporting import export
    from lplr.models.generation import generate
    from lplr.models.opening import load, open_network
    from lplr.models.texts import token_windows
    from lplr.models.tokenizer import open_tokenizer


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lplr.models' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
