"""Token ids of Debian's texts, for calibration and for tests of language models. ::

    apt-get install fortunes debian-reference-en
    python -m lplr.models.debian_tokens MODEL tokens.npz

writes the arrays ``calibration``, ``test_same`` and ``test_other``; options of ``lplr model`` take
them as ``tokens.npz:calibration``.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.datasets import debian_texts
from lplr.exceptions import LplrError
from lplr.models.checkpoint import open_checkpoint
from lplr.models.gguf_tokenizer import SPLITTERS
from lplr.models.texts import token_windows
from lplr.models.tokenizer import Tokenizer, open_tokenizer
from lplr.storage.atomic import write_atomic
from lplr.validation.arguments import check_choice

__all__ = ["debian_tokens"]

_WINDOWS = {"calibration": 400, "test_same": 24, "test_other": 24}


def debian_tokens(
    checkpoint: Any,
    texts: Mapping[str, str],
    *,
    splitter: str | None = None,
    windows: Mapping[str, int] = _WINDOWS,
    length: int = 512,
) -> dict[str, np.ndarray]:
    """Windows of the token ids of texts; no special token is added.

    Parameters
    ----------
    checkpoint : Checkpoint
    texts : dict of str
        Those of `lplr.datasets.debian_texts`.
    splitter : str, optional
        A key of `SPLITTERS`, instead of what the tokenizer itself has: how a text is cut before
        tokens are looked up. The published figures of SmolLM2-135M are of tokens cut as
        ``"gpt-2"`` does; its own rule cuts at digits first, so that two tabs before one become
        one token instead of two.
    windows : dict of int
        How many windows are kept of each text.
    length : int
        Tokens of a window.

    Returns
    -------
    dict of ndarray, shape (windows, length)
        uint16 where ids fit into it, otherwise int32.

    Raises
    ------
    InputError
        If the checkpoint has no tokenizer, `splitter` is none, or a text is shorter than one
        window.

    Examples
    --------
    >>> from lplr.models.base import Checkpoint
    >>> from lplr.models.debian_tokens import debian_tokens
    >>> import pathlib
    >>> debian_tokens(Checkpoint(pathlib.Path("model"), {}, {}, [], dict), {"calibration": "a b"})
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: the model has no tokenizer.json; give token ids instead of texts
    """
    tokenizer = open_tokenizer(checkpoint)
    if splitter is not None:
        check_choice(splitter, "splitter", tuple(SPLITTERS))
        description = json.loads(checkpoint.tokenizer_files()["tokenizer.json"])
        description["pre_tokenizer"] = SPLITTERS[splitter]
        tokenizer = Tokenizer(json.dumps(description).encode())
    kind = np.uint16 if tokenizer.vocabulary_size <= 2**16 else np.int32
    return {
        name: token_windows(tokenizer.encode(text, special_tokens=False), length=length)[
            : windows[name]
        ].astype(kind)
        for name, text in texts.items()
    }


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write token ids of Debian's texts.")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("output", metavar="TOKENS.npz")
    parser.add_argument("--splitter", choices=sorted(SPLITTERS), help="see `debian_tokens`")
    args = parser.parse_args()
    try:
        checkpoint = open_checkpoint(args.model)
        arrays = debian_tokens(checkpoint, debian_texts(), splitter=args.splitter)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_atomic(args.output, [buffer.getvalue()])
    except LplrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
