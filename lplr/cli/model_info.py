"""``lplr model info``: the bits of everything in a model."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_model", "add_parser", "run"]

MODEL = (
    "a folder in the form of Hugging Face (config.json and .safetensors files), a .gguf file, or a "
    "folder that lplr model compress made"
)
_OF_MANIFEST = ("settings", "versions", "layers", "embedding", "kept")


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
        "the whole beside that of the layers; of a checkpoint its kinds of tensors, and the "
        "network that they make. With --json every tensor.",
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
    family, config = family_of(tensors.config), tensors.config
    document: dict[str, Any] = {
        "model": args.model,
        "compressed": isinstance(tensors, PackedModel),
        "network": {
            "model_type": config["model_type"],
            "blocks": family.n_blocks,
            "width": family.width,
            "vocabulary": family.vocabulary,
            "context": config.get("max_position_embeddings", family.max_tokens),
            "tied_embeddings": "lm_head.weight" not in family.tensors() and family.causal,
        },
    }
    if isinstance(tensors, PackedModel):
        document |= {key: tensors.manifest[key] for key in _OF_MANIFEST}
        places = {key: document[key] for key in ("layers", "embedding", "kept")}
        places["whole"] = [tensor for place in places.values() for tensor in place]
        document["totals"] = {key: _total(tensors) for key, tensors in places.items()}
        document["files_nbytes"] = sum(files_of(tensors.path).values())
        document["kinds"] = _kinds(document["layers"], lambda name: _kind(family, name))
    else:
        document |= _of_checkpoint(tensors, family)
    if args.json:
        print_json(document)
    elif document["compressed"]:
        _print_packed(document)
    else:
        _print_checkpoint(document)
    return 0


def _of_checkpoint(checkpoint: Any, family: Any) -> dict[str, Any]:
    """The tensors, and how many numbers of which type they are."""
    layers = {f"{name}.weight" for i in range(family.n_blocks) for name in family.linears(i)}
    tensors = []
    for name in checkpoint:
        info = checkpoint.info(name)
        shape = list(info.shape)
        tensors.append({"name": name, "dtype": info.dtype, "shape": shape, "nbytes": info.nbytes})
    return {
        "tensors": tensors,
        "kinds": _kinds(tensors, lambda name: _kind(family, name)),
        "totals": {
            "layers": _total([t for t in tensors if t["name"] in layers]),
            "whole": _total(tensors),
        },
    }


def _kind(family: Any, name: str) -> str:
    """The name with a star for the number of its block."""
    for i in range(family.n_blocks):
        prefix = family.prefix(i)
        if name.startswith(prefix):
            return prefix.replace(f".{i}.", ".*.") + name.removeprefix(prefix)
    return name


def _kinds(tensors: Sequence[Mapping[str, Any]], kind: Callable[[str], str]) -> list[Any]:
    """Tensors of one name up to the block, one shape and one type together."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for t in tensors:
        same = kind(t["name"]), t.get("dtype"), tuple(t["shape"])
        groups.setdefault(same, []).append(t)
    return [
        {
            "name": name,
            "count": len(group),
            "shape": list(shape),
            **({"dtype": dtype} if dtype else {}),
            **_total(group),
            **_usual_error(group),
            **_felt(group),
        }
        for (name, dtype, shape), group in groups.items()
    ]


def _usual_error(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The root mean square of the errors of layers, where all have one."""
    errors = [layer.get("relative_error") for layer in layers]
    if None in errors:
        return {}
    return {"relative_error": math.sqrt(sum(e * e for e in errors if e) / len(errors))}


def _felt(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The sum of what is felt of the errors of layers, where it is known."""
    felt = [layer["predicted_kl"] for layer in layers if "predicted_kl" in layer]
    return {"predicted_kl": math.fsum(felt)} if felt else {}


def _total(tensors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    weights = sum(math.prod(t["shape"]) for t in tensors)
    nbytes = sum(t["nbytes"] for t in tensors)
    return {"weights": weights, "nbytes": nbytes, "bits_per_weight": 8 * nbytes / max(1, weights)}


def _print_head(document: Mapping[str, Any], more: list[tuple[str, str]]) -> None:
    from lplr.cli.tables import columns

    found = document["network"]
    tied = ", head tied to the embedding" if found["tied_embeddings"] else ""
    context = f", {found['context']} positions" if found["context"] else ""
    network = (
        f"{found['model_type']}, {found['blocks']} blocks of width {found['width']}, "
        f"{found['vocabulary']} tokens{context}{tied}"
    )
    print(columns([("model", os.fspath(document["model"])), ("network", network), *more]))


def _in_words(total: Mapping[str, Any]) -> str:
    from lplr.cli.tables import in_bytes

    bits = f"{total['bits_per_weight']:.4f} bits per weight"
    return f"{total['weights']} weights, {in_bytes(total['nbytes'])}, {bits}"


def _error(entry: Mapping[str, Any]) -> str:
    return f"{entry['relative_error']:.5f}" if "relative_error" in entry else ""


def _call(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that one chooses."""
    for name, value in settings.items():
        if name == "calibration" and isinstance(value, Mapping):
            yield name, "{} x {} tokens".format(*value["shape"])
        elif name == "output_moments":
            yield name, f"by {value['estimators'][0]}"
        elif isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 20):
            yield name, value  # but no digests
    for made in settings.get("adaptations", []):
        if made["changed"]:
            shared = " on average" if made["output_moments"] else ""
            factors = "factors" if made["rank"] is None else f"rank {made['rank']}{shared}"
            steps = made.get("steps_taken", made["history"][-1][0])
            yield "adapted", f"({factors}, {made['bits']} bits, {steps} steps)"


def _made(settings: Mapping[str, Any]) -> str:
    """How a model was made, as far as its record is one of ours."""
    try:
        return ", ".join(f"{name} {value}" for name, value in _call(settings))
    except (AttributeError, LookupError, TypeError):
        return "a record that is not known here; see --json"


def _briefly(code: str) -> str:
    """A code with the name of the quantizer once, where its parts share one."""
    names = set(re.findall(r"\b(?!to )([a-z][\w-]*) [\d.]", code))
    if len(names) != 1:
        return code
    (name,) = names
    return f"{name}: {code.replace(f'{name} ', '').replace(' bits', '')} bits"


def _print_packed(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import in_bytes, in_shape, shown, table

    totals, layers = document["totals"], document["layers"]
    more = [("layers", f"{len(layers)}: {_in_words(totals['layers'])}")]
    if document["embedding"]:
        more.append(("embedding", _in_words(totals["embedding"])))
    made = _made(document["settings"])
    disk = f"{in_bytes(document['files_nbytes'])}, with configuration, tokenizer and records"
    kept = f"{len(document['kept'])}: {_in_words(totals['kept'])}"
    more += [("kept", kept), ("whole", _in_words(totals["whole"])), ("on disk", disk)]
    _print_head(document, [*more, ("made by", made)])
    kinds = [
        [
            shown(kind["name"]),
            str(kind["count"]),
            in_shape(kind["shape"]),
            f"{kind['bits_per_weight']:.4f}",
            _error(kind),
            *([f"{kind['predicted_kl']:.4f}"] if "predicted_kl" in kind else []),
        ]
        for kind in document["kinds"]
    ]
    felt = any("predicted_kl" in kind for kind in document["kinds"])
    names = ("kind", "layers", "shape", "bits per weight", "error", *(["felt"] if felt else []))
    print("\n" + table(names, kinds))
    blocks = document["kinds"][0]["name"].partition("*")[0]  # what all names begin with
    rows = [
        [
            shown(layer["name"].removeprefix(blocks)),
            in_shape(layer["shape"]),
            f"{layer['bits_per_entry']:.4f}",
            str(layer["rank"] or ""),
            _error(layer),
            _briefly(layer["code"]),
        ]
        for layer in [*layers, *document["embedding"]]
    ]
    head = (f"layer ({shown(blocks)})", "shape", "bits", "rank", "error", "code")
    print("\n" + table(head, rows, wrapped=True))
    if any(map(_error, layers)):
        settings = document["settings"]
        calibrated = settings.get("method") != "quantize" or settings.get("adaptations")
        what = "the outputs on the calibration inputs" if calibrated else "the weights"
        weighed = ", weighed by what is felt of a token" if felt else ""
        print(f"\nerror: relative, of {what}{weighed}; of a kind the usual one")
    if felt:
        print(
            "felt: divergence of the predictions in nats a token that the errors of a kind make, "
            "as the moments of outputs predict it"
        )


def _print_checkpoint(document: Mapping[str, Any]) -> None:
    from lplr.cli.tables import in_bytes, in_shape, shown, table

    totals = document["totals"]
    layers, whole = _in_words(totals["layers"]), _in_words(totals["whole"])
    _print_head(document, [("layers", layers), ("whole", whole)])
    rows = [
        [
            shown(kind["name"]),
            kind["dtype"],
            str(kind["count"]),
            in_shape(kind["shape"]),
            in_bytes(kind["nbytes"]),
        ]
        for kind in document["kinds"]
    ]
    print("\n" + table(("kind", "type", "tensors", "shape", "size"), rows, left=2))
