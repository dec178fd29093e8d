"""Token ids of texts, cut by the model's own rule or by another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lplr.exceptions import InputError
from lplr.models.base import Checkpoint
from lplr.models.debian_tokens import debian_tokens
from lplr.models.gguf_tokenizer import SPLITTERS

VOCABULARY = {"Ġ": 0, "a": 1, "1": 2, "ĠĠ": 3}
MODEL = {"type": "BPE", "vocab": VOCABULARY, "merges": [["Ġ", "Ġ"]]}
DESCRIPTION = {"version": "1.0", "model": MODEL, "pre_tokenizer": SPLITTERS["smollm"]}


def test_windows_of_tokens() -> None:
    pytest.importorskip("tokenizers")
    files = {"tokenizer.json": json.dumps(DESCRIPTION).encode()}
    checkpoint = Checkpoint(Path("model"), {}, {}, [], lambda: files)
    texts = {"calibration": "a  1a  1", "test_same": "a a a"}
    windows = {"calibration": 1, "test_same": 9}
    own = debian_tokens(checkpoint, texts, windows=windows, length=2)
    assert own["calibration"].tolist() == [[1, 3]]  # both spaces are one token before a digit
    assert own["test_same"].tolist() == [[1, 0], [1, 0]]
    assert own["test_same"].dtype == np.uint16
    other = debian_tokens(checkpoint, texts, splitter="gpt-2", windows=windows, length=2)
    assert other["calibration"].tolist() == [[1, 0]]
    with pytest.raises(InputError, match="splitter"):
        debian_tokens(checkpoint, texts, splitter="gpt2")
