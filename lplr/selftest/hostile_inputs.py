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

from lplr.exceptions import CorruptFileError, InputError, UnsafeFileError
from lplr.extras import optional
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


def _modest(folder: Path) -> Path:
    """A vector that has a thousand times the bytes that the archive says."""
    path = _bomb("(8192,)", 128 << 20)(folder)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", len(_shaped("(8192,)")) + 8 * 8192)
    path.write_bytes(data)
    return path


def _crowd(folder: Path) -> Path:
    """An archive of many members, none of which is there."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 8) + bytes(16)
    listed = b"".join(entry + b"%08x" % i for i in range(200_000))
    ends = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, len(listed), 0, 0)
    (folder / "a.npz").write_bytes(listed + ends)
    return folder / "a.npz"


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
    "two negative sizes": _shaped("(-3, -4)") + bytes(96),
    "a size beyond number in an empty array": _shaped(f"(0, {2**70})"),
    "more dimensions than there can be": _shaped("(" + 65 * "1," + ")") + bytes(8),
    "a type of nothing": _shaped("(2,)", "()"),
    "a type without a shape": _shaped("(2,)", "('<f8',)"),
    "a type that is a row": _shaped("(2,)", "('<f8', (3,))") + bytes(48),
    "another version": b"\x93NUMPY\x09\x00" + _shaped("(3, 4)")[8:],
    "a pickle by another name": pickle.dumps(_Bomb()),
}
_NPZ = {
    "two members of one name": _twice,
    "a member larger than it says": _modest,
    "members beyond number": _crowd,
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
    "a name that is no text": _safetensors({"\ud800": _entry([2], 0, 8)}, bytes(8)),
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
    "a picture of blanks": ("a.pgm", b"P5" + b" " * (4 << 20) + b"1 1 255\n"),
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


def _deep(file: h5py.File) -> None:
    group = file.id
    for _ in range(9000):
        group = h5py.h5g.create(group, b"a")


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

# --- Parquet ---------------------------------------------------------------------------------


def _parquet(columns: Callable[[Any], list[Any]]) -> Maker:
    """Columns that all have one name."""

    def make(folder: Path) -> Path:
        arrow = optional("pyarrow", "a Parquet file")
        found = columns(arrow)
        table = arrow.Table.from_arrays(found, ["x"] * len(found))
        optional("pyarrow.parquet", "a Parquet file").write_table(table, folder / "a.parquet")
        return folder / "a.parquet"

    return make


_PARQUET = {
    "no columns": _parquet(lambda arrow: []),
    "two columns of one name": _parquet(lambda arrow: 2 * [arrow.array([[1.0], [2.0]])]),
    "rows of no length": _parquet(
        lambda arrow: [arrow.array([[]], arrow.list_(arrow.float32(), 0))]
    ),
}


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
    "HDF5: groups in groups": Hostile(_hdf5(_deep), "arrays", CorruptFileError),
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
    **{f"Parquet: {k}": Hostile(v, "arrays", InputError) for k, v in _PARQUET.items()},
    "text: not in UTF-8": Hostile(_file("a.txt", b"\xff\xfe\0"), "text", InputError),
}  # fmt: skip
