"""Tensors of .safetensors files: every dtype, and files that are not what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, InputError
from lplr.inputs import ArrayFile, members, read_input, read_member
from lplr.inputs.safetensors import read, tensors

NAMES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "F16": "f2",
    "U32": "u4", "I32": "i4", "F32": "f4", "U64": "u8", "I64": "i8", "F64": "f8", "C64": "c8",
}  # fmt: skip


def entry(dtype: str, shape: Any, begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """The format, written naively."""
    header: dict[str, Any] = {"__metadata__": {"made": "by a test"}}
    data = b""
    for name, array in arrays.items():
        kind = {v: k for k, v in NAMES.items()}[
            array.dtype.str.strip("<>|=") if array.dtype != bool else "?"
        ]
        header[name] = entry(kind, list(array.shape), len(data), len(data) + array.nbytes)
        data += array.astype(array.dtype.newbyteorder("<")).tobytes()
    return write(path, header, data)


@pytest.mark.parametrize("padding", range(4))  # aligned or not, as the header happens to end
def test_every_dtype(tmp_path: Path, padding: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"model.{'x' * padding}": np.arange(3, dtype=np.uint8)}
    for kind in NAMES.values():
        arrays[kind] = rng.integers(0, 2, (3, 5)).astype(kind)
    arrays |= {"scalar": np.array(2.5), "nothing": np.empty((0, 7), np.float32)}
    path = save(tmp_path / "all.safetensors", arrays)
    assert list(tensors(path)) == list(arrays)
    for name, array in arrays.items():
        found = read(str(path), name).array
        assert found.dtype == array.dtype
        assert found.flags.aligned
        np.testing.assert_array_equal(found, array)


def test_bfloat16(tmp_path: Path) -> None:
    # The first 16 bits of the float32 of the same sign, exponent and leading digits.
    values = {0x3F80: 1.0, 0xC000: -2.0, 0x7F80: np.inf, 0x0001: 2.0**-133, 0x4049: 3.140625}
    data = b"".join(code.to_bytes(2, "little") for code in values)
    path = write(tmp_path / "b.safetensors", {"w": entry("BF16", [5, 1], 0, 10)}, data)
    found = read(str(path), "w").array
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == list(values.values())


def test_as_an_input(tmp_path: Path) -> None:
    A = np.arange(6, dtype=np.float16).reshape(2, 3)
    one = str(save(tmp_path / "one.safetensors", {"w": A}))
    two = str(save(tmp_path / "two.safetensors", {"b": A[:1], "a": A}))
    np.testing.assert_array_equal(read_input(one).array, A)
    np.testing.assert_array_equal(read_input(f"{two}:a").array, A)
    assert members(two) == ["b", "a"]
    np.testing.assert_array_equal(read_member(two, "b").array, A[:1])
    with pytest.raises(InputError, match="has 2 arrays; name one"):
        read_input(two)
    with pytest.raises(InputError, match="has no 'c'; it has: a, b"):
        read_input(f"{two}:c")


def test_names_that_look_like_paths(tmp_path: Path) -> None:
    arrays = {name: np.full(2, i, np.float32) for i, name in enumerate(("", "/w", "w", "two"))}
    found = ArrayFile(str(save(tmp_path / "two.safetensors", arrays)))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].array, array)


GOOD = {"w": entry("F32", [2, 2], 0, 16)}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (GOOD, bytes(15), "is truncated: .* where its header declares"),
        (GOOD, bytes(17), "has bytes after its data"),
        ({}, bytes(1), "has bytes after its data"),
        (b"{", b"", "header is not valid"),
        (b"[]", b"", "it is no object"),
        (b"\xff\xfe{}", b"", "header is not valid"),
        (b"[" * 100000, b"", "header is not valid"),
        (b'{"a": {"dtype": "U8", "shape": [' + b"9" * 5000 + b"]}}", b"", "not valid"),
        (b'{"w": 1, "w": 2}', b"", "a name is there twice"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
        ({"__metadata__": "a"}, b"", "__metadata__"),
        ({"w": 3}, b"", "'w' is not described"),
        ({"w": {**GOOD["w"], "more": 1}}, bytes(16), "'w' is not described"),
        ({"w": entry(["F32"], [2, 2], 0, 16)}, bytes(16), "no name"),  # type: ignore[arg-type]
        ({"w": entry("F8_E8M0", [2, 3], 0, 7)}, bytes(7), "'w' has 7 bytes, which F8_E8M0"),
        ({"w": entry("F4", [2, 3], 0, 6)}, bytes(6), "'w' has 6 bytes, which F4"),
        ({"w": entry("F33", [2, 2], 16, 0)}, bytes(16), "'w' has -16 bytes"),
        ({"w": entry("F33", [2, 2], 0, 15)}, bytes(16), "has bytes after its data"),
        ({"w": entry("F33", [2, 2], 0, 17)}, bytes(16), "is truncated"),
        ({"w": entry("F33", [2**62, 2**62], 0, 0)}, b"", "no array can have"),
        ({**GOOD, "v": entry("F33", [2], 12, 20)}, bytes(20), "'v' overlaps another"),
        ({"w": entry("F32", [2, 3], 0, 16)}, bytes(16), "'w' has 16 bytes, which F32"),
        ({"w": entry("F32", [2**62, 2**62, 2**6], 0, 0)}, b"", "no array can have"),
        ({"w": entry("F32", [0, 2**62], 0, 0)}, b"", "no array can have"),
        ({"w": entry("F32", [2**20, 2**20], 0, 0)}, b"", "'w' has 0 bytes"),
        ({"w": entry("F32", [-2, -2], 0, 16)}, bytes(16), "no sizes"),
        ({"w": entry("F32", [2.0, 2], 0, 16)}, bytes(16), "no sizes"),
        ({"w": entry("F32", [True, 4], 0, 16)}, bytes(16), "no sizes"),
        ({"w": entry("F32", 4, 0, 16)}, bytes(16), "no sizes"),
        ({"w": entry("F32", [1] * 10000 + [4], 0, 16)}, bytes(16), "no sizes"),
        ({"w": entry("F32", [2, 2], 16, 0)}, bytes(16), "'w' has -16 bytes"),
        ({"w": entry("F32", [2, 2], 4, 20)}, bytes(20), "'w' has unused bytes before it"),
        ({**GOOD, "v": entry("U8", [4], 8, 12)}, bytes(16), "'v' overlaps another"),
        ({**GOOD, "v": entry("F32", [2, 2], 0, 16)}, bytes(16), "overlaps another"),
        ({"w": {**GOOD["w"], "data_offsets": [0, 8, 16]}}, bytes(16), "no sizes"),
    ],
)
def test_damaged(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    path = write(tmp_path / "x.safetensors", header, data)
    for reader in (tensors, members, lambda p: read(p, "w"), read_input):
        with pytest.raises(CorruptFileError, match=message):
            reader(str(path))


@pytest.mark.parametrize("length", [3, 10**9, 2**64 - 1])
def test_length_of_the_header(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.safetensors", GOOD, bytes(16), length)
    with pytest.raises(CorruptFileError):
        tensors(path)
    path.write_bytes(bytes(5))
    with pytest.raises(CorruptFileError, match="truncated or no .safetensors"):
        tensors(path)
    path.write_bytes(b"")
    with pytest.raises(CorruptFileError):
        tensors(path)


def test_floats_of_8_bits(tmp_path: Path) -> None:
    """Against the definition, bit by bit, for all 256 codes of both kinds."""

    def value(code: int, exponent_bits: int, bias: int, finite_only: bool) -> float:
        sign = -1.0 if code & 128 else 1.0
        mantissa_bits = 7 - exponent_bits
        exponent = (code & 127) >> mantissa_bits
        fraction = (code & (1 << mantissa_bits) - 1) / 2**mantissa_bits
        if not finite_only and exponent == 2**exponent_bits - 1:
            return sign * np.inf if fraction == 0 else np.nan
        if finite_only and code & 127 == 127:
            return np.nan
        if exponent == 0:
            return sign * fraction * 2.0 ** (1 - bias)
        return sign * (1 + fraction) * 2.0 ** (exponent - bias)

    header = {
        "a": entry("F8_E4M3", [16, 16], 0, 256),
        "b": entry("F8_E5M2", [256], 256, 512),
    }
    path = str(write(tmp_path / "x.safetensors", header, bytes(range(256)) * 2))
    for name, kind in (("a", (4, 7, True)), ("b", (5, 15, False))):
        found = read(path, name)
        assert found.array.dtype == np.float32
        expected = [value(code, *kind) for code in range(256)]
        np.testing.assert_array_equal(found.array.ravel(), expected)
        assert np.signbit(found.array.ravel()[128])
        assert "without scales" in found.note
    assert np.nanmax(read(path, "a").array) == 448
    assert found.array[123] == 57344


@pytest.mark.parametrize(
    ("dtype", "nbytes"),
    [("F8_E8M0", 8), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("F8_E4M3FNUZ", 8), ("X7", 3)],
)
def test_a_dtype_that_is_not_read_leaves_the_others(
    tmp_path: Path, dtype: str, nbytes: int
) -> None:
    end = 16 + nbytes
    header = {
        "w": GOOD["w"],
        "scale": entry(dtype, [2, 4], 16, end),
        "v": entry("F32", [1], end, end + 4),
    }
    data = np.arange(4, dtype="<f4").tobytes() + bytes(nbytes) + np.float32(5).tobytes()
    path = str(write(tmp_path / "x.safetensors", header, data))
    assert members(path) == ["w", "scale", "v"]
    assert tensors(path)["scale"].dtype == dtype
    np.testing.assert_array_equal(read_member(path, "w").array, [[0, 1], [2, 3]])
    assert read_input(f"{path}:v").array == 5
    with pytest.raises(InputError, match=f"scale: has the dtype {dtype}, which is not read"):
        read_input(f"{path}:scale")
