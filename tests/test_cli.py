"""The command line: exit codes, one-line errors, outputs, and what it refuses.

Where the process itself matters (signals, pipes, limits, start-up) it is run as one; the many
refusals run in this process, through the same `main`.
"""

from __future__ import annotations

import json
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
from command import error_of, process, refused, report

import lplr
from lplr import datasets
from lplr.cli.inputs import read_input
from lplr.cli.main import main
from lplr.exceptions import LplrError

COMMANDS = ("compress", "decompress", "info", "verify", "demo", "bench", "bounds", "doctor")


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return datasets.synthetic(80, 60, "power", rng=0)


@pytest.fixture
def folder(tmp_path: Path, A: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "a.npy", A)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the process -----------------------------------------------------------------------------


def test_round_trip_as_processes(folder: Path, A: np.ndarray) -> None:
    done = process("compress", "a.npy", "-o", "a.h5", "--bits-per-entry", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "relative, Frobenius" in done.stdout
    f = lplr.load(folder / "a.h5")
    assert f.bits_per_entry <= 3
    np.testing.assert_array_equal(
        f.to_dense(), lplr.compress(A, bits_per_entry=3, rng=0).to_dense()
    )

    done = process("decompress", "a.h5", "-o", "b.npy", cwd=folder)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(folder / "b.npy"), f.to_dense())

    done = process("verify", "a.h5", "--against", "a.npy", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["relative_error"] == pytest.approx(f.relative_error(A))
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "a.npy", "b.npy"]


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    script = "import sys; from lplr.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "lplr compress" in done.stdout
    modules = done.stdout.split()
    assert "lplr.cli.main" in modules
    assert not {"numpy", "scipy", "numba", "h5py", "sklearn", "matplotlib"} & set(modules)


def test_version_of_the_module(tmp_path: Path) -> None:
    assert process("--version", cwd=tmp_path).stdout == f"lplr {lplr.__version__}\n"


def test_help_of_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        assert f"example:\n  lplr {command}" in capsys.readouterr().out


def test_a_limit_on_file_size_keeps_the_old_file(folder: Path) -> None:
    resource = pytest.importorskip("resource")
    old = lplr.quantize(np.eye(9), bits=2)
    lplr.save("a.h5", old)
    np.save("big.npy", np.random.default_rng(0).standard_normal((300, 200)))
    done = process(
        *("compress", "big.npy", "-o", "a.h5", "--overwrite", "--method", "naive", "--bits", "8"),
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)),
    )
    assert done.returncode == 2
    assert "a.h5" in error_of(done.stderr)
    np.testing.assert_array_equal(lplr.load("a.h5").to_dense(), old.to_dense())
    assert sorted(p.name for p in folder.iterdir()) == ["a.h5", "a.npy", "big.npy"]


def test_says_that_it_compiles_and_only_then(folder: Path) -> None:
    command = ("compress", "a.npy", "-o", "a.h5", "--method", "naive", "--bits", "2")
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")}
    cold = process(*command, cwd=folder, env=env)
    warm = process(*command, "--overwrite", cwd=folder, env=env)
    assert cold.stderr.count("compiling kernels") == 1
    assert warm.returncode == 0
    assert "compiling" not in warm.stderr


def test_debug_shows_the_traceback(folder: Path) -> None:
    done = process("--debug", "info", "missing.h5", cwd=folder)
    assert "Traceback" in done.stderr
    assert "InputError" in done.stderr


# --- what it does ----------------------------------------------------------------------------


def test_info_shows_every_component(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    f = lplr.factorize(np.load("a.npy"), rank=8, bits=(3, 5), rng=4)
    lplr.save("a.h5", f, attrs={"layer": "up/0"})
    assert main(["info", "a.h5"]) == 0
    text = capsys.readouterr().out
    document = report(capsys, "info", "a.h5")
    assert document["sha256"] in text
    assert document["attrs"] == {"layer": "up/0"}
    assert document["groups"]["/"]["meta"]["seed"] == 4
    assert document["groups"]["/left"]["values"]["bits"] == 3
    assert document["stored_nbytes"] == f.nbytes
    for shown in ("/left/codes", "/right/scale", "bits 5", "seed", "feedback", "up/0", "rank 8"):
        assert shown in text


def test_verify_measures(folder: Path, A: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    q = lplr.quantize(A, bits=3)
    lplr.save("q.h5", q)
    document = report(capsys, "verify", "q.h5", "--against", "a.npy")
    assert document["largest_error"] == np.abs(q.to_dense() - A).max()
    assert document["relative_error"] == q.relative_error(A)
    assert main(["verify", "q.h5"]) == 0
    assert document["sha256"] in capsys.readouterr().out
    np.save("b.npy", A[:-1])
    assert "shape" in refused(capsys, "verify", "q.h5", "--against", "b.npy")


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    document = report(capsys, "doctor")
    assert {check["status"] for check in document["checks"]} <= {"ok", "note"}
    monkeypatch.setattr(lplr.datasets, "text_embeddings", lambda: 1 / 0)
    assert main(["doctor"]) == 3
    assert "failed  data" in capsys.readouterr().out


def test_defects_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lplr.storage.container.inspect", lambda path: 1 / 0)
    assert main(["info", "a.npy"]) == 1
    assert "defect of lplr: ZeroDivisionError" in error_of(capsys.readouterr().err)


# --- inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "i2", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_mapped_as_it_is(folder: Path, dtype: str, order: Any) -> None:
    A = np.asarray(np.arange(12).reshape(3, 4) > 5 if dtype == "?" else np.arange(12)[:, None])
    A = np.array(A, dtype, order=order)
    np.save("x.npy", A)
    found = read_input("x.npy").array
    assert isinstance(found, np.memmap)
    assert found.dtype == A.dtype
    np.testing.assert_array_equal(found, A)


def test_npz_members(folder: Path, A: np.ndarray) -> None:
    np.savez("one.npz", only=A)
    np.savez_compressed("two.npz", a=A, b=np.asfortranarray(A[:5]))
    np.testing.assert_array_equal(read_input("one.npz").array, A)
    np.testing.assert_array_equal(read_input("one.npz:only").array, A)
    np.testing.assert_array_equal(read_input("two.npz:b").array, A[:5])


def test_hdf5_datasets(folder: Path, A: np.ndarray) -> None:
    with h5py.File("one.h5", "w") as file:
        file.create_dataset("group/x", data=A, compression="gzip")
    with h5py.File("two.hdf5", "w") as file:
        file["x"] = A
        file["y"] = A[:5].astype(">f4")
        file["again"] = file["y"]  # a second hard link
    np.testing.assert_array_equal(read_input("one.h5").array, A)
    np.testing.assert_array_equal(read_input("one.h5:/group/x").array, A)
    for name in ("y", "again"):
        found = read_input(f"two.hdf5:{name}").array
        np.testing.assert_array_equal(found, A[:5].astype("f4"))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_images(folder: Path, suffix: str) -> None:
    from PIL import Image

    grey = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(f"grey.{suffix}")
    found = read_input(f"grey.{suffix}")
    np.testing.assert_allclose(found.array, grey / 255, atol=1e-7)
    assert found.note == ""

    Image.fromarray(np.stack([grey, 0 * grey, 255 - grey], axis=2)).save(f"colour.{suffix}")
    found = read_input(f"colour.{suffix}")
    luminance = (0.2126 * grey + 0.0722 * (255.0 - grey)) / 255
    np.testing.assert_allclose(found.array, luminance, atol=1e-6)
    assert "luminance" in found.note


def test_a_colon_in_a_name_is_a_name(folder: Path, A: np.ndarray) -> None:
    np.savez("x.npz:a.npz", A)
    np.testing.assert_array_equal(read_input("x.npz:a.npz").array, A)


# --- refusals --------------------------------------------------------------------------------

SIZE = ("-o", "out.h5", "--rank", "2")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "COMMAND"),
        (("squash",), "squash"),
        (("compress",), "INPUT"),
        (("compress", "a.npy"), "--output"),
        (("compress", "a.npy", *SIZE, "--bits", "two"), "--bits"),
        (("compress", "a.npy", *SIZE, "--bits", "1,2,3"), "--bits"),
        (("compress", "a.npy", *SIZE, "--bits", "9"), "bits"),
        (("compress", "a.npy", *SIZE, "--method", "magic"), "magic"),
        (("compress", "a.npy", *SIZE, "--quantizer", "magic"), "quantizer"),
        (("compress", "a.npy", "-o", "out.h5", "--rank", "0"), "rank"),
        (("compress", "a.npy", "-o", "out.h5", "--bits-per-entry", "nan"), "--bits-per-entry"),
        (("compress", "a.npy", "-o", "out.npy", "--rank", "2"), ".h5"),
        (("compress", "a.npy", "-o", "no/out.h5", "--rank", "2"), "does not exist"),
        (("compress", "missing.npy", *SIZE), "no such file"),
        (("compress", ".", *SIZE), "not a regular file"),
        (("compress", "text.txt", *SIZE), ".npz"),
        (("decompress", "a.npy", "-o", "out.npy"), "not an lplr file"),
        (("decompress", "good.h5", "-o", "out.h5"), ".npy"),
        (("info", "missing.h5"), "missing.h5"),
        (("verify", "good.h5", "--against", "missing.npy"), "no such file"),
        (("compress", "good.h5", *SIZE), "compressed already"),
        (("bench",), "WHAT"),
    ],
)
def test_bad_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    Path("text.txt").write_text("hello")
    lplr.save("good.h5", lplr.quantize(np.eye(9), bits=2))
    assert said in refused(capsys, *args)
    assert not Path("out.h5").exists()


def test_outputs_are_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.h5").write_bytes(b"mine")
    Path("out.npy").write_bytes(b"mine")
    Path("folder.h5").mkdir()
    lplr.save("good.h5", lplr.quantize(np.eye(9), bits=2))
    with h5py.File("in.h5", "w") as file:
        file["x"] = np.eye(5)
    assert "--overwrite" in refused(capsys, "compress", "a.npy", *SIZE)
    assert "--overwrite" in refused(capsys, "decompress", "good.h5", "-o", "out.npy")
    options = ("compress", "in.h5:/x", "-o", "in.h5", "--rank", "2", "--overwrite")
    assert "input itself" in refused(capsys, *options)
    options = ("compress", "a.npy", "-o", "folder.h5", "--rank", "2", "--overwrite")
    assert "folder" in refused(capsys, *options)
    assert Path("out.h5").read_bytes() == Path("out.npy").read_bytes() == b"mine"
    assert main(["compress", "a.npy", *SIZE, "--overwrite"]) == 0
    assert main(["decompress", "good.h5", "-o", "out.npy", "--overwrite"]) == 0
    assert np.load("out.npy").shape == (9, 9)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda A: np.where(A == A[3, 4], np.nan, A), "nan at (3, 4)"),
        (lambda A: np.where(A == A[3, 4], -np.inf, A), "-inf at (3, 4)"),
        (lambda A: A.astype(complex), "complex"),
        (lambda A: A.astype(str), "not real"),
        (lambda A: A[0], "dimensions"),
        (lambda A: A[:0], "empty"),
        (lambda A: A[None], "dimensions"),
        (lambda A: A * 1e200, "magnitude"),
    ],
)
def test_bad_matrices(
    folder: Path, A: np.ndarray, capsys: pytest.CaptureFixture[str], make: Any, said: str
) -> None:
    np.save("bad.npy", make(A))
    message = refused(capsys, "compress", "bad.npy", *SIZE)
    assert message.startswith("bad.npy: ")
    assert said in message


class _Bomb:
    """Leaves a trace if it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


def _damaged_inputs(A: np.ndarray) -> dict[str, str]:
    """Files that must be refused, and what the message says."""
    data = Path("a.npy").read_bytes()
    np.save("object.npy", np.array([[_Bomb(), 1]], dtype=object), allow_pickle=True)
    Path("pickle.npy").write_bytes(pickle.dumps(_Bomb()))
    np.save("record.npy", np.zeros(4, [("x", "f4"), ("y", "f4")]))
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
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Path("text.jpg").write_text("hello")
    Path("script.tif").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    return {
        "object.npy": "pickle",
        "pickle.npy": "not a valid .npy",
        "record.npy": "not real",
        "short.npy": "truncated",
        "long.npy": "after its data",
        "header.npy": "not a valid .npy",
        "empty.npy": "not a valid .npy",
        "wide.npy": "not a valid .npy",
        "huge.npy": "truncated",
        "object.npz": "pickle",
        "many.npz": "name one",
        "many.npz:z": "it has: x, y",
        "short.npz": "damaged",
        "flip.npz": "damaged",
        "other.npz": "truncated",
        "links.h5": "name one",
        "links.h5:/z": "it has: ",
        "links.h5:/soft": "link",
        "links.h5:/gone": "link",
        "links.h5:/outside": "link",
        "links.h5:/group": "group",
        "links.h5:/x/y": "it has: ",
        "links.h5:/text": "not an array of numbers",
        "links.h5:/sparse": "not an array of numbers",
        "links.h5:/virtual": "other files",
        "links.h5:/outer": "other files",
        "links.h5:/huge": "stores next to none",
        "short.h5": "damaged",
        "text.h5": "damaged",
        "none.h5": "0 arrays",
        "broken.png": "damaged",
        "text.jpg": "damaged",
        "script.tif": "damaged",
    }


def test_damaged_and_hostile_inputs(
    folder: Path, A: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in _damaged_inputs(A).items():
        message = refused(capsys, "compress", name, *SIZE)
        assert said in message, (name, message)
        assert name.split(":")[0] in message, (name, message)
    assert not Path("exploded").exists()
    assert not Path("out.h5").exists()


def test_every_truncation_of_a_npy_is_refused(folder: Path, A: np.ndarray) -> None:
    np.save("x.npy", A[:3, :3])
    data = Path("x.npy").read_bytes()
    for length in range(len(data)):
        Path("cut.npy").write_bytes(data[:length])
        with pytest.raises(LplrError):
            read_input("cut.npy")


def test_damaged_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lplr.save("good.h5", lplr.quantize(np.eye(9), bits=2))
    data = Path("good.h5").read_bytes()
    Path("short.h5").write_bytes(data[:-1])
    Path("flip.h5").write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    for name in ("short.h5", "flip.h5"):
        for command in (("info",), ("verify",), ("decompress", "-o", "out.npy")):
            message = refused(capsys, command[0], name, *command[1:])
            assert name in message
            assert "damaged" in message
    assert not Path("out.npy").exists()
