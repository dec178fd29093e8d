"""What is fuzzed: functions of bytes that return, or raise something only for a defect.

A typed error is a right answer to bytes that are wrong; what is not wrong is compared with what a
few lines of Python read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import lplr
from lplr.cli.main import _parser
from lplr.exceptions import InputError, LplrError
from lplr.inputs import safetensors
from lplr.models import gguf_names, manifest
from lplr.quantizers import get_codebook
from lplr.quantizers.packing import WIDTHS, check_packed, pack, packed_nbytes, unpack
from lplr.quantizers.trellis import STATE_BITS
from lplr.storage.folder import MANIFEST, Folder
from lplr.storage.header import FORMAT_VERSION, HEADER_NBYTES, MAGIC
from lplr.storage.text import to_json

_FOLDER = tempfile.TemporaryDirectory(prefix="lplr-fuzz-")


def _file(name: str, data: bytes) -> Path:
    path = Path(_FOLDER.name, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def header(data: bytes) -> None:
    """A whole file; or, after a zero, the payload of one, whose header is made right."""
    if data[:1] == b"\0":
        version, payload = 1 + data[1:2].count(b"\1"), data[2:]
        assert version <= FORMAT_VERSION
        digest = hashlib.sha256(payload).digest()
        whole = struct.pack("<8sIQ32s", MAGIC, version, len(payload), digest)
        data = whole.ljust(HEADER_NBYTES, b"\0") + payload
    path = _file("packed.h5", data)
    try:
        found = lplr.load(path)
    except LplrError:
        return
    lplr.verify(path)
    for matrix in found.values() if isinstance(found, dict) else [found]:
        np.asarray(matrix)


def manifests(data: bytes) -> None:
    """The manifest of a folder of parts, and of a model; its digest is made right if it is JSON."""
    path = _file(f"parts/{MANIFEST}", _signed(data))
    with contextlib.suppress(LplrError):
        Folder.read(path.parent).describe()
    with contextlib.suppress(ValueError, RecursionError):
        described = json.loads(data)
        if isinstance(described, dict):
            data = manifest.as_text(described)
    path = _file(f"model/{manifest.MANIFEST}", data)
    with contextlib.suppress(LplrError):
        manifest.read_manifest(path.parent)


def _signed(data: bytes) -> bytes:
    try:
        found = json.loads(data)
        found["sha256"] = ""
        del found["sha256"]
        digest = hashlib.sha256(to_json(found, "")).hexdigest()
        return to_json({**found, "sha256": digest}, "")
    except (ValueError, TypeError, RecursionError, LplrError):
        return data


def tensor_names(data: bytes) -> None:
    """The header of a .safetensors file; its names in GGUF's form and back."""
    path = _file("x.safetensors", struct.pack("<Q", len(data)) + data + bytes(64))
    try:
        names = list(safetensors.tensors(path))
    except LplrError:
        names = data.decode("utf-8", "replace").split("\n")
    for name in names:
        for architecture in gguf_names._NAMES:
            gguf_names.is_transposed(architecture, name)
            gguf_names.from_gguf(architecture, name)
            try:
                theirs = gguf_names.to_gguf(architecture, name)
            except InputError:
                continue
            if theirs:
                back = gguf_names.from_gguf(architecture, theirs)
                assert back.removeprefix("transformer.") == re.sub(
                    r"^(bert|transformer)\.", "", name
                ), (name, theirs, back)


def bits(data: bytes) -> None:
    """The bit unpacker, and packing what it finds."""
    if len(data) < 2:
        return
    width, count, packed = WIDTHS[data[0] % len(WIDTHS)], data[1], data[2:]
    array = np.frombuffer(packed, np.uint8)
    stream = np.unpackbits(array, bitorder="little").tolist()
    right = len(packed) == packed_nbytes(count, width) and not any(stream[count * width :])
    try:
        check_packed(array, width, count)
    except InputError:
        assert not right
        return
    assert right
    codes = unpack(array, width, count)
    expected = [
        sum(bit << b for b, bit in enumerate(stream[i * width : (i + 1) * width]))
        for i in range(count)
    ]
    assert codes.tolist() == expected
    assert pack(codes, width).tobytes() == packed


def trellis(data: bytes) -> None:
    """The trellis decoder, of vectors of several segments too, and of some of their entries."""
    if len(data) < 6:
        return
    state_bits, rate = list(STATE_BITS)[data[0] % 5], 1 + data[1] % 21 / 4
    length, count, axis = 1 + data[2] + 256 * (data[3] % 4), 1 + data[4] % 3, data[5] % 2
    book = get_codebook(f"trellis-{state_bits}", rate)
    stream = np.resize(np.frombuffer(data[6:] or b"\0", np.uint8), book.nbytes(length, count))
    expected, right = [], True
    for s, part in book._streams(stream, length, count, 0, length):
        each = book.trellis.sequence_bits(s.stop - s.start)
        found = np.unpackbits(part, bitorder="little").tolist()
        right &= not any(found[count * each :])
        expected.append(
            [_decoded(found[i * each : (i + 1) * each], s, book.trellis) for i in range(count)]
        )
    try:
        packed = book.check_packed(stream, length, count)
    except InputError:
        assert not right
        return
    assert right
    whole = np.hstack(expected)
    if axis == 0:
        first, last = sorted((data[2] % length, data[3] % length))
        found = book.unpack(packed, (length, count), slice(first, last), 0)
        np.testing.assert_array_equal(found, whole.T[first:last])
    else:
        np.testing.assert_array_equal(
            book.unpack(packed, (count, length), slice(0, count), 1), whole
        )


def _decoded(stream: list[int], segment: slice, book) -> np.ndarray:
    """The values of one sequence, by the definition of `Trellis`."""
    n, stop, values = segment.stop - segment.start, 0, []
    wraps = len(stream) >= 5 * book.state_bits
    for t in range(n):
        stop += book.widths[t % 4]
        window = range(stop - book.state_bits, stop)
        values.append(sum((stream[i] if i >= 0 or wraps else 0) << j for j, i in enumerate(window)))
    return book.table[values]


@functools.cache
def _command_line():
    return _parser()


def arguments(data: bytes) -> None:
    """The argument parser: options, help, or one line that says what is wrong."""
    words = data.decode("utf-8", "surrogateescape").split()
    out, err = io.StringIO(), io.StringIO()
    code, found = None, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            found = _command_line().parse_args(words)
        except SystemExit as end:
            code = end.code
    if code == 2:
        assert err.getvalue().startswith("lplr: error: ")
        assert err.getvalue().count("\n") == 1
    else:
        assert not err.getvalue()
        assert code == 0 or callable(found.run)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "header": header,
    "manifest": manifests,
    "names": tensor_names,
    "bits": bits,
    "trellis": trellis,
    "arguments": arguments,
}
