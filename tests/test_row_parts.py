"""Matrices in parts: what they are, their folders, and what damaged folders do."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import CorruptFileError, ExistingFileError, InputError, StorageError
from lplr.storage.folder import MANIFEST, Folder
from lplr.storage.folder_writer import add_parts

D = 24


@pytest.fixture(scope="module")
def kinds() -> dict[str, list[lplr.PackedMatrix]]:
    """Parts of 4200 and of 300 rows of each kind of packed matrix."""
    rng = np.random.default_rng(0)
    pieces = [
        rng.standard_normal((n, D), np.float32) / np.arange(1, D + 1, dtype=np.float32)
        for n in (4200, 300)
    ]
    return {
        "quantized": [lplr.quantize(X, bits=3) for X in pieces],
        "low-rank": [lplr.factorize(X, rank=4, bits=2, effort="fast", rng=0) for X in pieces],
        "backbone": [lplr.compress(X, bits_per_entry=4, effort="fast", rng=0) for X in pieces],
    }


@pytest.fixture(scope="module")
def folders(kinds: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    for kind, parts in kinds.items():
        lplr.save(root / kind, lplr.RowParts(parts, {"made": kind}), parts=True, attrs={"a": 1})
    return root


@pytest.mark.parametrize("kind", ["quantized", "low-rank", "backbone"])
def test_a_folder_is_the_matrix_of_its_parts(
    kind: str, kinds: dict[str, list[lplr.PackedMatrix]], folders: Path, tmp_path: Path
) -> None:
    parts = kinds[kind]
    dense = np.vstack([part.to_dense() for part in parts])
    f = lplr.load(folders / kind)

    def same(found: np.ndarray, expected: np.ndarray) -> bool:
        return np.allclose(found, expected, rtol=0, atol=1e-5)  # products of blocks of other sizes

    assert (f.shape, f.nbytes) == (dense.shape, sum(part.nbytes for part in parts))
    assert (f.rank, f.code, f.meta) == (parts[0].rank, parts[0].code, {"made": kind})
    assert same(f.to_dense(), dense)
    rows = np.array([4499, 3, 4200, 4199, 3])
    assert same(f[rows], dense[rows])
    assert same(f.to_dense(rows), dense[rows])
    assert same(f[4198:4203], dense[4198:4203])
    assert same(np.array(list(f)), dense)
    rng = np.random.default_rng(1)
    x, Y = rng.standard_normal(D), rng.standard_normal((len(f), 2))
    # Sums of float32 products: errors of D or of 4500 terms times eps.
    assert np.allclose(f @ x, dense @ x, atol=1e-4)
    assert np.allclose(f.T @ Y, dense.T @ Y, atol=1e-2)
    A = dense + rng.standard_normal(dense.shape).astype(np.float32)
    expected = np.linalg.norm(A - dense.astype(np.float64)) / np.linalg.norm(A)
    assert np.isclose(f.relative_error(A), expected, rtol=1e-6)
    assert same(f.scaled(2.0)[4195:4205], 2 * dense[4195:4205])
    # One file, and back.
    one, back = tmp_path / "one.h5", tmp_path / "back"
    lplr.save(one, f)
    assert same(lplr.load(one).to_dense(), dense)
    lplr.save(back, lplr.load(one), parts=True, attrs={"a": 1})
    assert lplr.verify(back) == lplr.verify(folders / kind)


def test_any_part_is_a_file_of_its_own(kinds: dict[str, Any], folders: Path) -> None:
    part = lplr.load(folders / "low-rank" / "part-00001.h5")
    assert np.array_equal(part.to_dense(), kinds["low-rank"][1].to_dense())


def test_opening_reads_no_codes(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("lplr.storage.folder.read_stored", refuse)
    f = lplr.load(folders / "quantized")
    assert f.shape == (4500, D)
    assert f.nbytes > 0
    about = lplr.inspect(folders / "quantized")
    assert [part["rows"] for part in about["parts"]] == [4200, 300]
    assert about["attrs"] == {"a": 1}


def test_at_most_two_parts_are_kept(kinds: dict[str, Any]) -> None:
    opened = []

    class Far:
        shape, nbytes = kinds["quantized"][1].shape, kinds["quantized"][1].nbytes

        def open(self) -> Any:
            opened.append(self)
            return kinds["quantized"][1]

    f = lplr.RowParts([Far() for _ in range(5)])
    f @ np.ones(D)
    f.relative_error(np.ones(f.shape))
    assert len(f._opened._kept) == 2
    assert len(opened) == 2 * 5


def test_parts_are_added_below(kinds: dict[str, Any], tmp_path: Path) -> None:
    first, second = kinds["quantized"]
    lplr.save(tmp_path / "f", first, parts=True)
    left = tmp_path / "f" / "part-00007.h5"
    left.write_bytes(b"of a killed process")
    add_parts(tmp_path / "f", [second, second])
    assert not left.exists()
    f = lplr.load(tmp_path / "f")
    dense = np.vstack([first.to_dense(), second.to_dense(), second.to_dense()])
    assert np.array_equal(f.to_dense(), dense)
    before = lplr.verify(tmp_path / "f")
    with pytest.raises(InputError, match="columns"):
        add_parts(tmp_path / "f", [second, lplr.quantize(np.eye(3), bits=2)])
    assert lplr.verify(tmp_path / "f") == before
    assert len(list((tmp_path / "f").glob("part-*.h5"))) == 3


def test_what_is_there_stays(
    folders: Path, kinds: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = kinds["quantized"][1]
    with pytest.raises(ExistingFileError):
        lplr.save(folders / "quantized", f, parts=True)
    (tmp_path / "notes").mkdir()
    with pytest.raises(StorageError, match="not a folder of parts"):
        lplr.save(tmp_path / "notes", f, parts=True, overwrite=True)
    with pytest.raises(InputError, match="one packed matrix"):
        lplr.save(tmp_path / "many", {"f": f}, parts=True)
    lplr.save(tmp_path / "f", kinds["low-rank"][0], parts=True)
    with monkeypatch.context() as patch:
        rename, renamed = os.rename, []

        def fail_once(*names: Any) -> None:
            renamed.append(names)
            if len(renamed) == 2:  # the old one is aside, and the new one has no name yet
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(*names)

        patch.setattr(os, "rename", fail_once)
        patch.setattr("lplr.storage.names.swap", lambda *_: False)  # as some systems
        with pytest.raises(StorageError, match="cannot write"):
            lplr.save(tmp_path / "f", f, parts=True, overwrite=True)
    assert lplr.load(tmp_path / "f").code == kinds["low-rank"][0].code
    lplr.save(tmp_path / "f", f, parts=True, overwrite=True)
    assert lplr.load(tmp_path / "f").shape == f.shape
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "notes"]


def _change(folder: Path, change: Any) -> None:
    """A manifest with a right digest whose members are other ones."""
    import hashlib

    from lplr.storage.text import to_json

    found = json.loads((folder / MANIFEST).read_text())
    change(found)
    del found["sha256"]
    found["sha256"] = hashlib.sha256(to_json(found, "it")).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(found))


HOSTILE = {
    "outside": lambda m: m["parts"][0].update(file="../part-00000.h5"),
    "absolute": lambda m: m["parts"][0].update(file="/etc/passwd"),
    "foreign": lambda m: m["parts"][0].update(file="notes.h5"),
    "twice": lambda m: m["parts"].append(m["parts"][0]),
    "none": lambda m: m["parts"].clear(),
    "rows": lambda m: m["parts"][0].update(rows=0),
    "true rows": lambda m: m["parts"][0].update(rows=True),
    "size": lambda m: m["parts"][0].update(nbytes=-1),
    "digest": lambda m: m["parts"][0].update(sha256="0" * 64),
    "no digest": lambda m: m["parts"][0].update(sha256="x"),
    "more": lambda m: m.update(more=1),
    "entry": lambda m: m["parts"].append(3),
    "format": lambda m: m.update(format="zarr"),
    "newer": lambda m: m.update(version=2),
    "older": lambda m: m.update(version=0),
    "columns": lambda m: m.update(columns=0),
    "too many rows": lambda m: [part.update(rows=1 << 62) for part in m["parts"]],
    "too many bytes": lambda m: m["parts"][0].update(nbytes=10**400),
    "too many columns": lambda m: m.update(columns=1 << 63),
    "long number": lambda m: m["parts"][0].update(file=f"part-{'9' * 5000}.h5"),
    "other digits": lambda m: m["parts"][0].update(file="part-٠٠٠٠٠.h5"),
    "swapped": lambda m: m["parts"][0].update(sha256=m["parts"][1]["sha256"]),
}
TEXTS = {
    "flipped": lambda text: text.replace('"columns":24', '"columns":25'),
    "duplicate": lambda text: text.replace("{", '{"columns":1,', 1),
    "nan": lambda text: text.replace("24", "NaN", 1),
    "cut": lambda text: text[:-9],
    "list": lambda text: f"[{text}]",
    "empty": lambda text: "",
}


@pytest.fixture
def folder(kinds: dict[str, Any], tmp_path: Path) -> Path:
    lplr.save(tmp_path / "f", lplr.RowParts(kinds["quantized"]), parts=True)
    return tmp_path / "f"


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_manifests_are_refused(change: str, folder: Path) -> None:
    _change(folder, HOSTILE[change])
    for read in (lplr.load, lplr.verify, lplr.inspect):
        with pytest.raises(CorruptFileError):
            read(folder)


@pytest.mark.parametrize("change", TEXTS)
def test_damaged_manifests_are_refused(change: str, folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(TEXTS[change](path.read_text()))
    with pytest.raises(CorruptFileError):
        lplr.load(folder)


def test_a_manifest_that_says_other_rows_is_found_out_when_the_part_is_opened(folder: Path) -> None:
    _change(folder, lambda m: m["parts"][0].update(rows=4199))
    with pytest.raises(CorruptFileError, match="4199"):
        lplr.load(folder).to_dense()


def test_damaged_parts_are_named(folder: Path, kinds: dict[str, Any]) -> None:
    part = folder / "part-00001.h5"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptFileError, match="part-00001"):
        lplr.verify(folder)
    part.write_bytes(whole[:-1])
    with pytest.raises(CorruptFileError, match="part-00001"):
        lplr.load(folder)
    part.write_bytes(whole)
    f = lplr.load(folder)
    part.unlink()
    with pytest.raises(CorruptFileError, match=r"part-00001.*missing"):
        lplr.load(folder)
    with pytest.raises(CorruptFileError, match=r"part-00001.*missing"):  # while it is in use
        f.rows(*f.edges[1:])
    part.write_bytes(whole)
    (folder / "part-00000.h5").unlink()
    lplr.save(folder / "part-00000.h5", {"f": kinds["quantized"][0]})
    sha256 = lplr.verify(folder / "part-00000.h5")
    _change(folder, lambda m: m["parts"][0].update(sha256=sha256))
    with pytest.raises(CorruptFileError, match="does not hold one packed matrix"):
        lplr.verify(folder)


def test_what_a_folder_cannot_be_asked(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        lplr.load(folders / "quantized", name="x")
    with pytest.raises(lplr.exceptions.FolderError):
        lplr.load(tmp_path)
    with pytest.raises(InputError, match="no parts of its own"):
        lplr.RowParts([lplr.load(folders / "quantized")])
    with pytest.raises(InputError, match="one or more"):
        lplr.RowParts([])
    assert Folder.read(folders / "quantized").load().nbytes > 0
