"""From text to token ids and back, as the checkpoint's own tokenizer does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, LplrError
from lplr.extras import optional
from lplr.models.tokenizer_growth import check_growth
from lplr.models.tokenizer_limits import check_limits

__all__ = ["Tokenizer", "open_tokenizer"]


class _HasTokenizer(Protocol):
    """A checkpoint, or anything else that knows its config and its tokenizer's files."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    def tokenizer_files(self) -> Mapping[str, bytes]: ...


def open_tokenizer(checkpoint: _HasTokenizer) -> Tokenizer:
    """The tokenizer of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint or PackedModel
        What `open_checkpoint` returns, or ``network.tensors`` of a network from disk.

    Returns
    -------
    Tokenizer

    Raises
    ------
    InputError
        If it is none, has no tokenizer.json, a vocabulary that is larger than its embedding, or
        more in it than there is memory for.
    CorruptFileError
        If tokenizer.json is not valid.
    MissingPackageError
        If the package ``tokenizers`` is not installed.

    Examples
    --------
    >>> import pathlib
    >>> from lplr.models.base import Checkpoint
    >>> from lplr.models.tokenizer import open_tokenizer
    >>> open_tokenizer(Checkpoint(pathlib.Path("model"), {}, {}, [], dict))
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: the model has no tokenizer.json; give token ids instead of texts
    """
    if not hasattr(checkpoint, "tokenizer_files"):
        raise InputError(
            "checkpoint: must be a checkpoint, or the tensors of a network (network.tensors); "
            f"found a {type(checkpoint).__name__}"
        )
    files = checkpoint.tokenizer_files()
    if "tokenizer.json" not in files:
        raise InputError("the model has no tokenizer.json; give token ids instead of texts")
    tokenizer = Tokenizer(files["tokenizer.json"])
    rows = checkpoint.config.get("vocab_size")
    if rows is not None and tokenizer.vocabulary_size > rows:
        raise InputError(
            f"the tokenizer has {tokenizer.vocabulary_size} tokens and the embedding {rows} rows; "
            "it is the tokenizer of another model"
        )
    return tokenizer


@contextmanager
def _heard() -> Iterator[None]:
    """Whatever the package raises becomes a typed error, its panics too, which are no Exception.

    It panics over references to tokens that are not there, and over regular expressions that have
    not matched after ten million steps.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (LplrError, MemoryError)) or not (
            isinstance(error, Exception) or type(error).__name__ == "PanicException"
        ):
            raise
        said = " ".join(str(error).split())
        raise CorruptFileError(f"tokenizer.json is not valid: {said}") from None


class Tokenizer:
    """Text to token ids and back; `open_tokenizer` makes one.

    Parameters
    ----------
    data : bytes
        A tokenizer.json. Its truncation and padding are not applied.

    Attributes
    ----------
    vocabulary_size : int
        One more than the largest id.
    """

    def __init__(self, data: bytes) -> None:
        tokenizers = optional("tokenizers", "texts")
        check_limits(data)
        with _heard():
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
            check_growth(self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if getattr(self._tokenizer.model, "dropout", None) is not None:
            self._tokenizer.model.dropout = None  # of training, where ids are drawn at random
        ids = self._tokenizer.get_vocab(with_added_tokens=True).values()
        self.vocabulary_size: int = max(ids, default=-1) + 1

    def encode(self, text: str, *, special_tokens: bool = True) -> np.ndarray:
        """The ids of a text, int64.

        Parameters
        ----------
        text : str
        special_tokens : bool
            Add those that the tokenizer itself puts around a text: many put none, Llama its first
            token, BERT [CLS] and [SEP].
        """
        if not isinstance(text, str):
            raise InputError(f"text must be a str, not {type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # half a surrogate pair
            raise InputError(f"text is no valid Unicode: {error}") from None
        with _heard():
            found = self._tokenizer.encode(text, add_special_tokens=special_tokens)
        return np.array(found.ids, np.int64)

    def decode(self, ids: Any, *, special_tokens: bool = True) -> str:
        """The text of token ids.

        Parameters
        ----------
        ids : array_like of int, shape (tokens,)
        special_tokens : bool
            Write those as well that stand for no text.

        Raises
        ------
        InputError
            If an id is outside the vocabulary.
        """
        checked = self._checked(ids)
        with _heard():
            return self._tokenizer.decode(checked, skip_special_tokens=not special_tokens)

    def stream(self, ids: Iterable[int], *, special_tokens: bool = False) -> Iterator[str]:
        """The text piece by piece, as ids come: each piece as soon as its characters are whole.

        Parameters
        ----------
        ids : iterable of int
        special_tokens : bool
            Write those as well that stand for no text.

        Yields
        ------
        str
            Pieces that make the same text as `decode` does; bytes of no character become U+FFFD,
            and ids past the vocabulary no text.
        """
        # The text of the ids from `begin` on, of which those before `end` are written already.
        # A few written ones stay: what a token writes can depend on the one before it.
        window: list[int] = []
        written = 0
        for i in ids:
            if i >= self.vocabulary_size:  # a network may have a few rows more than tokens
                continue
            window += self._checked([i])
            before = self.decode(window[:written], special_tokens=special_tokens)
            text = self.decode(window, special_tokens=special_tokens)
            if len(text) > len(before) and not text.endswith("\ufffd"):
                yield text[len(before) :]
                window = window[written:]
                written = len(window)
        before = self.decode(window[:written], special_tokens=special_tokens)
        rest = self.decode(window, special_tokens=special_tokens)[len(before) :]
        if rest:
            yield rest

    def _checked(self, ids: Any) -> list[int]:
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InputError(f"ids must be whole numbers in one dimension, not {ids!r:.80}")
        outside = np.flatnonzero((array < 0) | (array >= self.vocabulary_size))
        if outside.size:
            raise InputError(
                f"ids: {array[outside[0]]} at {outside[0]} is outside the vocabulary of "
                f"{self.vocabulary_size}"
            )
        return array.astype(np.int64).tolist()
