"""Images as matrices: every value as the file stores it, or a refusal that names .npy."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lplr.cli.main import main
from lplr.exceptions import CorruptFileError, InputError, LplrError
from lplr.inputs import members, read_input

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), np.uint16)
DEEP[0, :2] = 0, 65535


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_tiff(
    name: str, samples: np.ndarray, kind: int, more: dict[int, Sequence[int]] | None = None
) -> str:
    """One uncompressed strip, written from the specification; ``more`` are tags of 16 bits."""
    order = "<>"[samples.dtype.byteorder == ">"]
    height, width, channels = (*samples.shape, 1)[:3]
    data = samples.tobytes()
    tags = {
        256: [width], 257: [height], 258: [8 * samples.itemsize] * channels, 259: [1],
        262: [1 if channels == 1 else 2], 273: [8], 277: [channels], 278: [height],
        279: [len(data)], 339: [kind] * channels, **(more or {}),
    }  # fmt: skip
    start = 8 + len(data) + len(data) % 2
    beyond = start + 2 + 12 * len(tags) + 4
    directory, values = struct.pack(order + "H", len(tags)), b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            place = struct.pack(order + "I", beyond + len(values))
            values += packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", tag, 3, len(numbers)) + place
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start)
    body = head + data.ljust(start - 8, b"\0") + directory + bytes(4) + values
    Path(name).write_bytes(body)
    return name


def assert_levels(name: str, levels: np.ndarray, largest: int) -> None:
    """The levels come back exactly from the quotients in float32."""
    found = read_input(name)
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, levels / np.float32(largest))
    np.testing.assert_array_equal(np.rint(found.array * np.float64(largest)), levels)


# --- what is read to the value ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif", "webp"])
def test_eight_bits(suffix: str) -> None:
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(GREY).save(f"grey.{suffix}", **lossless)
    assert_levels(f"grey.{suffix}", GREY, 255)
    assert read_input(f"grey.{suffix}").note == "8-bit values scaled to 0 to 1"


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "ppm"])
def test_colours(suffix: str) -> None:
    Image.fromarray(np.stack([GREY, 0 * GREY, 255 - GREY], axis=2)).save(f"colour.{suffix}")
    found = read_input(f"colour.{suffix}")
    luminance = (0.2126 * GREY + 0.0722 * (255.0 - GREY)) / 255
    np.testing.assert_allclose(found.array, luminance, atol=1e-6)  # three roundings of float32
    assert "luminance" in found.note


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif"])
def test_one_bit(suffix: str) -> None:
    Image.fromarray(GREY > 100).save(f"x.{suffix}")
    np.testing.assert_array_equal(read_input(f"x.{suffix}").array, GREY > 100)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("dtype", "kind"), [("u2", 1), ("i2", 2), ("i4", 2), ("f4", 3)])
def test_deep_tiff(order: str, dtype: str, kind: int) -> None:
    A = DEEP.astype(np.float64) - (0 if dtype == "u2" else 32768)
    A = (A * {"i4": 65536, "f4": np.pi}.get(dtype, 1)).astype(order + dtype)
    write_tiff("x.tif", A, kind)
    if dtype == "u2":
        assert_levels("x.tif", A, 65535)
        return
    found = read_input("x.tif")  # measurements: as they are
    assert found.note == ""
    np.testing.assert_array_equal(found.array, A)


def test_unsigned_32_bits() -> None:
    A = DEEP.astype("<u4") * 65537
    assert A.max() > 2**31
    write_tiff("x.tif", A, 1)
    np.testing.assert_array_equal(read_input("x.tif").array, A)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_compressed_tiff(compression: str, dtype: type) -> None:
    A = DEEP.astype(dtype)
    Image.fromarray(A).save("x.tif", compression=compression)
    if dtype is np.uint16:
        assert_levels("x.tif", A, 65535)
    else:
        np.testing.assert_array_equal(read_input("x.tif").array, A)


def test_deep_png() -> None:
    Image.fromarray(DEEP).save("x.png")
    assert_levels("x.png", DEEP, 65535)


@pytest.mark.parametrize("largest", [1, 100, 255, 256, 1023, 65535])
def test_pgm_and_ppm(largest: int) -> None:
    levels = (DEEP % np.uint32(largest + 1)).astype(np.uint16)
    raw = levels.astype("u1" if largest < 256 else ">u2").tobytes()
    text = " ".join(map(str, levels.ravel())).encode()
    head = b"\n# a comment\n7 5 # another\n%d\n" % largest
    Path("raw.pgm").write_bytes(b"P5" + head + raw)
    Path("text.pgm").write_bytes(b"P2" + head + text + b"\n")
    for name in ("raw.pgm", "text.pgm"):
        assert_levels(name, levels, largest)
    thrice = np.repeat(levels.ravel(), 3)
    Path("grey.ppm").write_bytes(b"P3" + head + " ".join(map(str, thrice)).encode())
    assert_levels("grey.ppm", levels, largest)  # equal channels are grey


def test_a_palette_with_transparency() -> None:
    image = Image.fromarray(GREY // 52).convert("P")
    image.putpalette([0, 60, 100, 180, 255] * 3)  # colours: any three of these in a row
    colours = np.array(image.convert("RGB")) / 255
    image.info["transparency"] = bytes([0, 255, 255, 255, 255])
    image.save("x.png")
    found = read_input("x.png")
    np.testing.assert_allclose(found.array, colours @ [0.2126, 0.7152, 0.0722], atol=1e-6)
    assert "transparency ignored" in found.note


TURNED = {
    1: lambda A: A,
    2: lambda A: A[:, ::-1],
    3: lambda A: A[::-1, ::-1],
    4: lambda A: A[::-1],
    5: lambda A: A.T,
    6: lambda A: np.rot90(A, -1),
    7: lambda A: A[::-1, ::-1].T,
    8: lambda A: np.rot90(A),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_orientation(orientation: int) -> None:
    expected = TURNED[orientation](GREY)
    write_tiff("x.tif", GREY, 1, {274: [orientation]})
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(GREY).save("x.png", exif=exif)
    for name in ("x.tif", "x.png"):
        assert_levels(name, expected, 255)
        assert ("turned" in read_input(name).note) == (orientation > 1)


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_pages(suffix: str) -> None:
    pages = [Image.fromarray(page) for page in (GREY, GREY[::-1], 255 - GREY)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    name = f"x.{suffix}"
    pages[0].save(name, save_all=True, append_images=pages[1:], **lossless)
    assert members(name) == ["1", "2", "3"]
    assert_levels(f"{name}:2", GREY[::-1], 255)
    assert_levels(f"{name}:3", 255 - GREY, 255)
    with pytest.raises(InputError, match=f"has 3 pages; name one, {name}:1 to {name}:3"):
        read_input(name)
    for page in ("0", "4", "-1", "two"):
        with pytest.raises(InputError, match=f"has no page '{page}'"):
            read_input(f"{name}:{page}")


# --- what is refused -------------------------------------------------------------------------


def _cut(name: str) -> None:
    data = Path(name).read_bytes()
    Path(name).write_bytes(data[: len(data) // 2])


def _write_refused() -> None:
    deep_colours, colours = np.dstack([DEEP] * 3), np.dstack([GREY, GREY[::-1], GREY, GREY])
    write_tiff("colour16.tif", deep_colours, 1)
    write_tiff("float64.tif", DEEP.astype("f8"), 3)
    write_tiff("float16.tif", GREY.astype("f2"), 3)
    write_tiff("signed8.tif", GREY.view("i1"), 2)
    write_tiff("white0.tif", DEEP, 1, {262: [0]})
    write_tiff("cmyk.tif", colours, 1, {262: [5]})
    write_tiff("lab.tif", colours[:, :, :3], 1, {262: [8]})
    write_tiff("fourth.tif", colours, 1, {338: [0]})
    write_tiff("premultiplied.tif", colours, 1, {338: [1]})
    write_tiff("palette16.tif", GREY, 1, {262: [3], 320: range(0, 65536, 256 // 3 + 1)[:768]})
    Image.fromarray(colours, "CMYK").save("cmyk.jpg")
    # PNG of 16-bit colours: no library at hand writes it, so the header of a grey one is altered.
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep_colours)
    Path("colour16.png").write_bytes(_png(7, 5, 16, 2, rows))
    Path("colour565.bmp").write_bytes(
        struct.pack("<2sIIIIiiHHIIiiII", b"BM", 86, 0, 54, 40, 4, 4, 1, 16, 0, 32, 0, 0, 0, 0)
        + bytes(32)
    )
    Path("float.pgm").write_bytes(b"Pf\n7 5\n-1\n" + DEEP.astype("<f4").tobytes())
    Path("bits.pgm").write_bytes(b"P4\n8 1\n\0")
    Path("pam.ppm").write_bytes(b"P7\nWIDTH 1\n")
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Path("text.jpg").write_text("hello")
    Path("script.tif").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    for suffix in ("png", "tif", "jpg"):
        Image.fromarray(RNG.integers(0, 256, (50, 70), np.uint8)).save(f"cut.{suffix}")
        _cut(f"cut.{suffix}")
    Path("cut.pgm").write_bytes(b"P5 7 5 255\n" + GREY.tobytes()[:-1])
    Path("two.pgm").write_bytes((b"P5 7 5 255\n" + GREY.tobytes()) * 2)
    Path("beyond.pgm").write_bytes(b"P5 7 5 99\n" + GREY.tobytes())
    Path("words.pgm").write_bytes(b"P2 2 1 255\n1 two\n")
    Path("huge.pgm").write_bytes(b"P5 999999999 999999999 255\n" + GREY.tobytes())
    Path("zero.pgm").write_bytes(b"P5 7 5 0\n" + bytes(35))
    Path("head.ppm").write_bytes(b"P6\n7 x 255\n")


def _png(width: int, height: int, bits: int, colours: int, rows: bytes) -> bytes:
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


NOT_READ = [
    "colour16.tif", "float64.tif", "float16.tif", "signed8.tif", "white0.tif", "cmyk.tif",
    "lab.tif", "fourth.tif", "premultiplied.tif", "palette16.tif", "cmyk.jpg", "colour16.png",
    "colour565.bmp", "float.pgm", "bits.pgm", "pam.ppm",
]  # fmt: skip
DAMAGED = [
    "broken.png", "text.jpg", "script.tif", "cut.png", "cut.tif", "cut.jpg", "cut.pgm", "two.pgm",
    "beyond.pgm", "words.pgm", "huge.pgm", "zero.pgm", "head.ppm",
]  # fmt: skip


def test_what_would_lose_values_is_refused() -> None:
    _write_refused()
    for name in NOT_READ:
        with pytest.raises((InputError, CorruptFileError), match=rf"^{name}: .*\.npy"):
            read_input(name)
    for name in DAMAGED:
        with pytest.raises(CorruptFileError, match=rf"^{name}: .*(damaged|truncated|more after)"):
            read_input(name)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, about damaged tags
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=3), st.sampled_from(["tif", "png"]))
def test_no_change_escapes_as_another_error(place: int, change: bytes, suffix: str) -> None:
    Image.fromarray(DEEP).save(f"x.{suffix}")
    data = bytearray(Path(f"x.{suffix}").read_bytes())
    place %= len(data)
    data[place : place + len(change)] = change
    Path(f"x.{suffix}").write_bytes(data)
    try:
        for member in members(f"x.{suffix}")[:3]:
            read_input(f"x.{suffix}:{member}" if member else f"x.{suffix}")
    except LplrError:
        pass


# --- the commands ----------------------------------------------------------------------------


def _json(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert main([*args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_command_reads_images_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """An image of 10 bits gives what its values in a .npy file give."""
    levels = np.random.default_rng(0).integers(0, 1024, (24, 16), np.uint16)
    Path("x.pgm").write_bytes(b"P5 16 24 1023\n" + levels.astype(">u2").tobytes())
    np.save("x.npy", levels / np.float32(1023))
    packed = []
    for suffix in ("pgm", "npy"):
        options = ("--bits-per-entry", "3", "--hessian", f"x.{suffix}")
        source = _json(capsys, "compress", f"x.{suffix}", "-o", f"{suffix}.h5", *options)["input"]
        assert source["note"] == ("values divided by 1023" if suffix == "pgm" else "")
        packed.append(Path(f"{suffix}.h5").read_bytes())
    assert packed[0] == packed[1]
    errors = [
        _json(capsys, "verify", "pgm.h5", "--against", f"x.{suffix}")["relative_error"]
        for suffix in ("pgm", "npy")
    ]
    assert errors[0] == errors[1] < 1
    values = [
        [
            (row["metric"], row["value"])
            for row in _json(
                *(capsys, "bench", "layers", f"x.{suffix}", "--budgets", "3"),
                *("--out", f"{suffix}.jsonl"),
            )["rows"]
            if "seconds" not in row["metric"]
        ]
        for suffix in ("pgm", "npy")
    ]
    assert values[0] == values[1]


def test_every_command_refuses_pages_without_a_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    pages[0].save("x.tif", save_all=True, append_images=pages[1:])
    np.save("x.npy", GREY[::-1] / np.float32(255))
    assert (
        _json(capsys, "compress", "x.tif:2", "-o", "x.h5", "--rank", "2")["input"]["member"] == "2"
    )
    assert _json(capsys, "verify", "x.h5", "--against", "x.npy")["relative_error"] < 1
    for command in (
        ("compress", "x.tif", "-o", "y.h5", "--rank", "2"),
        ("compress", "x.npy", "-o", "y.h5", "--rank", "2", "--q-bits", "2", "--hessian", "x.tif"),
        ("verify", "x.h5", "--against", "x.tif"),
    ):
        assert main([*command]) == 2
        error = capsys.readouterr().err
        assert "x.tif: has 2 " in error
        assert "name one" in error
    rows = _json(capsys, "bench", "layers", "x.tif", "--budgets", "8")["rows"]
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == ["1", "2"]
