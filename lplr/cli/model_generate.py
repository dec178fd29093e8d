"""``lplr model generate``: text that a network goes on with."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lplr.cli.model_info import add_model
from lplr.cli.options import add_command, add_seed
from lplr.exceptions import InputError

if TYPE_CHECKING:
    from lplr.cli.streams import Output

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "generate",
        "let a model go on with a text",
        'lplr model generate smaller --prompt "The capital of France is"\n'
        'lplr model generate smaller --prompt "Once upon a time" --top-p 0.9 --seed 1',
        "What follows the prompt is written as it comes. The most probable token is taken, unless "
        "--top-p or --temperature is given. A compressed model multiplies its packed codes.",
    )
    add_model(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--prompt", metavar="TEXT", help="the text to go on with")
    given.add_argument(
        "--ids",
        nargs="+",
        type=int,
        metavar="ID",
        help="the same as token ids; token ids are written, and no tokenizer is needed",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=256,
        metavar="N",
        help="end after so many new tokens (default: 256)",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the most probable tokens that have the probability P together",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="divide the logits by T before drawing; 0 draws nothing (default: 1 with --top-p)",
    )
    add_seed(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.models.generation import generate
    from lplr.models.opening import open_network
    from lplr.models.tokenizer import open_tokenizer

    network = open_network(args.model)
    checkpoint: Any = network.tensors
    tokenizer = None if args.prompt is None else open_tokenizer(checkpoint)
    given = args.ids
    if tokenizer is not None:
        given = tokenizer.encode(args.prompt).tolist() or _first_token(checkpoint.config)
    longest = network.family.max_tokens or checkpoint.config.get("max_position_embeddings")
    if longest is not None and len(given) >= longest:
        raise InputError(
            f"the prompt has {len(given)} tokens; the model takes {longest} with what follows"
        )
    tokens = generate(
        network,
        given,
        max_tokens=args.max_tokens
        if longest is None
        else min(args.max_tokens, longest - len(given)),
        temperature=args.temperature,
        top_p=args.top_p,
        rng=args.seed,
        stop=_last_tokens(checkpoint),
    )
    watch = _Watch(len(given))
    pieces: Iterable[str] = (f"{token} " for token in watch.over(tokens))
    if tokenizer is not None:
        pieces = tokenizer.stream(watch.over(tokens))
    output: Output = sys.stdout  # type: ignore[assignment]  # while a command runs
    try:
        for piece in pieces:
            print(piece, end="")
            output.deliver()
    finally:  # also after Ctrl-C: what was said stays, on a line of its own
        print()
        output.deliver()
        print(watch.told(), file=sys.stderr)
    return 0


def _first_token(config: Mapping[str, Any]) -> list[int]:
    """What stands before any text, where the prompt is empty."""
    first = config.get("bos_token_id")
    if type(first) is not int:
        raise InputError("the prompt is empty, and the model has no token that begins a text")
    return [first]


def _last_tokens(checkpoint: Any) -> set[int]:
    """The tokens that end a text, as config.json and generation_config.json name them."""
    from lplr.models.beside import json_beside

    found: set[int] = set()
    name = "generation_config.json"
    chosen = json_beside({name: b"{}"} | checkpoint.tokenizer_files(), name, dict)
    for config in (checkpoint.config, chosen):
        ids = config.get("eos_token_id")
        found |= {i for i in (ids if isinstance(ids, list) else [ids]) if type(i) is int}
    return found


class _Watch:
    """Counts tokens and their time."""

    def __init__(self, given: int) -> None:
        self.given, self.count = given, 0
        self.start = self.first = self.last = time.perf_counter()

    def over(self, tokens: Iterable[int]) -> Iterator[int]:
        for token in tokens:
            self.last = time.perf_counter()
            self.first = self.first if self.count else self.last
            self.count += 1
            yield token

    def told(self) -> str:
        before = f"{self.given} tokens read in {self.first - self.start:.2f} s"
        if self.count < 2:
            return f"{before}, {self.count} written"
        speed = (self.count - 1) / (self.last - self.first)
        return f"{before}, {self.count} written, {speed:.1f} tokens/s"
