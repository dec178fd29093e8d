"""Token ids for calibration and evaluation: windows of equally many tokens, or padded texts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lplr.exceptions import InputError
from lplr.validation.arguments import check_integer
from lplr.validation.matrices import as_array

__all__ = [
    "PADDING",
    "Tokenizer",
    "check_ids",
    "fingerprint",
    "padded_texts",
    "read_text",
    "shortest_first",
    "text_windows",
    "token_windows",
]

PADDING = -1  # stands where a sequence has no token


class Tokenizer(Protocol):
    """What is asked of a tokenizer."""

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id."""

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a text."""


def token_windows(
    source: str | os.PathLike[str] | Any,
    *,
    length: int = 512,
    vocabulary: int | None = None,
    name: str = "ids",
) -> np.ndarray:
    """Windows of token ids, from an array or from a file of one.

    Parameters
    ----------
    source : str, path-like or array_like of int
        An array, or the name of a file as `lplr.inputs.read_input` takes it: ``tokens.npy``,
        ``tokens.npz:test``. One dimension is cut into windows that do not overlap, and what is
        left at the end is dropped; of two dimensions, each row is a window as it is.
    length : int
        Tokens of a window, where one dimension is cut.
    vocabulary : int, optional
        Number of tokens that the network knows.
    name : str
        What messages call an array.

    Returns
    -------
    ndarray of shape (windows, tokens), int32
        -1 after the last token of a row that is padded so.

    Raises
    ------
    InputError
        As `check_ids`, if the file cannot be read, or if there are fewer tokens than one window.

    Examples
    --------
    >>> from lplr.models.texts import token_windows
    >>> token_windows([5, 6, 7, 8, 9], length=2)
    array([[5, 6],
           [7, 8]], dtype=int32)
    """
    from lplr.inputs import read_input

    check_integer(length, "length", 2)
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        source = read_input(name).array
    array = as_array(source, name)
    if array.ndim == 1:
        array = _cut(array, length, name)
    return check_ids(array, vocabulary=vocabulary, name=name)


def text_windows(
    files: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    *,
    length: int = 512,
    vocabulary: int | None = None,
) -> np.ndarray:
    """Windows of token ids, from text files.

    Each file is encoded as a whole; the tokens of all files, one file after the other, are cut
    into windows that do not overlap, and what is left at the end is dropped. No token is added
    beside those that the tokenizer itself puts around a text.

    Parameters
    ----------
    files : sequence of str or path-like
        In UTF-8.
    tokenizer : Tokenizer
    length : int
        Tokens of a window.
    vocabulary : int, optional
        Number of tokens that the network knows.

    Returns
    -------
    ndarray of shape (windows, length), int32

    Raises
    ------
    InputError
        If a file is missing, empty or no text in UTF-8, all of them have fewer tokens than one
        window, or a token is none of the vocabulary.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.models.texts import text_windows
    >>> class Bytes:
    ...     vocabulary_size = 256
    ...     def encode(self, text):
    ...         return list(text.encode())
    >>> path = os.path.join(tempfile.mkdtemp(), "a.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("abcde")
    >>> text_windows([path], Bytes(), length=2)
    array([[ 97,  98],
           [ 99, 100]], dtype=int32)
    """
    check_integer(length, "length", 2)
    if not files:
        raise InputError("files: is empty; name at least one text file")
    encoded = [np.asarray(tokenizer.encode(read_text(file)), np.int64) for file in files]
    name = os.fspath(files[0]) if len(files) == 1 else f"the {len(files)} texts"
    windows = _cut(np.concatenate(encoded), length, name)
    return check_ids(windows, vocabulary=vocabulary, name=name, hint="is it of this model?")


def padded_texts(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    length: int | None = None,
    vocabulary: int | None = None,
) -> tuple[np.ndarray, int]:
    """Token ids of texts, each in a row of its own: what an encoder is calibrated on.

    Parameters
    ----------
    texts : sequence of str
    tokenizer : Tokenizer
        Its own special tokens are put around each text.
    length : int, optional
        Tokens of a text, at most. A longer one is cut and keeps its last token, which ends a text
        in encoders.
    vocabulary : int, optional
        Number of tokens that the network knows.

    Returns
    -------
    ids : ndarray of shape (texts, tokens), int32
        As wide as the longest text; -1 after the last token of a shorter one.
    cut : int
        How many texts were cut.

    Raises
    ------
    InputError
        If there is no text, one has no token, or a token is none of the vocabulary.

    Examples
    --------
    >>> from lplr.models.texts import padded_texts
    >>> class Bytes:
    ...     vocabulary_size = 256
    ...     def encode(self, text):
    ...         return list(text.encode())
    >>> padded_texts(["abcde", "xy"], Bytes(), length=3)
    (array([[ 97,  98, 101],
           [120, 121,  -1]], dtype=int32), 1)
    """
    if isinstance(texts, str):
        raise InputError("texts: must be several texts, found a str; put it into a list")
    if not texts:
        raise InputError("texts: there is none; give at least one")
    if length is not None:
        check_integer(length, "length", 1)
    rows = [np.asarray(tokenizer.encode(text)) for text in texts]
    longest = max(map(len, rows))
    ids = np.full((len(rows), min(longest, length or longest)), PADDING)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens[: len(row)]
        if len(tokens) > len(row):
            row[-1] = tokens[-1]
    hint = "is the tokenizer its?"
    ids = check_ids(ids, vocabulary=vocabulary, name="texts", hint=hint, fewest=1)
    return ids, sum(len(row) > ids.shape[1] for row in rows)


def read_text(file: str | os.PathLike[str]) -> str:
    """The text of a file.

    Parameters
    ----------
    file : str or path-like

    Returns
    -------
    str

    Raises
    ------
    InputError
        If there is no such file, or its content is empty or not in UTF-8.

    Examples
    --------
    >>> from lplr.models.texts import read_text
    >>> read_text("/no/such/file")
    Traceback (most recent call last):
        ...
    lplr.exceptions.MissingFileError: /no/such/file: no such file; check the name
    """
    from lplr.inputs import check_readable

    path = Path(file)
    check_readable(str(path))  # a pipe would wait, and a device never end
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is no text in UTF-8 (byte {error.start} is not); convert it first"
        ) from None
    if not text.strip():
        raise InputError(f"{path}: is empty; name a file with text")
    return text


def fingerprint(ids: np.ndarray) -> dict[str, Any]:
    """Shape and SHA-256 of token ids as `check_ids` returns them: equal for equal ones only."""
    return {"shape": list(ids.shape), "sha256": hashlib.sha256(ids.tobytes()).hexdigest()}


def check_ids(
    ids: Any,
    *,
    vocabulary: int | None = None,
    name: str = "ids",
    hint: str = "",
    fewest: int = 2,
) -> np.ndarray:
    """Token ids of sequences, checked.

    Parameters
    ----------
    ids : array_like of int, of shape (sequences, tokens)
        Where a sequence is shorter, -1 after its last token.
    vocabulary : int, optional
        Number of tokens that the network knows.
    name : str
        What messages call it.
    hint : str
        A question for the message about an id that is too large.
    fewest : int
        Tokens that a sequence must have.

    Returns
    -------
    ndarray of shape (sequences, tokens), int32

    Raises
    ------
    InputError
        If it has another number of dimensions, no whole numbers, no sequence, a sequence of too
        few tokens, padding before a token, or an id that is none of the vocabulary.

    Examples
    --------
    >>> from lplr.models.texts import check_ids
    >>> check_ids([[1, 2, 3], [4, 5, -1]], vocabulary=5)
    Traceback (most recent call last):
        ...
    lplr.exceptions.InputError: ids: has token 5 at (1, 1), and the vocabulary has 5: 0 to 4; use ids of the tokenizer of this network
    """  # noqa: E501
    array = as_array(ids, name)
    if array.ndim != 2:
        raise InputError(f"{name}: must have 2 dimensions, (sequences, tokens), found {array.ndim}")
    if array.dtype.kind not in "iu":
        raise InputError(f"{name}: dtype {array.dtype} is not of whole numbers; save ids as int32")
    if array.shape[0] == 0 or array.shape[1] < fewest:
        raise InputError(
            f"{name}: has shape {array.shape}; at least one sequence of {fewest} tokens is needed"
        )
    limit = np.iinfo(np.int32).max if vocabulary is None else vocabulary
    wrong = (array >= limit) | (array < PADDING)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        known = f", and the vocabulary has {limit}: 0 to {limit - 1}" if vocabulary else ""
        raise InputError(
            f"{name}: has token {array[where]} at {where}{known}; "
            f"{hint or 'use ids of the tokenizer of this network'}"
        )
    found: np.ndarray = np.ascontiguousarray(array, np.int32)
    real = found != PADDING
    if (real[:, 1:] & ~real[:, :-1]).any():
        row = int(np.argmax((real[:, 1:] & ~real[:, :-1]).any(axis=1)))
        raise InputError(f"{name}: row {row} has padding before a token; put -1 after the last one")
    short = real.sum(axis=1) < fewest
    if short.any():
        row = int(np.argmax(short))
        raise InputError(f"{name}: row {row} has less than {fewest} tokens; leave it out")
    return found


def shortest_first(ids: np.ndarray) -> np.ndarray:
    """Sequences of `check_ids` in the order of their lengths, so that neighbours pad little.

    Examples
    --------
    >>> from lplr.models.texts import check_ids, shortest_first
    >>> shortest_first(check_ids([[1, 2, 3], [4, 5, -1]]))
    array([[ 4,  5, -1],
           [ 1,  2,  3]], dtype=int32)
    """
    return ids[np.argsort((ids != PADDING).sum(axis=1), kind="stable")]


def _cut(tokens: np.ndarray, length: int, name: str) -> np.ndarray:
    """Windows that do not overlap."""
    count = len(tokens) // length
    if not count:
        raise InputError(
            f"{name}: has {len(tokens)} tokens, and one window takes {length}; "
            "give more text or use shorter windows"
        )
    return tokens[: count * length].reshape(count, length)
