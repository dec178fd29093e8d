"""The options that say which tokens a network sees."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lplr.exceptions import InputError

if TYPE_CHECKING:
    import numpy as np

    from lplr.models.checkpoint import Checkpoint
    from lplr.models.packed import PackedModel

__all__ = ["add_tokens", "tokens_of"]


def add_tokens(parser: Any, purpose: str = "calibration") -> Any:
    """The options ``--tokens``, ``--texts`` and ``--length``; the group that they are in."""
    group = parser.add_argument_group(purpose, "One of the first two.")
    group.add_argument(
        "--tokens",
        metavar="FILE.npy",
        help="token ids (sequences, tokens), -1 after the end of shorter ones, or one long row, "
        "which is cut; FILE.npz:MEMBER too",
    )
    group.add_argument(
        "--texts",
        nargs="+",
        metavar="FILE",
        help="texts in UTF-8, read by the tokenizer of the model (pip install 'lplr[models]'); of "
        "an encoder one text in each line, or .jsonl, as lplr model evaluate takes them",
    )
    group.add_argument(
        "--length",
        type=int,
        metavar="T",
        help="tokens of a sequence, where something is cut (default: 512; of an encoder's texts, "
        "what the model takes)",
    )
    return group


def tokens_of(args: argparse.Namespace, checkpoint: Checkpoint | PackedModel) -> np.ndarray | None:
    """Token ids (sequences, tokens); None if no option names some."""
    from lplr.models.evaluation.encoders import read_labelled
    from lplr.models.families import family_of
    from lplr.models.texts import padded_texts, text_windows, token_windows
    from lplr.models.tokenizer import open_tokenizer

    if args.tokens is not None and args.texts is not None:
        raise InputError("--tokens: does not go with --texts; give one of them")
    family = family_of(checkpoint.config)
    given: dict[str, Any] = {"vocabulary": family.vocabulary}
    if args.length is not None:
        given["length"] = args.length
    if args.tokens is not None:
        return token_windows(args.tokens, **given)
    if args.texts is None:
        return None
    tokenizer: Any = open_tokenizer(checkpoint)
    if family.causal:
        return text_windows(args.texts, tokenizer, **given)
    texts = [text for file in args.texts for text in read_labelled(file)[0]]
    return padded_texts(texts, tokenizer, **{"length": family.longest_text, **given})[0]
