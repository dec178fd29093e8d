"""``lplr model info``: the bits of everything in a model."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_model", "add_parser", "run"]

MODEL = (
    "a folder in the form of Hugging Face (config.json and .safetensors files), a .gguf file, or a "
    "folder that lplr model compress made"
)


def add_model(parser: Any, text: str = MODEL) -> None:
    """The argument MODEL."""
    parser.add_argument("model", metavar="MODEL", help=text)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "info",
        "show the tensors of a model and what they take",
        "lplr model info SmolLM2-135M\nlplr model info smaller --json",
        "Of a compressed model each layer with its bits, rank, code and error, and the size of "
        "the whole beside that of the layers; of a checkpoint its tensors by kind, and the "
        "network that they make.",
    )
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.models.families import family_of
    from lplr.models.manifest import files_of
    from lplr.models.opening import open_tensors
    from lplr.models.packed import PackedModel

    tensors = open_tensors(args.model)
    config, packed = tensors.config, isinstance(tensors, PackedModel)
    family = family_of(config)
    document: dict[str, Any] = {
        "model": args.model,
        "compressed": packed,
        "network": {
            "model_type": config.get("model_type"),
            "blocks": family.n_blocks,
            "width": family.width,
            "vocabulary": family.vocabulary,
            "context": config.get("max_position_embeddings"),
            "tied_embeddings": bool(config.get("tie_word_embeddings", False)),
        },
    }
    if isinstance(tensors, PackedModel):
        manifest = tensors.manifest
        document |= {key: manifest[key] for key in _SHOWN}
        document["files_nbytes"] = sum(files_of(tensors.path).values())
    else:
        document |= _of_checkpoint(tensors, family)
    if args.json:
        print_json(document)
    elif packed:
        _print_packed(document)
    else:
        _print_checkpoint(document)
    return 0


_SHOWN = ("settings", "versions", "totals", "layers", "embedding", "kept")


def _of_checkpoint(checkpoint: Any, family: Any) -> dict[str, Any]:
    """The tensors, and how many numbers of which type they are."""
    layers = {f"{name}.weight" for i in range(family.n_blocks) for name in family.linears(i)}
    tensors = []
    for name in checkpoint:
        info = checkpoint.info(name)
        kind = "layer" if name in layers else "other"
        entry = {"name": name, "kind": kind, "dtype": info.dtype, "shape": list(info.shape)}
        tensors.append({**entry, "nbytes": info.nbytes})
    return {
        "tensors": tensors,
        "totals": {
            "layers": _total([t for t in tensors if t["kind"] == "layer"]),
            "whole": _total(tensors),
        },
    }


def _total(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    weights = sum(math.prod(t["shape"]) for t in tensors)
    nbytes = sum(t["nbytes"] for t in tensors)
    return {"weights": weights, "nbytes": nbytes, "bits_per_weight": 8 * nbytes / max(1, weights)}


def _print_head(document: Mapping[str, Any], more: list[tuple[str, str]]) -> None:
    from lplr.cli.tables import columns

    found = document["network"]
    tied = ", head tied to the embedding" if found["tied_embeddings"] else ""
    context = f", {found['context']} positions" if found["context"] else ""
    lines = [
        ("model", os.fspath(document["model"])),
        (
            "network",
            f"{found['model_type']}, {found['blocks']} blocks of width {found['width']}, "
            f"{found['vocabulary']} tokens{context}{tied}",
        ),
    ]
    print(columns([*lines, *more]))


def _in_words(total: Mapping[str, Any]) -> str:
    from lplr.cli.tables import in_bytes

    bits = f"{total['bits_per_weight']:.4f} bits per weight"
    return f"{total['weights']} weights, {in_bytes(total['nbytes'])}, {bits}"


def _print_packed(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import in_bytes, in_shape, shown, table

    totals, layers = document["totals"], document["layers"]
    more = [("layers", f"{len(layers)}: {_in_words(totals['layers'])}")]
    if document["embedding"]:
        more.append(("embedding", _in_words(totals["embedding"])))
    more += [
        ("kept", _in_words(totals["kept"])),
        ("whole", _in_words(totals["whole"])),
        ("on disk", in_bytes(document["files_nbytes"])),
    ]
    _print_head(document, more)
    head = ["layer", "code", "shape", "bits per weight", "rank", "error"]
    rows = [
        [
            shown(layer["name"]),
            layer["code"],
            in_shape(layer["shape"]),
            f"{layer['bits_per_entry']:.4f}",
            str(layer["rank"] or ""),
            f"{layer['relative_error']:.5f}" if "relative_error" in layer else "",
        ]
        for layer in [*layers, *document["embedding"]]
    ]
    print("\n" + table(head, rows, left=2))


def _print_checkpoint(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import in_bytes, in_shape, shown, table

    totals = document["totals"]
    _print_head(
        document,
        [("layers", _in_words(totals["layers"])), ("whole", _in_words(totals["whole"]))],
    )
    rows = [
        [shown(t["name"]), t["kind"], t["dtype"], in_shape(t["shape"]), in_bytes(t["nbytes"])]
        for t in document["tensors"]
    ]
    print("\n" + table(("tensor", "kind", "type", "shape", "size"), rows, left=3))
