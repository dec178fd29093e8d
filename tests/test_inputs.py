"""Arrays from .npy, .npz and HDF5 files: what is read, and what is refused with which words."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lplr import exceptions
from lplr.cli.main import main
from lplr.exceptions import CorruptFileError, InputError, LplrError, UnsafeFileError
from lplr.inputs import members, read_input, read_member


@pytest.fixture
def A(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A matrix that is a.npy as well, in the current folder."""
    monkeypatch.chdir(tmp_path)
    A = np.random.default_rng(0).standard_normal((80, 60))
    np.save("a.npy", A)
    return A


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "i2", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_mapped_as_it_is(tmp_path: Path, dtype: str, order: Any) -> None:
    A = np.asarray(np.arange(12).reshape(3, 4) > 5 if dtype == "?" else np.arange(12)[:, None])
    A = np.array(A, dtype, order=order)
    np.save(tmp_path / "x.npy", A)
    found = read_input(str(tmp_path / "x.npy")).array
    assert isinstance(found, np.memmap)
    assert found.dtype == A.dtype
    np.testing.assert_array_equal(found, A)


def test_npz_members(A: np.ndarray) -> None:
    np.savez("one.npz", only=A)
    np.savez_compressed("two.npz", b=A, a=np.asfortranarray(A[:5]))
    assert members("two.npz") == ["b", "a"]
    for name, expected in (("one.npz", A), ("one.npz:only", A), ("two.npz:a", A[:5])):
        np.testing.assert_array_equal(read_input(name).array, expected)


def test_hdf5_datasets(A: np.ndarray) -> None:
    with h5py.File("one.h5", "w") as file:
        file.create_dataset("group/x", data=A, compression="gzip")
        file["link"] = h5py.SoftLink("/group/x")
    with h5py.File("two.hdf5", "w") as file:
        file["x"] = A
        file["y"] = A[:5].astype(">f4")
        file["again"] = file["y"]  # a second hard link
    assert members("one.h5") == ["/group/x"]
    for name, expected in (
        ("one.h5", A),
        ("one.h5:/group/x", A),
        ("two.hdf5:y", A[:5].astype("f4")),
        ("two.hdf5:again", A[:5].astype("f4")),
    ):
        np.testing.assert_array_equal(read_input(name).array, expected)


def test_hdf5_datasets_of_several_paths() -> None:
    """Each once, in the order of their names, by the first path that leads to it."""
    with h5py.File("a.h5", "w", track_order=True) as file:
        file["b/c/y"] = file["z/w"] = np.zeros(1)
        file["z/x"] = file["b/c/y"]
        file["b/root"], file["a"] = file["/"], file["b/c"]
        file["s"] = h5py.SoftLink("/z")
        walked: list[str] = []
        file.visititems(lambda name, node: walked.append(f"/{name}"))
        datasets = [name for name in walked if isinstance(file[name], h5py.Dataset)]
    assert members("a.h5") == datasets == ["/a/y", "/z/w"]


def test_a_message_is_one_line_whatever_names_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"x\ny": np.zeros(1), "\x1b[31m": np.zeros(1)})
    with pytest.raises(InputError) as caught:
        read_input(str(tmp_path / "a.npz"))
    assert str(caught.value).endswith(r"of: \x1b[31m, x\ny")


def test_a_colon_in_a_name_is_a_name(A: np.ndarray) -> None:
    np.savez("x.npz:a.npz", A)
    np.testing.assert_array_equal(read_input("x.npz:a.npz").array, A)
    assert members("a.npy") == [""]
    np.testing.assert_array_equal(read_member("a.npy", "").array, A)


# --- damage and traps ------------------------------------------------------------------------


class _Bomb:
    """Leaves a trace if it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


def _write_bad_files(A: np.ndarray) -> None:
    data = Path("a.npy").read_bytes()
    np.save("object.npy", np.array([[_Bomb(), 1]], dtype=object), allow_pickle=True)
    Path("pickle.npy").write_bytes(pickle.dumps(_Bomb()))
    Path("short.npy").write_bytes(data[:-1])
    Path("long.npy").write_bytes(data + b"\0")
    Path("header.npy").write_bytes(data[:50])
    Path("empty.npy").write_bytes(b"")
    Path("wide.npy").write_bytes(data.replace(b"(80, 60)", b"(8e9, 6)"))
    huge = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**40}, {2**40})}}".ljust(117)
    Path("huge.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + huge.encode() + b"\n")
    np.savez("object.npz", x=np.array([[_Bomb()]], dtype=object))
    np.savez("many.npz", x=A, y=A)
    np.savez("good.npz", x=A)
    packed = Path("good.npz").read_bytes()
    Path("short.npz").write_bytes(packed[:-9])
    Path("flip.npz").write_bytes(packed[:5000] + bytes([packed[5000] ^ 1]) + packed[5001:])
    locked = bytearray(packed)
    locked[6] |= 1  # the bits that say: encrypted
    locked[packed.index(b"PK\x01\x02") + 8] |= 1
    Path("locked.npz").write_bytes(locked)
    with zipfile.ZipFile("other.npz", "w") as archive:
        archive.writestr("x.npy", data[:-8])
    with h5py.File("links.h5", "w") as file:
        file["x"] = A
        file["soft"] = h5py.SoftLink("/x")
        file["gone"] = h5py.SoftLink("/nothing")
        file["outside"] = h5py.ExternalLink("plain.h5", "/x")
        file["group/y"] = A
        file["text"] = "hello"
        file["sparse"] = h5py.Empty("f4")
        layout = h5py.VirtualLayout((80, 60), "f8")
        layout[:] = h5py.VirtualSource("plain.h5", "x", (80, 60))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outer", (80, 60), "f8", external=[("outer.bin", 0, 80 * 60 * 8)])
        file.create_dataset("huge", (1 << 20, 1 << 20), "f8", chunks=(64, 64))
    with h5py.File("plain.h5", "w") as file:
        file["x"] = A
    whole = Path("plain.h5").read_bytes()
    Path("short.h5").write_bytes(whole[:-3000])
    Path("text.h5").write_text("hello")
    with h5py.File("none.h5", "w"):
        pass


BAD: list[tuple[str, type[LplrError], str]] = [
    ("object.npy", UnsafeFileError, "pickle"),
    ("pickle.npy", CorruptFileError, "not a valid .npy"),
    ("short.npy", CorruptFileError, "truncated"),
    ("long.npy", CorruptFileError, "after its data"),
    ("header.npy", CorruptFileError, "not a valid .npy"),
    ("empty.npy", CorruptFileError, "not a valid .npy"),
    ("wide.npy", CorruptFileError, "not a valid .npy"),
    ("huge.npy", CorruptFileError, "truncated"),
    ("object.npz", UnsafeFileError, "pickle"),
    ("many.npz", InputError, "name one"),
    ("many.npz:z", InputError, "it has: x, y"),
    ("short.npz", CorruptFileError, "damaged"),
    ("flip.npz", CorruptFileError, "damaged"),
    ("locked.npz", InputError, "encrypted"),
    ("other.npz", CorruptFileError, "truncated"),
    ("links.h5", InputError, "name one"),
    ("links.h5:/z", InputError, "it has: "),
    ("links.h5:/soft", UnsafeFileError, "link"),
    ("links.h5:/gone", UnsafeFileError, "link"),
    ("links.h5:/outside", UnsafeFileError, "link"),
    ("links.h5:/group", InputError, "group"),
    ("links.h5:/x/y", InputError, "it has: "),
    ("links.h5:/text", UnsafeFileError, "not an array of numbers"),
    ("links.h5:/sparse", UnsafeFileError, "not an array of numbers"),
    ("links.h5:/virtual", UnsafeFileError, "other files"),
    ("links.h5:/outer", UnsafeFileError, "other files"),
    ("links.h5:/huge", CorruptFileError, "stores next to none"),
    ("short.h5", CorruptFileError, "damaged"),
    ("text.h5", CorruptFileError, "damaged"),
    ("none.h5", InputError, "0 arrays"),
]


def test_damaged_and_hostile_files(A: np.ndarray) -> None:
    _write_bad_files(A)
    for name, kind, said in BAD:
        with pytest.raises(kind) as caught:
            read_input(name)
        assert type(caught.value) is kind, name
        assert said in str(caught.value), (name, str(caught.value))
        assert name.split(":")[0] in str(caught.value)
    assert not Path("exploded").exists()


# --- HDF5 files that are sound but cannot be read here ---------------------------------------

_WRITER = """
import sys, h5py
file = h5py.File("open.h5", "w", libver=sys.argv[1])
file["x"] = [[1.0, 2.0]]
file.flush()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif("HDF5_USE_FILE_LOCKING" in os.environ, reason="needs HDF5 to lock files")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_hdf5_open_for_writing(A: np.ndarray, libver: str) -> None:
    """Another process has it open; then it is killed, which the newer format remembers."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, libver],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match=r"^open\.h5: another program .*close it there"):
            read_input("open.h5")
    finally:
        writer.kill()
        writer.communicate()
    if libver == "latest":
        with pytest.raises(InputError, match="ended without closing it; .* h5clear --status"):
            read_input("open.h5")
    else:
        assert read_input("open.h5").array.tolist() == [[1.0, 2.0]]


def test_hdf5_on_a_file_system_without_locks(
    A: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*args: object) -> None:
        said = f"Unable to open file (unable to lock file, errno = {errno.ENOLCK}, ...)"
        raise OSError(said)

    Path("x.h5").touch()
    monkeypatch.setattr(h5py, "File", no_locks)
    with pytest.raises(InputError, match="cannot be locked on this file system.*local disk"):
        read_input("x.h5")


def test_hdf5_filter_that_is_not_installed(A: np.ndarray) -> None:
    with h5py.File("x.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4, 4))
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())  # Blosc, of a plugin
        space = h5py.h5s.create_simple((4, 4))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)
        dataset.write_direct_chunk((0, 0), b"what Blosc would write")
    with pytest.raises(InputError, match=r"x\.h5:/x: .* not installed .*number 32001.*gzip"):
        read_input("x.h5")


@pytest.mark.parametrize("user_block", [0, 512, 2048])
def test_hdf5_of_a_newer_library(A: np.ndarray, user_block: int) -> None:
    with h5py.File("x.h5", "w", userblock_size=user_block) as file:
        file["x"] = A
    data = bytearray(Path("x.h5").read_bytes())
    data[user_block + 8] = 9  # the version of the superblock
    Path("x.h5").write_bytes(data)
    with pytest.raises(InputError, match="superblock of version 9, .*update h5py"):
        read_input("x.h5")


def test_hdf5_type_that_numpy_lacks(A: np.ndarray) -> None:
    with h5py.File("x.h5", "w") as file:
        h5py.h5d.create(file.id, b"t", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((2, 2)))
    with pytest.raises(InputError, match="x.h5:/t: has a type that NumPy lacks"):
        read_input("x.h5")


# --- places of files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "python", "code"),
    [
        ("none.npy", exceptions.MissingFileError, FileNotFoundError, errno.ENOENT),
        ("none.h5:/x", exceptions.MissingFileError, FileNotFoundError, errno.ENOENT),
        ("folder.npy", exceptions.FolderError, IsADirectoryError, errno.EISDIR),
        ("secret.npy", exceptions.FilePermissionError, PermissionError, errno.EACCES),
    ],
)
def test_a_place_that_cannot_be_read_is_pythons_own_error_too(
    A: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: type[InputError],
    python: type[OSError],
    code: int,
) -> None:
    Path("folder.npy").mkdir()
    Path("secret.npy").touch()
    # To root, who may run this, everything is readable.
    monkeypatch.setattr(os, "access", lambda path, mode: path != "secret.npy")
    for read in (read_input, lambda name: members(name.split(":")[0])):
        with pytest.raises(python) as caught:
            read(name)
        error: Any = caught.value
        assert type(error) is kind
        assert isinstance(error, InputError)
        assert (error.errno, error.filename) == (code, name.split(":")[0])
        assert str(error).startswith(f"{name.split(':')[0]}: ")
        again = pickle.loads(pickle.dumps(error))  # as it comes back from a worker process
        assert (type(again), str(again), again.errno, again.filename) == (
            kind, str(error), code, error.filename,
        )  # fmt: skip
    assert main(["compress", name, "-o", "out.h5", "--rank", "2"]) == 2
    if kind is exceptions.FolderError:  # the command knows what a folder may be
        assert "for a whole network use: lplr model compress" in capsys.readouterr().err
    else:
        assert capsys.readouterr().err == f"lplr: error: {error}\n"


def test_other_places_and_suffixes(A: np.ndarray) -> None:
    os.mkfifo("pipe.npy")
    with pytest.raises(InputError, match="pipe.npy: is not a regular file"):
        read_input("pipe.npy")
    Path("x.txt").touch()
    with pytest.raises(InputError, match=r"suffix '\.txt' is not known; .*\.npy, .*\.safetensors"):
        read_input("x.txt")


@pytest.mark.parametrize(
    ("output", "python"),
    [
        ("taken.h5", FileExistsError),
        ("none/out.h5", FileNotFoundError),
        ("folder.h5", IsADirectoryError),
    ],
)
def test_outputs(A: np.ndarray, output: str, python: type[OSError]) -> None:
    from lplr.cli.options import check_output

    Path("taken.h5").touch()
    Path("folder.h5").mkdir()
    with pytest.raises(python) as caught:
        check_output(output, (".h5",), False, "a.npy")
    assert isinstance(caught.value, InputError)
