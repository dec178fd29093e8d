"""``lplr model evaluate``: what a network predicts, and how far it is from the original."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

from lplr.cli.model_info import add_model
from lplr.cli.options import add_command, add_json, check_output, print_json
from lplr.exceptions import InputError

__all__ = ["add_parser", "run"]

_EXAMPLE = """\
lplr model evaluate small --original SmolLM2-135M --texts book.txt
lplr model evaluate small --original SmolLM2-135M --tokens test.npz:same test.npz:other
lplr model evaluate SmolLM2-135M --choices questions.jsonl
lplr model evaluate small --original SmolLM2-135M --texts book.txt --json > small.json
lplr model evaluate other --original SmolLM2-135M --texts book.txt --html a.html --with small.json
lplr model evaluate small --original SmolLM2-135M --tokens test.npy --sensitivity 2 --html a.html
lplr model evaluate small-minilm --original all-MiniLM-L6-v2 --texts labelled.jsonl"""

# What something is measured on, its tokens if there are any, and the calls that measure it.
_Tasks: TypeAlias = Iterator[tuple[str, Any, list[Callable[[], Any]]]]

_DESCRIPTION = (
    "Networks that predict tokens: perplexity and, with --original, the mean Kullback-Leibler "
    "divergence of their predictions from the original's and how often both find the same token "
    "likeliest; with --choices, the accuracy of multiple choice. Encoders: how near embeddings are "
    "to the original's, the neighbours that they keep, and the accuracy of nearest neighbours. "
    "Each number has its standard error, and below it how it was measured."
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "evaluate",
        "measure how well a network predicts",
        _EXAMPLE,
        _DESCRIPTION,
    )
    add_model(parser)
    parser.add_argument(
        "--original", metavar="MODEL", help="the network to compare with, of the same tokenizer"
    )
    parser.add_argument(
        "--tokens",
        nargs="+",
        default=[],
        metavar="FILE.npy",
        help="token ids, FILE.npz:MEMBER too: rows are windows, with -1 after the end of shorter "
        "ones; one long row is cut into windows",
    )
    parser.add_argument(
        "--texts",
        nargs="+",
        default=[],
        metavar="FILE",
        help="texts in UTF-8, one file after the other, cut into windows; of an encoder a file of "
        "one text in each line, with a tab and a label where there are labels, or a .jsonl file "
        'of {"text": ..., "label": ...}, in an order that does not depend on the labels',
    )
    parser.add_argument(
        "--choices",
        nargs="+",
        default=[],
        metavar="FILE.jsonl",
        help='multiple choice: {"question": ..., "choices": [...], "answer": number or text} in '
        "each line",
    )
    parser.add_argument(
        "--length",
        type=int,
        default=512,
        metavar="T",
        help="tokens of a window, where something is cut (default: 512)",
    )
    parser.add_argument(
        "--sensitivity",
        type=int,
        metavar="N",
        help="also measure where the error enters: the KL to the original with one block, or one "
        "kind of layer, compressed alone, on the first N windows of the first tokens or texts; "
        "2 to 4 show the order of the parts; a window of 30 blocks takes 15 times as long",
    )
    add_json(parser)
    parser.add_argument("--html", metavar="PAGE", help="write a page with charts, as one HTML file")
    parser.add_argument(
        "--with",
        dest="others",
        nargs="+",
        default=[],
        metavar="FILE.json",
        help="what --json printed of other networks, to show on the page beside this one",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.model_evaluate_report import print_evaluation
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.models.evaluation.document import as_parts, as_result, describe, read_document
    from lplr.models.evaluation.sensitivity import sensitivity
    from lplr.models.opening import open_network
    from lplr.progress import parts, tracked, until

    if not (args.tokens or args.texts or args.choices):
        raise InputError("--texts: give texts, --tokens or --choices to evaluate the network on")
    if args.others and not args.html:
        raise InputError("--with: other networks are shown on a page; give --html too")
    if args.html:
        check_output(args.html, (".html", ".htm"), args.overwrite, args.model)
    if args.sensitivity is not None:
        _check_sensitivity(args)
    others = [read_document(path) for path in args.others]
    network = open_network(args.model)
    original = open_network(args.original) if args.original else None
    tasks = list(_tasks(args, network, original))
    results, found = [], None
    with Progress(1.0) as progress, watch_compilation(progress), tracked(progress.tell, "reading"):
        with until(_share_of_tasks(args, tasks, network)):
            for source, ids, calls in parts(tasks, what=lambda task: task[0]):
                results.append(as_result(source, *(call() for call in parts(calls)), ids=ids))
        if args.sensitivity is not None and original is not None:
            source, ids, _ = tasks[0]
            with until(1.0, "where the error enters"):
                found = as_parts(source, sensitivity(original, network, ids[: args.sensitivity]))
    document = describe(args.model, network, args.original, results, found)
    if args.json:
        print_json(document)
    else:
        print_evaluation(document)
    if args.html:
        from lplr.evaluation.report.network import write_network_page

        write_network_page(args.html, document, others, overwrite=args.overwrite)
    return 0


def _share_of_tasks(args: argparse.Namespace, tasks: list[Any], network: Any) -> float:
    """How much of the whole work they are."""
    if args.sensitivity is None:
        return 1.0
    windows = [1 if ids is None else len(ids) for _, ids, _ in tasks]
    alone = min(args.sensitivity, windows[0]) * (network.family.n_blocks + 30) / 4
    return sum(windows) / (sum(windows) + alone)


def _check_sensitivity(args: argparse.Namespace) -> None:
    if args.sensitivity < 1:
        raise InputError(f"--sensitivity: must be at least one window, found {args.sensitivity}")
    if args.original is None:
        raise InputError("--sensitivity: parts of the original are replaced; give --original too")
    if not (args.tokens or args.texts):
        raise InputError("--sensitivity: is measured on windows; give --tokens or --texts too")


def _tasks(args: argparse.Namespace, network: Any, original: Any) -> _Tasks:
    """What to do; everything that is read from files is checked now."""
    from lplr.models.evaluation.choices import answer, read_questions
    from lplr.models.evaluation.scores import compare, score
    from lplr.models.texts import text_windows, token_windows
    from lplr.models.tokenizer import open_tokenizer

    tokenizer: Any = open_tokenizer(network.tensors) if args.texts or args.choices else None
    if not network.family.causal:
        yield from _encoder_tasks(args, network, original, tokenizer)
        return
    cut = {"length": args.length, "vocabulary": network.family.vocabulary}
    sources = [(os.path.basename(name), token_windows(name, **cut)) for name in args.tokens]
    if args.texts:
        sources.append((_named(args.texts), text_windows(args.texts, tokenizer, **cut)))
    questions = [(os.path.basename(name), read_questions(name)) for name in args.choices]
    for name, ids in sources:
        call = partial(score, network) if original is None else partial(compare, original, network)
        yield name, ids, [partial(call, ids)]
    for name, asked in questions:
        networks = [network] if original is None else [network, original]
        yield name, None, [partial(answer, each, tokenizer, asked) for each in networks]


def _encoder_tasks(args: argparse.Namespace, network: Any, original: Any, tokenizer: Any) -> _Tasks:
    from lplr.models.evaluation.encoders import compare_encoders, read_labelled, score_encoder

    for option in ("tokens", "choices", "sensitivity"):
        if getattr(args, option):
            raise InputError(f"--{option}: {args.model} is an encoder, which takes --texts alone")
    call: Any = score_encoder if original is None else partial(compare_encoders, original)
    for name in args.texts:
        texts, labels = read_labelled(name)
        if labels is None and original is None:
            raise InputError(f"{name}: has no labels; give --original to compare embeddings with")
        yield os.path.basename(name), None, [partial(call, network, tokenizer, texts, labels)]


def _named(files: list[str]) -> str:
    """What a table calls several texts."""
    names = [os.path.basename(file) for file in files]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
