"""A compressed model on disk: what is written comes back, packed, and any damage is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refused, report
from packed_models import FIXTURES, IDS, compressed, in_bfloat16, outputs

import lplr
from lplr.exceptions import CorruptFileError, LplrError, MissingFileError, UnsafeFileError
from lplr.inputs import safetensors
from lplr.models.manifest import as_text, files_of
from lplr.models.packed import PackedModel


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compressed(FIXTURES / "llama", tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "small"))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "bert"])
def test_what_was_written_comes_back_packed(kind: str, tmp_path: Path) -> None:
    source = in_bfloat16(kind, tmp_path / "source")
    network = lplr.models.load(compressed(source, tmp_path / "small"))
    original = lplr.models.open_network(source)
    assert network.tensors.keys() == network.family.tensors().keys()
    layers = {
        f"{name}.weight"
        for i in range(network.family.n_blocks)
        for name in network.family.linears(i)
    }
    for name, tensor in network.tensors.items():
        assert isinstance(tensor, lplr.Quantized) == (name in layers)
        assert name in layers or np.array_equal(tensor, original.tensors[name])
    # 8 bits by rows: the step is 1/255 of a range of about five standard deviations.
    a, b = outputs(original), outputs(network)
    assert 0 < np.abs(a - b).max() < 0.05 * np.abs(a).max()


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_embeddings_give_the_rows_that_were_asked_for(tmp_path: Path, bits: int) -> None:
    source = FIXTURES / "llama"
    network = lplr.models.load(compressed(source, tmp_path / "small", embedding_bits=bits))
    E = network.tensors["model.embed_tokens.weight"]
    assert np.array_equal(network.embed(IDS), E.to_dense()[IDS])
    h = np.random.default_rng(0).standard_normal((2, 3, network.family.width)).astype(np.float32)
    original = lplr.models.open_network(source).head(h)
    # What the codes lose of normal entries, 0.0064 and 0.075; 1.5 for the few rows and columns.
    error = np.linalg.norm(network.head(h) - original) / np.linalg.norm(original)
    assert error < 1.5 * {4: 0.075, 8: 0.0064}[bits]


@pytest.mark.parametrize(
    "folder", sorted(FIXTURES.parent.glob("packed-models-*/*/")), ids=lambda f: f.parent.name
)
def test_frozen_models_open_as_they_always_did(folder: Path) -> None:
    """Made by fixtures/make.py."""
    network = lplr.models.load(folder)
    network.tensors.verify()
    expected = np.load(folder.with_suffix(".npy"))
    # Sums of float32 in another order, as between machines.
    assert np.abs(outputs(network) - expected).max() < 1e-5 * np.abs(expected).max()


def test_any_flipped_byte_is_found(folder: Path) -> None:
    rng = np.random.default_rng(0)
    lplr.models.load(folder).tensors.verify()
    files = [folder / name for name in sorted(files_of(folder))]
    assert len(files) == 3 + 14
    for path in files:
        data = path.read_bytes()
        for place in rng.integers(len(data), size=2 if path.suffix == ".h5" else 30):
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            with pytest.raises(CorruptFileError, match=path.name.replace(".", r"\.")):
                lplr.models.load(folder).tensors.verify()
        path.write_bytes(data)


def test_a_folder_that_is_not_as_described_is_refused(folder: Path, tmp_path: Path) -> None:
    layer = folder / "layers" / "00003.h5"
    data = layer.read_bytes()
    layer.unlink()
    with pytest.raises(CorruptFileError, match="00003.h5: is missing"):
        lplr.models.load(folder)
    layer.write_bytes(data[:-1])
    with pytest.raises(CorruptFileError, match="00003.h5: has"):
        lplr.models.load(folder)
    layer.unlink()
    (tmp_path / "elsewhere.h5").write_bytes(data)
    layer.symlink_to(tmp_path / "elsewhere.h5")
    with pytest.raises(UnsafeFileError, match="layers/00003.h5"):
        lplr.models.load(folder)
    layer.unlink()
    layer.write_bytes(data)
    (folder / "layers" / "notes.txt").write_text("mine")
    with pytest.raises(CorruptFileError, match="notes.txt: does not belong"):
        lplr.models.load(folder)
    (folder / "layers" / "notes.txt").unlink()
    (folder / f".lplr-{'0' * 32}.tmp").write_text("left by a kill")
    lplr.models.load(folder).tensors.verify()
    (folder / "model.json").unlink()
    with pytest.raises(MissingFileError, match="not finished"):
        lplr.models.load(folder)


def test_lplr_verify_names_the_damaged_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = report(capsys, "verify", folder)
    assert told["files"] == len(files_of(folder)) - 1
    for name in ("layers/00002.h5", "kept.safetensors"):
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)
    said = refused(capsys, "verify", folder)
    assert "2 files are damaged" in said
    assert "layers/00002.h5" in said
    assert "kept.safetensors" in said
    assert "--against" in refused(capsys, "verify", folder, "--against", folder)
    assert "has no model.json" in refused(capsys, "verify", FIXTURES / "llama")


def test_info_of_a_compressed_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = report(capsys, "model", "info", folder)
    network = lplr.models.load(folder)
    layers = [f for f in network.tensors.values() if isinstance(f, lplr.Quantized)]
    totals = told["totals"]
    assert totals["layers"]["nbytes"] == sum(f.nbytes for f in layers)
    assert [layer["bits_per_entry"] for layer in told["layers"]] == [
        f.bits_per_entry for f in layers
    ]
    original = lplr.models.open_checkpoint(FIXTURES / "llama")
    assert totals["whole"]["weights"] == sum(tensor.size for tensor in original.values())
    assert told["files_nbytes"] == sum(files_of(folder).values())


def test_info_of_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(capsys, "model", "info", FIXTURES / "gpt2")
    original = lplr.models.open_checkpoint(FIXTURES / "gpt2")
    weights = sum(tensor.size for tensor in original.values())
    assert told["totals"]["whole"] == {
        "weights": weights, "nbytes": 2 * weights, "bits_per_weight": 16.0,
    }  # fmt: skip
    assert len(told["tensors"]) == len(original)


def forged(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Another description under a right digest."""
    path = folder / "model.json"
    model = json.loads(path.read_text())["model"]
    change(model)
    path.write_bytes(as_text(model))


@pytest.mark.parametrize("name", ["../other", "/etc/hostname", "layers/../../other", "a\\b", ""])
def test_names_that_lead_out_of_the_folder_are_refused(folder: Path, name: str) -> None:
    (folder.parent / "other").write_text("not ours")

    def rename(model: dict[str, Any]) -> None:
        model["files"][name] = model["files"].pop("layers/00000.h5")
        model["layers"][0]["file"] = name

    forged(folder, rename)
    with pytest.raises(UnsafeFileError, match="leads out of the folder"):
        lplr.models.load(folder)


def test_descriptions_that_are_none_are_refused(folder: Path) -> None:
    text = (folder / "model.json").read_bytes()
    places: list[tuple[Any, ...]] = [
        ("layers",), ("kept",), ("embedding",), ("files",), ("files", "config.json"),
        ("files", "layers/00001.h5", "nbytes"), ("files", "layers/00001.h5", "sha256"),
        ("layers", 3), ("layers", 3, "name"), ("layers", 3, "shape"), ("layers", 3, "file"),
        ("kept", 0, "name"), ("kept", 0, "shape"), ("format",),
    ]  # fmt: skip
    wrong: list[Any] = [None, 7, "text", [], {}, [1, 2], {"a": 1}, -1, 1e300]
    for *way, last in places:
        for value in wrong:

            def put(
                model: dict[str, Any], way: list[Any] = way, last: Any = last, value: Any = value
            ) -> None:
                for key in way:
                    model = model[key]
                model[last] = value

            (folder / "model.json").write_bytes(text)
            forged(folder, put)
            if last == "embedding" and value in ([], {}):  # as it was
                continue
            with pytest.raises(LplrError):
                lplr.models.load(folder).tensors.verify()


def test_the_header_of_the_kept_tensors_is_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read for each tensor, a header of thousands takes minutes."""
    headers, read = [], safetensors._header
    monkeypatch.setattr(safetensors, "_header", lambda *a: headers.append(1) or read(*a))
    model = PackedModel(folder)
    model.verify()
    assert len(model.manifest["kept"]) > len(headers) == 1


@pytest.mark.parametrize("place", ["layers", "kept"])
def test_a_file_that_goes_away_while_the_model_is_open(folder: Path, place: str) -> None:
    model = PackedModel(folder)
    names = {file: name for name, file in model._files.items()}
    file = next(file for file in names if file.startswith(place))
    (folder / file).unlink()
    with pytest.raises(CorruptFileError, match=file):
        model[names[file]]
