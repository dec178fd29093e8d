"""Files of other programs that lie, swell, execute or point elsewhere."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lplr.exceptions import (
    CorruptFileError,
    FolderError,
    InputError,
    MissingFileError,
    UnsafeFileError,
)
from lplr.selftest.hostile_file import TRAP, Hostile, Maker

__all__ = ["INPUTS"]

_A = np.arange(12.0).reshape(3, 4)


class _Bomb:
    """Leaves a trace if it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (TRAP,)


def _file(name: str, content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


# --- .npy and .npz ---------------------------------------------------------------------------


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _shaped(shape: str, descr: str = "'<f8'") -> bytes:
    return _npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[_Bomb(), 1]], dtype=object), allow_pickle=True)
    return file.getvalue()


def _zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Maker:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.npz", "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)
        return folder / "a.npz"

    return make


def _bomb(shape: str, nbytes: int) -> Maker:
    """Zeros that were a thousand times as many before they were compressed."""

    def make(folder: Path) -> Path:
        with (
            zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("x.npy", "w", force_zip64=True) as file,
        ):
            file.write(_shaped(shape))
            for _ in range(nbytes >> 20):
                file.write(bytes(1 << 20))
        return folder / "a.npz"

    return make


def _twice(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(2):
            archive.writestr("x.npy", _shaped("(0, 4)"))
    return folder / "a.npz"


_HUGE = f"({2**40}, {2**40})"
_NPY = {
    "a shape that overflows": _shaped(_HUGE),
    "a shape that wraps to nothing": _shaped(f"({2**32}, {2**32}, {2**32})"),
    "a negative shape": _shaped("(-1, 4)"),
    "a shape of 1e400": _shaped("(1e400, 4)"),
    "a shape of a name": _shaped("(a, 4)"),
    "a shape that is deep": _npy("(" * 5000),
    "a shape that calls": _shaped("(__import__('os').mkdir('exploded'),)"),
    "entries of no size": _shaped(_HUGE, "'V0'"),
    "texts of no size": _shaped(_HUGE, "'S0'"),
    "a type that is none": _shaped("(3, 4)", "'os.system'"),
    "a type in a type": _shaped("(3, 4)", "[('a', [('b', '<f8')] * 9)]"),
    "a header without an end": b"\x93NUMPY\x01\x00\xff\xff{",
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "another version": b"\x93NUMPY\x09\x00" + _shaped("(3, 4)")[8:],
    "a pickle by another name": pickle.dumps(_Bomb()),
}
_NPZ = {
    "two members of one name": _twice,
    "a member that is cut": _zipped(("x.npy", _shaped("(3, 4)"))),
    "a member that is no array": _zipped(("x.npy", b"hello")),
    "an archive of nothing": _file("a.npz", b"PK\x05\x06" + bytes(18)[:10]),
}
_BOMBS = {
    "a bomb of a matrix": _bomb("(65536, 256)", 128 << 20),
    "a bomb of a vector": _bomb("(16777216,)", 128 << 20),
    "a member of another compression": _zipped(
        ("x.npy", _shaped("(0, 4)")), compression=zipfile.ZIP_LZMA
    ),
}

# --- .safetensors ----------------------------------------------------------------------------


def _safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


_SAFETENSORS = {
    "a header longer than the file": (2**63).to_bytes(8, "little") + b"{}",
    "a header that is deep": _safetensors(b"[" * 100_000),
    "a header of empty lists": _safetensors(b'{"a": [' + b"[]," * 5_000_000 + b"1]}"),
    "a header of names": _safetensors(
        b"{" + b",".join(b'"%x":1' % i for i in range(1_000_000)) + b"}"
    ),
    "a name twice": _safetensors(b'{"a": 1, "a": 1}'),
    "a size of 1e400": _safetensors({"a": _entry([float("inf")], 0, 8)}, bytes(8)),
    "a size of NaN": _safetensors({"a": _entry([float("nan")], 0, 8)}, bytes(8)),
    "a size that overflows": _safetensors({"a": _entry([2**62, 2**62], 0, 0)}),
    "a negative size": _safetensors({"a": _entry([-1, -2], 0, 8)}, bytes(8)),
    "bytes of two tensors": _safetensors(dict.fromkeys("ab", _entry([2], 0, 8)), bytes(8)),
    "a gap": _safetensors({"a": _entry([2], 8, 16)}, bytes(16)),
    "offsets that run backwards": _safetensors({"a": _entry([2], 8, 0)}, bytes(8)),
    "more than it declares": _safetensors({"a": _entry([2], 0, 8)}, bytes(9)),
}  # fmt: skip


# --- vectors, pictures, text -----------------------------------------------------------------


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        whole = kind + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data, 9))
        + chunk(b"IEND", b"")
    )


_LONG_WORD = b"P2 1000 1000 9 " + b"1 " * 999_999 + b"1" * 4_000_000
_PICTURES: dict[str, tuple[str, bytes]] = {
    "a picture without pixels": ("a.png", _png(8, 8, b"")),
    "a picture of a word": ("a.pgm", _LONG_WORD),
    "a picture that declares more": ("a.pgm", b"P5 999999999 999999999 255 \0"),
    "a picture of a sign": ("a.pgm", b"P2 1 1 9 -1"),
    "a program": ("a.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n(x) (w) file\n"),
}
_LARGE: dict[str, tuple[str, bytes]] = {
    "a picture of 100 million pixels": ("a.png", _png(10_000, 10_000, bytes(10_001 * 100))),
    "a picture of 3 billion pixels": ("a.png", _png(60_000, 60_000, bytes(60_001))),
}
_VECTORS = {
    "vectors of no length": bytes(16),
    "vectors of a negative length": struct.pack("<i", -4) + bytes(16),
    "vectors longer than the file": struct.pack("<i", 2**31 - 1) + bytes(16),
    "vectors of two lengths": struct.pack("<ififf", 1, 0.0, 2, 0.0, 0.0)[:16],
}

# --- HDF5 ------------------------------------------------------------------------------------


def _hdf5(evil: Callable[[h5py.File], object]) -> Maker:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "a.h5", "w") as file:
            evil(file)
        return folder / "a.h5"

    return make


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/dev/zero", "x", (3,))
    file.create_virtual_dataset("x", layout)


_UNSAFE_HDF5 = {
    "a virtual dataset": _virtual,
    "external storage": lambda file: file.create_dataset(
        "x", (3,), "f8", external=[("/dev/zero", 0, 24)]
    ),
    "a dataset of objects": lambda file: file.create_dataset(
        "x", data=["a"], dtype=h5py.string_dtype()
    ),
    "a dataset of references": lambda file: file.create_dataset("x", (3,), h5py.ref_dtype),
    "a compound type": lambda file: file.create_dataset("x", data=np.zeros(3, "u1,f4")),
}

# --- GGUF ------------------------------------------------------------------------------------


def _gguf(n_tensors: int, n_metadata: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_metadata) + rest


def _text(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


_GGUF = {
    "tensors beyond number": _gguf(2**63, 0, b""),
    "metadata beyond number": _gguf(0, 2**63, _text(b"a") + struct.pack("<IB", 0, 1)),
    "a text longer than the file": _gguf(0, 1, _text(b"a", 2**63)),
    "a list longer than the file": _gguf(0, 1, _text(b"a") + struct.pack("<IIQ", 9, 0, 2**61)),
    "a list of a list": _gguf(0, 1, _text(b"a") + struct.pack("<IIQ", 9, 9, 1)),
    "a list of bytes": _gguf(
        0, 1, _text(b"a") + struct.pack("<IIQ", 9, 0, 8 << 20) + bytes(8 << 20)
    ),
    "a list of empty texts": _gguf(
        0, 1, _text(b"a") + struct.pack("<IIQ", 9, 8, 1 << 20) + bytes(8 << 20)
    ),
    "a value of no type": _gguf(0, 1, _text(b"a") + struct.pack("<I", 99)),
    "a key twice": _gguf(0, 2, 2 * (_text(b"a") + struct.pack("<IB", 0, 1))),
    "a text that is none": _gguf(0, 1, _text(b"\xff\xfe") + struct.pack("<IB", 0, 1)),
    "a tensor of many dimensions": _gguf(1, 0, _text(b"t") + struct.pack("<I", 2**32 - 1)),
    "a tensor that overflows": _gguf(
        1, 0, _text(b"t") + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0)
    ),
    "a tensor beyond the file": _gguf(1, 0, _text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2**62)),
    "another version": b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
    "no GGUF": b"hello",
    "nothing": b"",
}

# --- places ----------------------------------------------------------------------------------


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.npy")
    return folder / "a.npy"


def _device(folder: Path) -> Path:
    (folder / "a.npy").symlink_to("/dev/zero")
    return folder / "a.npy"


def _loop(folder: Path) -> Path:
    (folder / "a.npy").symlink_to("a.npy")
    return folder / "a.npy"


def _folder(folder: Path) -> Path:
    (folder / "a.npy").mkdir()
    return folder / "a.npy"


def _arrays(name: str, table: dict[str, bytes], error: Any, kind: str = "") -> dict[str, Hostile]:
    return {
        f"{kind or name}: {what}": Hostile(_file(name, content), "arrays", error)
        for what, content in table.items()
    }


INPUTS = {
    **_arrays("a.npy", _NPY, CorruptFileError),
    ".npy: Python objects": Hostile(_file("a.npy", _pickled()), "arrays", UnsafeFileError),
    **{f".npz: {k}": Hostile(v, "arrays", CorruptFileError) for k, v in _NPZ.items()},
    **{f".npz: {k}": Hostile(v, "arrays", InputError) for k, v in _BOMBS.items()},
    ".npz: Python objects": Hostile(_zipped(("x.npy", _pickled())), "arrays", UnsafeFileError),
    **_arrays("a.safetensors", _SAFETENSORS, CorruptFileError),
    **{
        f"picture: {k}": Hostile(_file(*v), "arrays", CorruptFileError)
        for k, v in _PICTURES.items()
    },
    **{f"picture: {k}": Hostile(_file(*v), "arrays", InputError) for k, v in _LARGE.items()},
    **_arrays("a.fvecs", _VECTORS, CorruptFileError),
    **{f"HDF5: {k}": Hostile(_hdf5(v), "arrays", UnsafeFileError) for k, v in _UNSAFE_HDF5.items()},
    "HDF5: chunks that were never stored": Hostile(
        _hdf5(lambda file: file.create_dataset("x", (1 << 20, 1 << 20), "f8", chunks=(64, 64))),
        "arrays",
        CorruptFileError,
    ),
    "HDF5: a bomb": Hostile(
        _hdf5(lambda file: file.create_dataset(
            "x", data=np.zeros((4096, 4096), "f8"), chunks=(512, 4096), compression="gzip"
        )),
        "arrays",
        InputError,
    ),
    **{
        f"GGUF: {k}": Hostile(_file("a.gguf", content), "checkpoint", CorruptFileError)
        for k, content in _GGUF.items()
    },
    "a pipe": Hostile(_pipe, "arrays", InputError),
    "a device": Hostile(_device, "arrays", InputError),
    "a link to itself": Hostile(_loop, "arrays", MissingFileError),
    "a folder": Hostile(_folder, "arrays", FolderError),
    "tokens: a pipe": Hostile(_pipe, "tokens", InputError),
    "tokens: a device": Hostile(_device, "tokens", InputError),
    "packed: a pipe": Hostile(_pipe, "packed", InputError),
    "packed: a device": Hostile(_device, "packed", InputError),
    "packed: a folder": Hostile(_folder, "packed", FolderError),
    "text: a pipe": Hostile(_pipe, "text", InputError),
    "text: a device": Hostile(_device, "text", InputError),
    "text: not in UTF-8": Hostile(_file("a.txt", b"\xff\xfe\0"), "text", InputError),
}  # fmt: skip
