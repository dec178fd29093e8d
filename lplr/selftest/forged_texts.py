"""Forged texts: the JSON of folders, output moments and jobs, under digests that are right.

As of every forgery, what is accepted must be another valid content, by a rule that reads the files
in its own way.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import LplrError
from lplr.models.manifest import as_text
from lplr.selftest.damage import edited
from lplr.selftest.forge import judged
from lplr.selftest.guarded import Attempt
from lplr.selftest.specimens import Specimen, make, state
from lplr.storage.container import inspect, load, save
from lplr.storage.text import to_json

__all__ = ["texts"]


@dataclass(frozen=True)
class Text:
    """A JSON text in a file of a specimen.

    Parameters
    ----------
    what : str
    specimen : Specimen
    path : Path
        The file.
    table : dict
        What the text says, without a digest.
    signed : callable
        The bytes of the file, of a text that says something else or is no JSON.
    valid : callable
        Whether what was read is what the files say: of it and the folder.
    """

    what: str
    specimen: Specimen
    path: Path
    table: dict[str, Any]
    signed: Callable[[bytes], bytes]
    valid: Callable[[Any, Path], bool]


def texts(folder: str, seed: int) -> Attempt:
    """Forge one of the texts, read what it belongs to, and mend it again."""
    forged = list(_texts({specimen.reader: specimen for specimen in make(Path(folder))}))
    whole = [(text.path.read_bytes(), text.specimen.read()) for text in forged]

    def tried(i: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, i])
        text, (data, says) = forged[i % len(forged)], whole[i % len(forged)]
        place = text.specimen.path
        text.path.write_bytes(text.signed(edited(text.table, rng)))
        nbytes = sum(file.stat().st_size for file in text.specimen.files())
        found = judged(
            f"forged: {text.what}",
            i,
            text.specimen.read,
            nbytes,
            says,
            lambda found: text.valid(found, place),
        )
        text.path.write_bytes(data)
        return found

    return tried


def _texts(made: dict[str, Specimen]) -> list[Text]:
    parts, model, moments = made["folder"], made["model"], made["moments"]
    job, sums = made["job"], made["moments job"]
    header, data = _header(moments.path)
    facts = json.loads(header["__metadata__"]["output_moments"])
    path = parts.path / "manifest.json"
    table = json.loads(path.read_bytes())
    del table["sha256"]
    found = [Text("manifest of parts", parts, path, table, _json(_manifest), _rewritten)]
    path = model.path / "model.json"
    table = json.loads(path.read_bytes())["model"]
    found.append(Text("description of a model", model, path, table, _json(as_text), _as_described))

    def described(text: bytes) -> bytes:
        said = {"output_moments": text.decode(), "sha256": hashlib.sha256(text).hexdigest()}
        return _safetensors(json.dumps({**header, "__metadata__": said}).encode(), data)

    path = moments.path
    found += [
        Text("description of output moments", moments, path, facts, described, _as_digested),
        Text("header of output moments", moments, path, header,
             lambda text: _safetensors(text, data), _as_digested),
    ]  # fmt: skip
    for what, specimen, name in (
        ("call of a job", job, "job.json"),
        ("call of a job", sums, "job.json"),
        ("progress of a job", sums, "done.json"),
    ):
        path = specimen.path / name
        table = json.loads(path.read_bytes())
        del table["sha256"]
        valid = _as_counted if name == "done.json" else lambda found, path: False
        found.append(Text(what, specimen, path, table, _json(_sealed), valid))
    return found


# --- digests that are right ------------------------------------------------------------------


def _json(sign: Callable[[dict[str, Any]], bytes]) -> Callable[[bytes], bytes]:
    """Signs what is a JSON object, and leaves other texts as they are."""

    def signed(text: bytes) -> bytes:
        try:
            found = json.loads(text)
            return sign(found) if isinstance(found, dict) else text
        except (ValueError, RecursionError, LplrError):
            return text

    return signed


def _manifest(found: dict[str, Any]) -> bytes:
    digest = hashlib.sha256(to_json(found, "")).hexdigest()
    return to_json({**found, "sha256": digest}, "")


def _sealed(found: dict[str, Any]) -> bytes:
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return json.dumps({**found, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


def _safetensors(text: bytes, data: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def _header(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a .safetensors file, and its data."""
    whole = path.read_bytes()
    stop = 8 + int.from_bytes(whole[:8], "little")
    return json.loads(whole[8:stop]), whole[stop:]


# --- rules -----------------------------------------------------------------------------------


def _rewritten(found: Any, path: Path) -> bool:
    """Whether the matrix in parts, written again, has the same manifest but for names of files."""
    again = path.with_name("rewritten")
    save(again, load(path), attrs=inspect(path)["attrs"], parts=True, overwrite=True)
    said = [json.loads((folder / "manifest.json").read_bytes()) for folder in (path, again)]
    for manifest in said:
        del manifest["sha256"]
        for entry in manifest["parts"]:
            del entry["file"]
    return bool(said[0] == said[1])


def _as_described(found: Any, path: Path) -> bool:
    """Whether each tensor is the one in its file, and its shape and size are those described."""
    _, model, _, tensors, _ = found
    right = {}
    for entry in (*model["layers"], *model["embedding"]):
        packed = load(path / entry["file"])
        right[entry["name"] + ".weight" * (entry in model["layers"])] = packed
        if (entry["shape"], entry["nbytes"]) != (list(packed.shape), packed.nbytes):
            return False
    header, data = _header(path / "kept.safetensors")
    for entry in model["kept"]:
        said = header[entry["name"]]
        begin, end = said["data_offsets"]
        kept = np.frombuffer(data[begin:end], {"F16": "<f2", "F32": "<f4"}[said["dtype"]])
        right[entry["name"]] = kept.astype(np.float32).reshape(said["shape"])
        if [entry["dtype"], entry["shape"], entry["nbytes"]] != [
            said["dtype"], said["shape"], end - begin,
        ]:  # fmt: skip
            return False
    return bool(tensors == {name: state(value) for name, value in right.items()})


def _as_digested(found: Any, path: Path) -> bool:
    """Whether each tensor of output moments has the place and the digest that the file says."""
    header, data = _header(path)
    (_, facts, *_), tensors = found
    for name, (dtype, shape, content) in tensors.items():
        begin, end = header[name]["data_offsets"]
        said = header[name]["shape"], data[begin:end], facts["sha256"][name]
        if (list(shape), content, hashlib.sha256(content).hexdigest()) != said or dtype != "<f4":
            return False
    return True


def _as_counted(found: Any, path: Path) -> bool:
    """Whether a job goes on behind the batches that are summed up."""
    said = json.loads((path / "done.json").read_bytes())
    batches, loss, sums, weights = found
    stored = [path / f"sums-{batches % 2}.bin", path / "weights.bin"]
    counts = said["batches"], said["sequences"]
    return bool(
        (batches, loss) == (said["batches"], said["loss"])
        and [sums, weights] == [file.read_bytes() for file in stored]
        and [type(count) for count in counts] == [int, int]
        and 0 < batches <= said["sequences"]  # a batch has one sequence or more
        and math.isfinite(loss)
    )
