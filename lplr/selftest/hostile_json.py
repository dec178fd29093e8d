"""Texts that are no JSON, or too much of it, in the place of each file that holds some."""

from __future__ import annotations

from pathlib import Path

from lplr.exceptions import CorruptFileError, InputError
from lplr.selftest.hostile_file import Hostile, Maker
from lplr.selftest.hostile_places import SOUND

__all__ = ["TEXTS"]

_TEXTS = {
    "nothing": b"",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "empty lists": b'{"a": [' + b"[]," * 5_000_000 + b"1]}",
    "a name twice": b'{"a": 1, "a": 1}',
    "1e400": b'{"a": 1e400}',
    "a number of 5000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "bytes that are no text": b'{"a": "\xff\xfe"}',
    "a list": b"[]",
}
_OURS = {"a name twice", "1e400"}  # which files of others may have
# Who reads a file, and which one.
_IN_FOLDERS = [
    ("folder", "manifest.json"),
    ("model", "model.json"),
    ("checkpoint", "config.json"),
    ("checkpoint", "model.safetensors.index.json"),
    ("table", "rows.jsonl"),
    ("table", "rows.meta.json"),
    ("job", "job.json"),
    ("job", "log.jsonl"),
    ("moments job", "job.json"),
    ("moments job", "done.json"),
]
_NAMED = [("questions", "a.jsonl"), ("document", "a.json")]


def _in_folder(reader: str, name: str, text: bytes) -> Maker:
    def make(folder: Path) -> Path:
        found = SOUND[reader](folder)
        (found / name).write_bytes(text + b"\n")
        return found

    return make


def _named(name: str, text: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(text + b"\n")
        return folder / name

    return make


TEXTS = {
    f"{reader}: {name} of {what}": Hostile(_in_folder(reader, name, text), reader, CorruptFileError)
    for reader, name in _IN_FOLDERS
    for what, text in _TEXTS.items()
    if reader != "checkpoint" or what not in _OURS
} | {
    f"{reader}: {name} of {what}": Hostile(_named(name, text), reader, InputError)
    for reader, name in _NAMED
    for what, text in _TEXTS.items()
}
