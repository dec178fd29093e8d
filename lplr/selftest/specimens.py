"""One small file of every kind and version that is read, and what it says once it is read.

A specimen that has a digest of its own must never be read with other contents than it was written
with. The formats of others (.npy, .safetensors, GGUF, pictures) have none: of them, damage may be
read as other numbers, and all that is asked is an array or a typed error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.selftest.forge import write_version1
from lplr.selftest.unfinished import JOB_READERS, make_jobs
from lplr.storage.container import load, save

__all__ = ["READERS", "Specimen", "make", "networks", "packed_objects", "state", "tokenizer"]

_CONFIG = {
    "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 16, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8, "tie_word_embeddings": True, "bos_token_id": 0,
    "eos_token_id": 1,
}  # fmt: skip
_TOKENS = np.arange(12, dtype=np.int32).reshape(2, 6) % 16


@dataclass(frozen=True)
class Specimen:
    """A file, or the files of a folder, and how they are read.

    Parameters
    ----------
    kind : str
        What a table calls it.
    path : Path
    reader : str
        Key of `READERS`.
    sealed : bool
        Whether it has a digest of its own.
    """

    kind: str
    path: Path
    reader: str
    sealed: bool

    def files(self) -> list[Path]:
        """The files of it."""
        if self.path.is_file():
            return [self.path]
        return sorted(path for path in self.path.rglob("*") if path.is_file())

    def read(self) -> Any:
        """What it says, all of it: equal for equal contents."""
        return READERS[self.reader](self.path)


def state(obj: Any) -> Any:
    """An object down to the bits of its arrays, in terms that ``==`` compares."""
    if isinstance(obj, np.ndarray):
        return obj.dtype.str, obj.shape, np.ascontiguousarray(obj).tobytes()
    if hasattr(obj, "_state"):
        members = {key: state(value) for key, value in obj._state().items()}
        return type(obj).__name__, json.dumps(dict(obj.meta), sort_keys=True), members
    if isinstance(obj, Mapping):
        return [(key, state(value)) for key, value in obj.items()]
    return repr(obj)


# --- how they are read -----------------------------------------------------------------------


def _folder(path: Path) -> Any:
    from lplr.storage.folder import Folder

    found = Folder.read(path)
    about = found.columns, dict(found.meta), dict(found.attrs)
    return about, [state(part.open()) for part in found.parts]


def _model(path: Path) -> Any:
    from lplr.models.packed import PackedModel

    found = PackedModel(path)
    tensors = {name: state(found[name]) for name in found}
    return repr(found), found.manifest, found.config, tensors, found.tokenizer_files()


def _verified(path: Path) -> Any:
    from lplr.models.packed import PackedModel

    PackedModel(path).verify()
    return [file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()]


def _checkpoint(path: Path) -> Any:
    from lplr.models.checkpoint import open_checkpoint

    found = open_checkpoint(path)
    return found.config, {name: state(found[name]) for name in found}, found.tokenizer_files()


def _moments(path: Path) -> Any:
    from lplr.models.moments_file import open_moments

    found = open_moments(path)
    names = found.facts["sha256"]
    about = repr(found), found.facts, found.layers, found.estimators
    return about, {name: state(found._tensor(name)) for name in names}


def _arrays(path: Path) -> Any:
    from lplr.inputs import ArrayFile

    return [(name, found.note, state(found.array)) for name, found in ArrayFile(str(path)).items()]


def _tokens(path: Path) -> Any:
    from lplr.models.texts import token_windows

    return state(token_windows(path, length=4, vocabulary=16))


def _text(path: Path) -> Any:
    from lplr.models.texts import read_text

    return read_text(path)


def _network(path: Path) -> Any:
    from lplr.models.opening import open_network

    found = open_network(path)
    return state(found.logits(np.zeros((1, 2), np.int32)))


def _tokenizer_of(path: Path) -> Any:
    from lplr.models.tokenizer import Tokenizer

    found = Tokenizer(path.read_bytes())
    return state(found.encode("!" * 40 + "a" * 40 + " #b")), found.decode([0])


def _document(path: Path) -> Any:
    from lplr.models.evaluation.document import read_document

    return read_document(path)


def _questions(path: Path) -> Any:
    from lplr.models.evaluation.choices import read_questions

    return read_questions(path)


def _table(path: Path) -> Any:
    from lplr.storage.table import read_table

    return read_table(path / "rows.jsonl")


READERS: dict[str, Callable[[Path], Any]] = {
    "packed": lambda path: state(load(path)),
    "folder": _folder,
    "model": _model,
    "verified model": _verified,
    "checkpoint": _checkpoint,
    "network": _network,
    "tokenizer": _tokenizer_of,
    "document": _document,
    "questions": _questions,
    "moments": _moments,
    "arrays": _arrays,
    "tokens": _tokens,
    "text": _text,
    "table": _table,
    **JOB_READERS,
}

# --- how they are made -----------------------------------------------------------------------


def packed_objects() -> dict[str, Any]:
    """A small one of each kind that a packed file holds."""
    import lplr
    from lplr.matrices.low_rank import LowRank
    from lplr.matrices.q_plus_low_rank import QPlusLowRank
    from lplr.matrices.row_parts import RowParts
    from lplr.matrices.stacked import Stacked

    A = np.random.default_rng(0).standard_normal((12, 10))
    low_rank = lplr.factorize(A, rank=2, bits=4, rng=0)
    caldera = lplr.caldera(A, rank=2, q_bits=2, factor_bits=4, rng=0)
    codes = ("uniform", 3), ("normal-float", 4), ("lloyd-max", 2), ("e8p", 2), ("trellis-8", 2)
    made: dict[str, Any] = {
        name: lplr.quantize(A, bits=bits, quantizer=name, granularity="row") for name, bits in codes
    }
    rows = Stacked((low_rank.left, low_rank.left), axis=0)
    wide = Stacked((low_rank.left, low_rank.left), axis=1)
    tall = Stacked((low_rank.right, low_rank.right), axis=0)
    return made | {
        "low-rank": low_rank,
        "stacked": QPlusLowRank(rows, None),
        "stacked factors": LowRank(wide, tall),
        "caldera": caldera,
        "q-plus-low-rank": QPlusLowRank(caldera.backbone, low_rank, caldera.left, caldera.right),
        "row-parts": RowParts((low_rank, made["e8p"]), {"note": "in parts"}),
        "many": {"layers.0/up": low_rank, "": made["uniform"], "bias": np.arange(3.0)},
        "lplr-model": lplr.LPLR(n_components=2, bits=4, random_state=0).fit(A),
        "k-neighbors-classifier": lplr.KNeighborsClassifier(
            2, bits_per_entry=6, random_state=0
        ).fit(A, ["x", "y", "z"] * 4),
    }


def make(folder: Path) -> list[Specimen]:
    """All specimens, in a folder that is there and empty."""
    jobs = [Specimen("job", path, reader, True) for reader, path in make_jobs(folder).items()]
    return [*_packed(folder), *networks(folder), *jobs, *_inputs(folder)]


def _packed(folder: Path) -> Iterator[Specimen]:
    objects = packed_objects()
    for name, obj in objects.items():
        path = folder / f"{name}.h5"
        save(path, obj, attrs={"note": name})
        yield Specimen("packed file, version 2", path, "packed", True)
    for name in ("uniform", "e8p", "trellis-8", "low-rank", "q-plus-low-rank"):
        path = folder / f"{name}-1.h5"
        write_version1(path, objects[name])
        yield Specimen("packed file, version 1", path, "packed", True)
    save(folder / "parts", objects["row-parts"], attrs={"n": 1}, parts=True)
    yield Specimen("folder of parts", folder / "parts", "folder", True)


def networks(folder: Path) -> Iterator[Specimen]:
    import lplr
    from lplr.exceptions import MissingPackageError
    from lplr.models.families import family_of
    from lplr.models.writers import export_folder, export_gguf

    shapes = family_of(_CONFIG).tensors()
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    files = {"tokenizer.json": tokenizer()}
    source = folder / "checkpoint"
    export_folder(source, _CONFIG, shapes, tensors.__getitem__, files, shard_bytes=1000)
    yield Specimen("checkpoint folder", source, "checkpoint", False)
    lplr.models.compress(source, folder / "model", method="quantize", bits_per_weight=9)
    yield Specimen("compressed model", folder / "model", "model", True)
    yield Specimen("compressed model, verified", folder / "model", "verified model", True)
    moments = folder / "moments.safetensors"
    lplr.models.output_moments(source, _TOKENS, out=moments)
    yield Specimen("output moments", moments, "moments", True)
    try:
        export_gguf(folder / "m.gguf", _CONFIG, shapes, tensors.__getitem__, files)
    except MissingPackageError:
        return
    yield Specimen("GGUF", folder / "m.gguf", "checkpoint", False)


def tokenizer(**members: Any) -> bytes:
    """A tokenizer.json of single bytes; with these members in place of its own."""
    tokens = [*(chr(33 + i) for i in range(14)), "<s>", "</s>"]
    added = [
        {"id": 14 + i, "content": t, "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for i, t in enumerate(tokens[14:])
    ]  # fmt: skip
    split = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True
    }  # fmt: skip
    whole = {
        "version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": split,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": []},
        "post_processor": None, "decoder": split,
    }  # fmt: skip
    return json.dumps(whole | members).encode()


def _inputs(folder: Path) -> Iterator[Specimen]:
    import h5py
    from PIL import Image

    from lplr.exceptions import MissingPackageError
    from lplr.extras import optional
    from lplr.storage.table import write_table

    A = np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32)
    np.save(folder / "a.npy", A)
    np.savez_compressed(folder / "a.npz", a=A, b=A[:2])
    for name, options in (("plain", {}), ("packed", {"compression": "gzip", "shuffle": True})):
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            file.create_dataset("group/a", data=A, **options)
    vectors = np.zeros(6, np.dtype([("length", "<i4"), ("entries", "<f4", (5,))]))
    vectors["length"], vectors["entries"] = 5, A
    vectors.tofile(folder / "a.fvecs")
    bytes_ = np.zeros(6, np.dtype([("length", "<i4"), ("entries", "u1", (5,))]))
    bytes_["length"] = 5
    bytes_.tofile(folder / "a.bvecs")
    tensors = {"a": {"dtype": "F32", "shape": [6, 5], "data_offsets": [0, 120]},
               "b": {"dtype": "BF16", "shape": [2], "data_offsets": [120, 124]},
               "__metadata__": {"note": "small"}}  # fmt: skip
    text = json.dumps(tensors).encode()
    whole = len(text).to_bytes(8, "little") + text + A.tobytes() + bytes(4)
    (folder / "a.safetensors").write_bytes(whole)
    for kind in ("npy", "npz", "fvecs", "bvecs", "safetensors"):
        yield Specimen(f".{kind}", folder / f"a.{kind}", "arrays", False)
    for name in ("plain", "packed"):
        yield Specimen("HDF5 of others", folder / f"{name}.hdf5", "arrays", False)
    grey = (np.abs(A) * 60).astype(np.uint8)
    picture = Image.fromarray(np.repeat(grey, 3, axis=1))
    for kind in ("png", "tif", "bmp", "gif", "webp", "jpg", "pgm"):
        picture.save(folder / f"a.{kind}")
        yield Specimen("picture", folder / f"a.{kind}", "arrays", False)
    (folder / "text.ppm").write_text("P3\n2 2 7\n0 1 2 3 4 5 6 7 0 1 2 3\n")
    yield Specimen("picture", folder / "text.ppm", "arrays", False)
    try:
        table = optional("pyarrow", "a Parquet file").table({"x": list(A), "y": A[:, 0]})
        optional("pyarrow.parquet", "a Parquet file").write_table(table, folder / "a.parquet")
        yield Specimen(".parquet", folder / "a.parquet", "arrays", False)
    except MissingPackageError:
        pass
    np.save(folder / "tokens.npy", _TOKENS)
    yield Specimen("token file", folder / "tokens.npy", "tokens", False)
    (folder / "words.txt").write_text("Low rank, und auch ein wenig Präzision.\n", encoding="utf-8")
    yield Specimen("text", folder / "words.txt", "text", False)
    (folder / "table").mkdir()
    write_table(folder / "table" / "rows.jsonl", [{"a": 1, "b": "x"}] * 3, attrs={"seed": 0})
    yield Specimen("table of results", folder / "table", "table", False)
