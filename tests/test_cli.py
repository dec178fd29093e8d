"""The command line: exit codes, one-line errors, outputs, and what it refuses.

Where the process itself matters (signals, pipes, limits, start-up) it is run as one; the many
refusals run in this process, through the same `main`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command import error_of, process, refused, report

import lplr
from lplr import datasets
from lplr.cli.main import main

COMMANDS = (
    "compress", "decompress", "info", "verify", "demo", "bench", "bounds", "doctor", "selftest",
)  # fmt: skip


@pytest.fixture(scope="module")
def A() -> np.ndarray:
    return datasets.synthetic(80, 60, "power", rng=0)


@pytest.fixture
def folder(tmp_path: Path, A: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "a.npy", A)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the process -----------------------------------------------------------------------------


def test_round_trip(folder: Path, A: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    """The first command as a process."""
    done = process("compress", "a.npy", "-o", "a.h5", "--bits-per-entry", "3", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "relative, Frobenius" in done.stdout
    f = lplr.load(folder / "a.h5")
    assert f.bits_per_entry <= 3
    np.testing.assert_array_equal(
        f.to_dense(), lplr.compress(A, bits_per_entry=3, rng=0).to_dense()
    )

    assert main(["decompress", "a.h5", "-o", "b.npy"]) == 0
    np.testing.assert_array_equal(np.load(folder / "b.npy"), f.to_dense())

    capsys.readouterr()
    found = report(capsys, "verify", "a.h5", "--against", "a.npy")
    assert found["relative_error"] == pytest.approx(f.relative_error(A))
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


def test_help_offers_what_the_package_has(capsys: pytest.CaptureFixture[str]) -> None:
    """Choices are written out, since --help must load nothing heavy."""
    from lplr.algorithms.factorize import METHODS
    from lplr.cli import compress
    from lplr.linalg.sketches import KINDS
    from lplr.planning.codebooks import EFFORTS
    from lplr.quantizers.base import QUANTIZERS

    assert compress.CHOICES == {
        "effort": tuple(EFFORTS),
        "method": (*METHODS, "naive"),
        "sketch": tuple(KINDS),
        "mode": ("default", "faithful"),
    }
    trellises = [f"trellis-{n}" for n in compress.TRELLIS_STATE_BITS]
    assert [*compress.QUANTIZERS, *trellises] == list(QUANTIZERS)
    assert main(["compress", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(compress.QUANTIZERS)} (of 10 state bits), or trellis-6 to trellis" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "compress a.npy -o a.h5 --methd lplr",
            "option --methd (did you mean --method?); see: lplr ",
        ),
        ("compress a.npy -o a.h5 --method lprl", "no 'lprl' (did you mean lplr?); there are"),
        ("compres a.npy", "there is no 'compres' (did you mean compress?)"),
        (
            "bench layers --heslians=x",
            "no option --heslians (did you mean --hessians?); see: lplr ",
        ),
        ("info a.h5 b.h5", "'b.h5' is one argument too many; see: lplr info --help"),
        ("doctor --xyz", "there is no option --xyz; see: lplr doctor --help"),
    ],
)
def test_what_a_command_does_not_know(
    capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    assert said in refused(capsys, *arguments.split())


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
    assert "MissingFileError" in done.stderr


# --- what it does ----------------------------------------------------------------------------


def test_info_shows_every_component(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    f = lplr.factorize(np.load("a.npy"), rank=8, bits=(3, 5), rng=4)
    lplr.save("a.h5", f, attrs={"layer": "up/0"})
    assert main(["info", "a.h5"]) == 0
    text = capsys.readouterr().out
    document = report(capsys, "info", "a.h5")
    assert document["sha256"] in text
    assert document["attrs"] == {"layer": "up/0"}
    assert document["groups"]["/"]["meta"]["call"]["arguments"]["rng"] == 4
    assert document["groups"]["/left"]["values"]["bits"] == 3
    assert document["stored_nbytes"] == f.nbytes
    for shown in ("/left/codes", "/right/scale", "bits 5", "rng=4", "feedback", "up/0", "rank 8"):
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
    monkeypatch.setattr("lplr.storage.stored.read_stored", lambda path: 1 / 0)
    assert main(["info", "a.npy"]) == 1
    assert "defect of lplr: ZeroDivisionError" in error_of(capsys.readouterr().err)


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
        (
            ("compress", ".", *SIZE),
            "is a folder, and this command takes none; for a whole network "
            "use: lplr model compress",
        ),
        (("compress", "model.gguf", *SIZE), "use: lplr model compress"),
        (("decompress", ".", "-o", "out.npy"), "use: lplr model export"),
        (("info", "."), "use: lplr model info"),
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
    with h5py.File("H.h5", "w") as file:
        file["H"] = np.eye(5)
    options = ("compress", "in.h5:/x", "-o", "H.h5", "--bits-per-entry", "2", "--overwrite")
    assert "input itself" in refused(capsys, *options, "--hessian", "H.h5:/H")
    assert main(["compress", "a.npy", *SIZE, "--overwrite"]) == 0
    assert main(["decompress", "good.h5", "-o", "out.npy", "--overwrite"]) == 0
    assert np.load("out.npy").shape == (9, 9)


def test_outputs_that_cannot_be_are_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe.h5")
    os.mkfifo("pipe.jsonl")
    Path("loop.h5").symlink_to("loop.h5")
    for name, said in (
        ("pipe.h5", "a pipe"),
        ("loop.h5", "cannot be written"),
        ("x" * 300 + ".h5", "too long"),
        ("a.h5/", "ends in .h5"),
    ):
        assert said in refused(capsys, "compress", "none.npy", "-o", name, "--rank", "2")
    # Which waited for ever.
    options = ("--methods", "naive", "--budgets", "2", "--out", "pipe.jsonl")
    assert "a pipe" in refused(capsys, "bench", "layers", "a.npy", *options)


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
        (lambda A: np.zeros(4, [("x", "f4"), ("y", "f4")]), "not real"),
    ],
)
def test_bad_matrices(
    folder: Path, A: np.ndarray, capsys: pytest.CaptureFixture[str], make: Any, said: str
) -> None:
    np.save("bad.npy", make(A))
    message = refused(capsys, "compress", "bad.npy", *SIZE)
    assert message.startswith("bad.npy: ")
    assert said in message


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
