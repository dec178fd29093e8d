"""The commands that the campaign of signals interrupts: all that there are."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from lplr.cli.main import _parser
from lplr.selftest.commands import COMMANDS


def commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of each command that has none below it."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield words
    for action in below:
        for name, inner in action.choices.items():
            yield from commands(inner, *words, name)


def test_none_is_forgotten() -> None:
    there = set(commands(_parser()))
    assert ("bench", "knn") in there
    tried = [tuple(given.args.split()) for given in COMMANDS.values()]
    assert [words for words in there if not any(t[: len(words)] == words for t in tried)] == []


def test_each_is_understood() -> None:
    for given in COMMANDS.values():
        _parser().parse_args(given.args.split())
