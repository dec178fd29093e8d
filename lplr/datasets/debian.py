"""Texts of two Debian packages, in fixed order, to calibrate and to test language models with.

Their licences (one is under the GPL) are the reason why they are no part of this package.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lplr.exceptions import MissingFileError

__all__ = ["debian_texts"]

_FORTUNES = Path("/usr/share/games/fortunes")
_REFERENCE = Path("/usr/share/debian-reference")
_DRAWINGS = "ascii-art"
_SHORTEST = 41  # characters of an item


def debian_texts(
    *,
    fortunes: str | os.PathLike[str] = _FORTUNES,
    reference: str | os.PathLike[str] = _REFERENCE,
) -> dict[str, str]:
    """Three texts to calibrate and to test a language model with.

    They are of the Debian packages fortunes and debian-reference-en. Published figures of this
    package are of the versions 1:1.99.1 and 2.100; others have other texts.

    Items of fortunes that are longer than 40 characters, file by file in the order of their names
    but without drawings, are shuffled with seed 0: the first three quarters are for calibration,
    the others are a test of the same kind. The chapters of the reference, without listings and
    tables, are a test of another kind.

    Parameters
    ----------
    fortunes, reference : path
        The folders of the two packages.

    Returns
    -------
    dict of str
        ``"calibration"``, ``"test_same"`` and ``"test_other"``.

    Raises
    ------
    MissingFileError
        If a folder has none of the files.

    Examples
    --------
    >>> from lplr.datasets import debian_texts
    >>> debian_texts(fortunes="/no/such/folder")
    Traceback (most recent call last):
    ...
    lplr.exceptions.MissingFileError: /no/such/folder: has no texts; apt-get install fortunes
    """
    topics = _files(fortunes, "fortunes", lambda name: "." not in name and name != _DRAWINGS)
    items = [item.strip() for topic in topics for item in topic.read_text("utf-8").split("\n%\n")]
    items = [item for item in items if len(item) >= _SHORTEST]
    shuffled = [items[i] for i in np.random.default_rng(0).permutation(len(items))]
    cut = 3 * len(items) // 4
    chapters = _files(reference, "debian-reference-en", re.compile(r"ch\d+\.en\.html").fullmatch)
    return {
        "calibration": "\n\n".join(shuffled[:cut]),
        "test_same": "\n\n".join(shuffled[cut:]),
        "test_other": "\n\n".join(_prose(chapter.read_text("utf-8")) for chapter in chapters),
    }


def _files(
    folder: str | os.PathLike[str], package: str, wanted: Callable[[str], object]
) -> list[Path]:
    """The wanted files of a folder in the order of their names, links left out."""
    files = sorted(p for p in Path(folder).glob("*") if wanted(p.name) and not p.is_symlink())
    if not files:
        raise MissingFileError(
            f"{folder}: has no texts; apt-get install {package}", os.fspath(folder)
        )
    return files


def _prose(page: str) -> str:
    """The text of a page of HTML without listings and tables, one empty line where many are."""
    page = re.sub(r"(?s)<(script|style|pre|table)\b.*?</\1>", "", page)
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    return re.sub(r"\n\s*\n", "\n\n", re.sub(r"[ \t]+", " ", text))
