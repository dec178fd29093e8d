"""Files under faults: damage, full disks, kills, and forged files of valid digest.

A sudden death of the process is tried here with SIGKILL; what a power cut does beyond that
depends on the disk honouring fsync and cannot be tested from a process.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from lplr.exceptions import CorruptFileError, UnsafeFileError
from lplr.factors import Quantized
from lplr.storage.container import MAGIC, inspect, load, save, verify
from lplr.storage.packing import pack

ROOT = Path(__file__).parents[1]
TEMPORARY = re.compile(r"\.lplr-[0-9a-f]{32}\.tmp")


def small(seed: int = 0, n: int = 3, d: int = 4) -> Quantized:
    codes = np.random.default_rng(seed).integers(0, 4, (n, d))
    return Quantized((n, d), "uniform", 2, pack(codes, 2), np.full((1, 1), 0.5, np.float32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "x.h5", small())
    return tmp_path / "x.h5"


# ---- damage ---------------------------------------------------------------------------------


def test_truncation_at_every_byte(path: Path) -> None:
    data = path.read_bytes()
    for size in range(len(data) - 1, -1, -1):
        os.truncate(path, size)
        with pytest.raises(CorruptFileError):
            load(path)


def test_every_single_bit_flip(path: Path) -> None:
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for i, byte in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), i)
                with pytest.raises(CorruptFileError):
                    load(path)
            os.pwrite(file.fileno(), bytes([byte]), i)
    verify(path)  # the loop put everything back: it was the flips that were refused


def test_appended_and_swapped_pieces(path: Path) -> None:
    data = path.read_bytes()
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)]
    rng = random.Random(0)
    for _ in range(200):
        i, j = rng.sample(range(len(blocks)), 2)
        swapped = list(blocks)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        if b"".join(swapped) == data:
            continue
        path.write_bytes(b"".join(swapped))
        with pytest.raises(CorruptFileError):
            load(path)
    for more in (b"\0", b"x" * 512, data):
        path.write_bytes(data + more)
        for read in (load, inspect, verify):
            with pytest.raises(CorruptFileError):
                read(path)


# ---- disks and limits -----------------------------------------------------------------------

_SAVE_BIG = """
import os, resource, sys
sys.path.insert(0, {root!r})
from tests.test_faults import save, small
from lplr.exceptions import StorageError
{setup}
try:
    save({path!r}, small(1, 400, 4000), overwrite=True)  # 400 kB
except StorageError as error:
    print(error)
    sys.exit(2)
"""


def _save_big(path: Path, setup: str = "") -> subprocess.CompletedProcess[str]:
    code = _SAVE_BIG.format(root=str(ROOT), setup=setup, path=str(path))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def _assert_clean_failure(done: subprocess.CompletedProcess[str], path: Path, old: bytes) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("cannot write")
    assert done.stdout.count("\n") == 1
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_file_size_limit(path: Path) -> None:
    setup = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    _assert_clean_failure(_save_big(path, setup), path, path.read_bytes())
    assert _save_big(path).returncode == 0  # and without the limit it is saved
    assert load(path).shape == (400, 4000)


def test_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if made.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted: {made.stderr.strip()}")
    try:
        path = folder / "x.h5"
        save(path, small())
        _assert_clean_failure(_save_big(path), path, path.read_bytes())
    finally:
        subprocess.run(["umount", str(folder)], check=True)


_KILL_LOOP = """
import json, os, random, signal, sys, time
sys.path.insert(0, {root!r})
from tests.test_faults import save, small
path, kills = {path!r}, 50
objects = [small(seed, 400, 4000) for seed in (1, 2)]
expected = []
for obj in objects:
    save(path, obj, overwrite=True)
    expected.append(open(path, "rb").read())
rng = random.Random(0)
outcomes = [0, 0, 0]
for _ in range(kills):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        i = 0
        while True:
            save(path, objects[i % 2], overwrite=True)
            os.write(write, b".") if i < 2 else None
            i += 1
    os.read(read, 1)
    time.sleep(rng.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read), os.close(write)
    found = open(path, "rb").read()
    outcomes[expected.index(found) if found in expected else 2] += 1
print(json.dumps(outcomes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_fifty_random_moments(tmp_path: Path) -> None:
    """One process saves two objects in turn and is killed: always one of the two is there."""
    path = tmp_path / "x.h5"
    code = _KILL_LOOP.format(root=str(ROOT), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second, other = json.loads(done.stdout)
    assert other == 0
    assert first + second == 50
    assert min(first, second) > 0  # by chance alone once in 2**49: the kills came between saves
    verify(path)
    # What the kills left behind is named as the specification says; if it loads, it is complete.
    for name in set(os.listdir(tmp_path)) - {"x.h5"}:
        assert TEMPORARY.fullmatch(name)
        try:
            verify(tmp_path / name)
        except CorruptFileError:
            continue
        assert (tmp_path / name).stat().st_size == path.stat().st_size


# ---- forged files: HDF5 that is valid, under a digest that is right ------------------------


def _seal(path: Path, change: Callable[[bytes], bytes] = bytes) -> None:
    """Write the header that belongs to the payload."""
    payload = change(path.read_bytes()[512:])
    digest = hashlib.sha256(payload).digest()
    header = struct.pack("<8sIQ32s", MAGIC, 1, len(payload), digest).ljust(512, b"\0")
    path.write_bytes(header + payload)


def _forge(
    folder: Path,
    evil: Callable[[h5py.File], object],
    change: Callable[[bytes], bytes] = bytes,
    libver: str = "v108",
) -> Path:
    """A file that would load but for ``evil``, which adds to it or alters it."""
    path = folder / "forged.h5"
    with h5py.File(path, "w", userblock_size=512, libver=(libver, "v110")) as file:
        for key, value in small()._state().items():
            if isinstance(value, np.ndarray):
                file[key] = value
            elif isinstance(value, str):
                file.attrs[key] = np.bytes_(value)
            else:
                file.attrs.create(key, value, dtype="<i8")
        file.attrs["encoding-type"] = np.bytes_("quantized")
        file.attrs.create("encoding-version", 1, dtype="<i8")
        evil(file)
    _seal(path, change)
    return path


@pytest.mark.parametrize("libver", ["v108", "earliest"])
def test_a_forged_file_without_evil_loads(tmp_path: Path, libver: str) -> None:
    forged = load(_forge(tmp_path, lambda file: None, libver=libver))
    np.testing.assert_array_equal(forged.to_dense(), small().to_dense())


def _other(file: h5py.File) -> str:
    """Another HDF5 file beside the forged one, for what links lead to."""
    name = str(Path(file.filename).with_name("other.h5"))
    with h5py.File(name, "w") as other:
        other["codes"] = np.zeros(3, np.uint8)
    return name


def _virtual(file: h5py.File, source: str = "", unlimited: bool = False) -> None:
    largest, stop = ((None,), h5py.h5s.UNLIMITED) if unlimited else (None, 3)
    layout = h5py.VirtualLayout((3,), "u1", maxshape=largest)
    source = h5py.VirtualSource(source or _other(file), "codes", (3,), maxshape=largest)
    layout[:stop] = source[:stop]
    del file["codes"]
    file.create_virtual_dataset("codes", layout)


def _external_storage(file: h5py.File, source: str = "") -> None:
    if not source:
        source = str(Path(file.filename).with_name("raw.bin"))
        Path(source).write_bytes(b"abc")
    del file["codes"]
    file.create_dataset("codes", (3,), "u1", external=[(source, 0, 3)])


def _replaced(name: str, *args: object, **options: object) -> Callable[[h5py.File], None]:
    def evil(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, *args, **options)

    return evil


def _link(name: str, target: Callable[[h5py.File], object]) -> Callable[[h5py.File], None]:
    def evil(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = target(file)

    return evil


def _compact(file: h5py.File) -> None:
    del file["codes"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((3,))
    data = h5py.h5d.create(file.id, b"codes", h5py.h5t.STD_U8LE, space, properties)
    data.write(space, space, np.zeros(3, np.uint8))


def _committed(file: h5py.File) -> None:
    del file["codes"]
    file["kind"] = np.dtype("u1")
    file.create_dataset("codes", (3,), dtype=file["kind"])
    del file["kind"]


def _two_names(file: h5py.File) -> None:
    file["again"] = file["codes"]


def _cycle(file: h5py.File) -> None:
    file["again"] = file["/"]


def _inner_cycle(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["c"] = file["a"]


UNSAFE = {
    "soft link": _link("codes", lambda file: h5py.SoftLink("/scale")),
    "dangling soft link": _link("more", lambda file: h5py.SoftLink("/nowhere")),
    "external link": _link("codes", lambda file: h5py.ExternalLink(_other(file), "/codes")),
    "dangling external link": _link("more", lambda file: h5py.ExternalLink("no.h5", "/x")),
    "virtual dataset": _virtual,
    "virtual dataset of unlimited shape": lambda file: _virtual(file, unlimited=True),
    "external storage": _external_storage,
    "object dtype": _replaced("codes", data=["a", "b"], dtype=h5py.string_dtype()),
    "ragged dtype": _replaced("codes", (3,), h5py.vlen_dtype(np.uint8)),
    "reference dtype": _replaced("codes", (3,), h5py.ref_dtype),
    "region reference dtype": _replaced("codes", (3,), h5py.regionref_dtype),
    "compound dtype": _replaced("codes", data=np.zeros(3, "u1,f4")),
    "string dtype": _replaced("codes", data=np.array([b"a", b"b"])),
    "big-endian dtype": _replaced("codes", data=np.zeros(3, ">u2")),
    "boolean dtype": _replaced("codes", data=np.zeros(3, bool)),
    "complex dtype": _replaced("codes", data=np.zeros(3, complex)),
    "filter": _replaced("codes", data=np.zeros(3, np.uint8), compression="gzip"),
    "chunks": _replaced("codes", data=np.zeros(3, np.uint8), chunks=(1,)),
    "compact layout": _compact,
    "no shape": lambda file: (file.pop("codes"), file.create_dataset("codes", dtype="u1")),
    "committed type": _link("kind", lambda file: np.dtype("u1")),
    "dataset of committed type": _committed,
    "dataset with attributes": lambda file: file["codes"].attrs.create("x", 1),
    "hard link": _two_names,
    "cyclic hard link": _cycle,
    "inner cyclic hard link": _inner_cycle,
    "text attribute of variable length": lambda file: file.attrs.create("quantizer", "uniform"),
    "array attribute": lambda file: file.attrs.create("bits", np.array([2, 2])),
    "empty attribute": lambda file: file.attrs.create("more", h5py.Empty("i8")),
    "small integer attribute": lambda file: file.attrs.create("bits", 2, dtype="i1"),
    "reference attribute": lambda file: file.attrs.create("more", file.ref, dtype=h5py.ref_dtype),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_forbidden_features_are_refused(tmp_path: Path, name: str) -> None:
    path = _forge(tmp_path, UNSAFE[name])
    for read in (load, inspect, verify):
        with pytest.raises(UnsafeFileError) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def _patched(old: int, new: int, times: int) -> Callable[[bytes], bytes]:
    """Replace a 64-bit number wherever the payload holds it."""

    def change(payload: bytes) -> bytes:
        a, b = struct.pack("<Q", old), struct.pack("<Q", new)
        assert payload.count(a) == times
        return payload.replace(a, b)

    return change


ODD = 0x31415  # entries of a dataset whose size the tests find and alter


def _odd(file: h5py.File) -> None:
    file["more"] = np.zeros(ODD, np.uint8)


# HDF5 1.8 headers carry checksums; in the earlier ones any number can be altered. The number
# stands there twice as the shape (now and at most) and once as the size of the storage.
@pytest.mark.parametrize("size", [2**20, 2**40, 2**62, 2**63 - 1, 2**64 - 1])
def test_huge_declared_shape(tmp_path: Path, size: int) -> None:
    path = _forge(tmp_path, _odd, _patched(ODD, size, 3), "earliest")
    with pytest.raises(CorruptFileError):
        load(path)


@pytest.mark.parametrize("shape", [(2**40,), (2**31, 2**31), (2**21, 2**21, 2**20)])
def test_huge_shape_that_was_never_stored(tmp_path: Path, shape: tuple[int, ...]) -> None:
    def evil(file: h5py.File) -> None:
        # h5py would store the file in full only if something were written.
        space = h5py.h5s.create_simple(shape)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        h5py.h5d.create(file.id, b"more", h5py.h5t.STD_U8LE, space, properties)

    with pytest.raises(CorruptFileError):
        load(_forge(tmp_path, evil))


def test_datasets_that_share_their_bytes(tmp_path: Path) -> None:
    """Many declarations of one stored block: together they claim more than the file."""
    names = [f"more{i}" for i in range(8)]
    where: list[int] = []

    def evil(file: h5py.File) -> None:
        for name in names:
            file[name] = np.zeros(ODD, np.uint8)
        where.extend(file[name].id.get_offset() - 512 for name in names)

    def change(payload: bytes) -> bytes:
        for offset in where[1:]:
            old, new = struct.pack("<QQ", offset, ODD), struct.pack("<QQ", where[0], ODD)
            assert payload.count(old) == 1
            payload = payload.replace(old, new)
        end = where[0] + ODD
        return payload[:end] + bytes(where[1] - end) + payload[where[1] :]

    path = _forge(tmp_path, evil, change, "earliest")
    with h5py.File(path) as file:
        assert len({file[name].id.get_offset() for name in names}) == 1
    with pytest.raises(CorruptFileError):
        load(path)


def _deep(file: h5py.File) -> None:
    file.create_group("/".join("a" * 17))


CORRUPT = {
    "deep nesting": _deep,
    "name that is a path": lambda file: file.create_group("..").create_group("x"),
    "name with a space": _link("a b", lambda file: np.zeros(1)),
    "long name": _link("a" * 65, lambda file: np.zeros(1)),
    "name not ASCII": _link("ü", lambda file: np.zeros(1)),
    "attribute name": lambda file: file.attrs.create("a b", 1),
    "no encoding": lambda file: file.attrs.pop("encoding-type"),
    "encoding of wrong type": lambda file: file.attrs.create("encoding-type", 1),
    "no version": lambda file: file.attrs.pop("encoding-version"),
    "version 0": lambda file: file.attrs.create("encoding-version", 0),
    "newer version": lambda file: file.attrs.create("encoding-version", 99),
    "unknown encoding": lambda file: file.attrs.create("encoding-type", np.bytes_("os.system")),
    "group inside that is nothing": lambda file: file.create_group("more"),
    "one name twice": lambda file: file.attrs.create("codes", 1),
    "too many members": lambda file: file.attrs.create("more", 1),
    "missing member": lambda file: file.pop("scale"),
    "member of wrong type": lambda file: file.attrs.create("quantizer", 1),
    "negative size": lambda file: file.attrs.create("rows", -3),
    "size that wraps": lambda file: file.attrs.create("rows", 2**62),
    "unknown quantizer": lambda file: file.attrs.create("quantizer", np.bytes_("no")),
    "text not UTF-8": lambda file: file.attrs.create("quantizer", np.bytes_(b"\xff\xfe")),
    "NaN scale": _replaced("scale", data=np.full((1, 1), np.nan, np.float32)),
    "scale of wrong dtype": _replaced("scale", data=np.ones((1, 1))),
    "padding bits": _replaced("codes", data=np.full(4, 255, np.uint8)),
    "metadata that is a list": lambda file: file.attrs.create("meta", np.bytes_("[]")),
    "metadata that is a number": lambda file: file.attrs.create("meta", 1),
    "metadata with NaN": lambda file: file.attrs.create("meta", np.bytes_('{"x":NaN}')),
    "metadata that is no JSON": lambda file: file.attrs.create("meta", np.bytes_("{")),
    "metadata too deep": lambda file: file.attrs.create("meta", np.bytes_("[" * 50_000)),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_nonsense_is_corrupt(tmp_path: Path, name: str) -> None:
    path = _forge(tmp_path, CORRUPT[name])
    for read in (load, verify):
        with pytest.raises(CorruptFileError) as caught:
            read(path)
        assert str(path) in str(caught.value)


_FUZZ = """
import random, sys, time
sys.path.insert(0, {root!r})
from lplr.exceptions import CorruptFileError
from lplr.storage.hdf5 import from_file
base = open({path!r}, "rb").read()
from_file(base)
refused = 0
for seed in range(1500):
    rng = random.Random(seed)
    data = bytearray(base)
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(512, len(data) - 8)
        number = rng.choice([0, 2**64 - 1, 2**40, rng.randrange(len(data))])
        new = number.to_bytes(8, "little") if rng.random() < 0.4 else bytes([rng.randrange(256)])
        data[i : i + len(new)] = new
    try:
        from_file(bytes(data))
    except CorruptFileError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("libver", ["v108", "earliest"])
def test_altered_metadata_never_crashes_hangs_or_escapes_the_typed_errors(
    tmp_path: Path, libver: str
) -> None:
    path = _forge(tmp_path, lambda file: file.create_group("a/b"), libver=libver)
    code = _FUZZ.format(root=str(ROOT), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


def test_what_a_file_refers_to_is_never_opened(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to waits for ever; refusing does not."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    for evil in (
        lambda file: _virtual(file, pipe),
        lambda file: _virtual(file, pipe, unlimited=True),
        lambda file: _external_storage(file, pipe),
        _link("more", lambda file: h5py.ExternalLink(pipe, "/x")),
    ):
        with pytest.raises(UnsafeFileError):
            load(_forge(tmp_path, evil))
