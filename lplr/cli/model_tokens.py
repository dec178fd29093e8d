"""The options that say which tokens a network sees for calibration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lplr.exceptions import InputError

if TYPE_CHECKING:
    import numpy as np

    from lplr.models.checkpoint import Checkpoint

__all__ = ["add_tokens", "tokens_of"]


def add_tokens(parser: Any) -> Any:
    """The options ``--tokens``, ``--texts`` and ``--length``; the group that they are in."""
    group = parser.add_argument_group("calibration", "One of the first two.")
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
        help="texts in UTF-8, read by the tokenizer of the model (pip install 'lplr[models]')",
    )
    group.add_argument(
        "--length",
        type=int,
        default=512,
        metavar="T",
        help="tokens of a sequence, where something is cut (default: 512)",
    )
    return group


def tokens_of(args: argparse.Namespace, checkpoint: Checkpoint) -> np.ndarray | None:
    """Token ids (sequences, tokens); None if no option names some."""
    from lplr.models.families import family_of
    from lplr.models.texts import text_windows, token_windows
    from lplr.models.tokenizer import open_tokenizer

    if args.tokens is not None and args.texts is not None:
        raise InputError("--tokens: does not go with --texts; give one of them")
    vocabulary = family_of(checkpoint.config).vocabulary
    if args.tokens is not None:
        return token_windows(args.tokens, length=args.length, vocabulary=vocabulary)
    if args.texts is not None:
        tokenizer: Any = open_tokenizer(checkpoint)
        return text_windows(args.texts, tokenizer, length=args.length, vocabulary=vocabulary)
    return None
