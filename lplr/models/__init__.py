"""Whole models: checkpoints, networks in NumPy, their compression, adaptation and evaluation.

Names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Public name -> module that defines it.
_PUBLIC = {
    "Network": "lplr.models.network",
    "OutputMoments": "lplr.models.moments_file",
    "adapt": "lplr.models.adaptation.adapt_model",
    "allocate": "lplr.models.allocation",
    "answer": "lplr.models.evaluation.choices",
    "compare": "lplr.models.evaluation.scores",
    "compare_encoders": "lplr.models.evaluation.encoders",
    "compress": "lplr.models.compress_model",
    "embed_texts": "lplr.models.evaluation.encoders",
    "export": "lplr.models.exporting",
    "generate": "lplr.models.generation",
    "load": "lplr.models.opening",
    "open_checkpoint": "lplr.models.checkpoint",
    "open_moments": "lplr.models.moments_file",
    "open_network": "lplr.models.opening",
    "open_tokenizer": "lplr.models.tokenizer",
    "output_moments": "lplr.models.moments",
    "padded_texts": "lplr.models.texts",
    "plan": "lplr.models.compress_model",
    "read_labelled": "lplr.models.evaluation.encoders",
    "read_questions": "lplr.models.evaluation.choices",
    "score": "lplr.models.evaluation.scores",
    "score_encoder": "lplr.models.evaluation.encoders",
    "sensitivity": "lplr.models.evaluation.sensitivity",
    "token_windows": "lplr.models.texts",
}

__all__ = [
    "Network",
    "OutputMoments",
    "adapt",
    "allocate",
    "answer",
    "compare",
    "compare_encoders",
    "compress",
    "embed_texts",
    "export",
    "generate",
    "load",
    "open_checkpoint",
    "open_moments",
    "open_network",
    "open_tokenizer",
    "output_moments",
    "padded_texts",
    "plan",
    "read_labelled",
    "read_questions",
    "score",
    "score_encoder",
    "sensitivity",
    "token_windows",
]

if TYPE_CHECKING:
    from lplr.models.adaptation.adapt_model import adapt
    from lplr.models.allocation import allocate
    from lplr.models.checkpoint import open_checkpoint
    from lplr.models.compress_model import compress, plan
    from lplr.models.evaluation.choices import answer, read_questions
    from lplr.models.evaluation.encoders import (
        compare_encoders,
        embed_texts,
        read_labelled,
        score_encoder,
    )
    from lplr.models.evaluation.scores import compare, score
    from lplr.models.evaluation.sensitivity import sensitivity
    from lplr.models.exporting import export
    from lplr.models.generation import generate
    from lplr.models.moments import output_moments
    from lplr.models.moments_file import OutputMoments, open_moments
    from lplr.models.network import Network
    from lplr.models.opening import load, open_network
    from lplr.models.texts import padded_texts, token_windows
    from lplr.models.tokenizer import open_tokenizer


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lplr.models' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
