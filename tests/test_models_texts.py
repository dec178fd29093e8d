"""Windows of token ids from arrays, files and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Bytes

from lplr.exceptions import InputError, MissingFileError
from lplr.models.texts import (
    check_ids,
    padded_texts,
    shortest_first,
    text_windows,
    token_windows,
)


def test_windows_of_a_file(tmp_path: Path) -> None:
    tokens = np.arange(1100, dtype=np.uint16)
    np.save(tmp_path / "a.npy", tokens)
    found = token_windows(tmp_path / "a.npy", vocabulary=1100)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, tokens[:1024].reshape(2, 512))
    np.savez(tmp_path / "b.npz", one=tokens[:30].reshape(3, 10), two=tokens)
    np.testing.assert_array_equal(
        token_windows(f"{tmp_path}/b.npz:one"), tokens[:30].reshape(3, 10)
    )
    with pytest.raises(InputError, match="has 2 arrays; name one"):
        token_windows(tmp_path / "b.npz")


def test_windows_of_texts_run_over_the_ends_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    (tmp_path / "b").write_text("defgh")
    found = text_windows([tmp_path / "a", tmp_path / "b"], Bytes(), length=4)
    assert bytes(found.astype(np.uint8).ravel()) == b"abcdefgh"


def test_texts_in_rows_of_their_own() -> None:
    found, cut = padded_texts(["abcdef", "xy", "pqr"], Bytes(), length=4)
    assert [bytes(row[row >= 0].astype(np.uint8)) for row in found] == [b"abcf", b"xy", b"pqr"]
    assert (found.shape, cut) == ((3, 4), 1)
    lengths = [(row >= 0).sum() for row in shortest_first(found)]
    assert lengths == [2, 3, 4]
    assert padded_texts(["abcdef", "xy"], Bytes())[0].shape == (2, 6)
    with pytest.raises(InputError, match="texts: there is none"):
        padded_texts([], Bytes())


def test_texts_that_cannot_be_used(tmp_path: Path) -> None:
    short, empty, binary = tmp_path / "short", tmp_path / "empty", tmp_path / "binary"
    short.write_text("abc")
    empty.write_text(" \n")
    binary.write_bytes(b"abc\xff")
    with pytest.raises(InputError, match="short: has 3 tokens, and one window takes 512"):
        text_windows([short], Bytes())
    with pytest.raises(InputError, match="the 2 texts: has 6 tokens"):
        text_windows([short, short], Bytes())
    with pytest.raises(InputError, match="is empty"):
        text_windows([empty], Bytes())
    with pytest.raises(InputError, match="byte 3 is not"):
        text_windows([binary], Bytes())
    with pytest.raises(MissingFileError):
        text_windows([tmp_path / "no"], Bytes())
    with pytest.raises(InputError, match=r"token 99 at \(0, 2\).*is it of this model"):
        text_windows([short], Bytes(), length=3, vocabulary=99)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2], [3, 70000]], r"token 70000 at \(1, 1\), and the vocabulary has 50"),
        ([[1, -2]], r"token -2 at \(0, 1\)"),
        ([[1.0, 2.0]], "dtype float64 is not of whole numbers"),
        ([[True, False]], "dtype bool"),
        ([1, 2], "must have 2 dimensions"),
        (np.empty((0, 5), int), "at least one sequence"),
        ([[1]], "at least one sequence of 2 tokens"),
        ([[1, 2, 3], [-1, 2, 3]], "row 1 has padding before a token"),
        ([[1, 2], [1, -1]], "row 1 has less than 2 tokens"),
    ],
)
def test_ids_that_cannot_be_used(ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_ids(ids, vocabulary=50)


def test_padding_may_follow() -> None:
    ids = np.array([[1, 2, -1], [3, 4, 5]], np.int64)
    found = check_ids(ids, vocabulary=6)
    np.testing.assert_array_equal(found, ids)
    assert found is not ids
