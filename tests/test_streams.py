"""Standard streams: closed, full, with a small encoding, without a reader, on a dumb terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import COMMAND

import lplr
from lplr.cli.progress import Progress
from lplr.cli.streams import Output, prepared

posix = pytest.mark.skipif(os.name != "posix", reason="closes descriptors")

# Every command with the exit code that it has when nothing is wrong with the streams.
COMMANDS: dict[str, tuple[int, list[str]]] = {
    "help": (0, ["--help"]),
    "version": (0, ["--version"]),
    "usage": (2, ["squash"]),
    "compress": (
        0,
        ["compress", "a.npy", "-o", "out.h5", "--overwrite", "--method", "naive", "--bits", "4"],
    ),
    "decompress": (0, ["decompress", "good.h5", "-o", "out.npy", "--overwrite", "--json"]),
    "info": (0, ["info", "good.h5"]),
    "info json": (0, ["info", "good.h5", "--json"]),
    "verify": (0, ["verify", "good.h5", "--against", "a.npy"]),
    "damaged": (2, ["verify", "bad.h5"]),
    "demo": (0, ["demo", "--help"]),
    "bench": (0, ["bench", "layers", "--help"]),
    "doctor": (0, ["doctor", "--help"]),
    "bounds": (0, ["bounds", "--list"]),
}
# Runs all of them in one process, because starting one takes longer than most of them do.
SCRIPT = """\
import json, os, sys
from lplr.cli.main import main
codes = {}
for name, (_, args) in json.load(open("commands.json")).items():
    for descriptor in json.loads(sys.argv[1]):  # full again, after the failure before
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
    codes[name] = main(args)
json.dump(codes, open("codes.json", "w"))
sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    A = np.random.default_rng(0).standard_normal((30, 20))
    np.save(tmp_path / "a.npy", A)
    lplr.save(tmp_path / "good.h5", lplr.quantize(A, bits=3))
    data = (tmp_path / "good.h5").read_bytes()
    (tmp_path / "bad.h5").write_bytes(data[:-1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(line: str, *args: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python with redirections, ``line``, that the shell sets up before it starts."""
    return subprocess.run(
        ["sh", "-c", f'"$0" "$@" {line}', sys.executable, *args],
        capture_output=True,
        timeout=120,
        env=os.environ | env,
    )


@posix
@pytest.mark.parametrize(
    ("line", "full"),
    [
        (">&-", []),
        ("<&- >&- 2>&-", []),
        (">/dev/full", [1]),
        ("2>/dev/full", [2]),
    ],
)
def test_closed_and_full_streams(folder: Path, line: str, full: list[int]) -> None:
    if full and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    Path("commands.json").write_text(json.dumps(COMMANDS))
    done = shell(line, "-c", SCRIPT, json.dumps(full))
    assert done.returncode == 7, done.stderr  # not changed by what Python flushes at exit
    assert b"Traceback" not in done.stdout + done.stderr
    codes = json.loads(Path("codes.json").read_text())
    # A full disk under standard output is an error of every command.
    expected = {name: 2 if full == [1] else code for name, (code, _) in COMMANDS.items()}
    assert codes == expected
    if full == [1]:
        lost = [line for line in done.stderr.splitlines() if b"standard output" in line]
        assert len(lost) == len(COMMANDS) - 2  # "usage" and "damaged" print nothing there
    assert lplr.load("out.h5").shape == np.load("out.npy").shape == (30, 20)


@posix
def test_an_ascii_terminal(folder: Path) -> None:
    commands = [["bounds", "range-finder-bound", "--trials", "30", "--all"]]
    if sys.platform == "linux":  # elsewhere names of files are text
        name = os.fsdecode(b"\xff.npy")
        Path("a.npy").rename(name)
        packed = os.fsdecode(b"\xfe.h5")
        commands += [
            ["compress", name, "-o", packed, "--rank", "2"],
            ["decompress", packed, "-o", os.fsdecode(b"\xfd.npy")],
            ["info", packed],
            ["verify", packed, "--against", name],
            ["info", os.fsdecode(b"\xfc.h5")],
        ]
    script = (
        "import sys, json; from lplr.cli.main import main; "
        "sys.exit(json.dumps([main(args) for args in json.loads(sys.argv[1])]))"
    )
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = shell("", "-c", script, json.dumps(commands), **env)
    *errors, codes = done.stderr.decode("ascii").splitlines()
    assert json.loads(codes) == [0, 0, 0, 0, 0, 2][: len(commands)]
    assert "Traceback" not in "".join(errors)
    text = done.stdout.decode("ascii")
    assert "+- s.e." in text
    if len(commands) > 1:
        assert r"\xfe.h5: digest" in text
        assert np.load(os.fsdecode(b"\xfd.npy")).shape == (30, 20)


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("ascii", r"x\xff +- \u03c3 x"),
        ("latin-1", r"x\xff ± \u03c3 ×"),
        ("cp1252", r"x\xff ± \u03c3 ×"),
        ("utf-8", r"x\xff ± σ ×"),
    ],
)
def test_what_an_encoding_lacks_is_spelled_out(encoding: str, seen: str) -> None:
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, encoding, errors="strict"))
    output.write(os.fsdecode(b"x\xff") + " ± σ ×")
    output.deliver()
    assert raw.getvalue().decode(encoding) == seen


def test_a_terminal_gets_no_orders() -> None:
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, "utf-8", newline="\n"))
    output.write("a\tb\n\x1b]0;title\x07\x9b2J\r\x7f é\n")
    output.deliver()
    assert raw.getvalue().decode() == "a\tb\n\\x1b]0;title\\x07\\x9b2J\\x0d\\x7f é\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are text")
def test_json_gives_back_the_bytes_of_a_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lplr.cli.main import main

    Path("a.npy").rename(os.fsdecode(b"\xff.npy"))
    for output in (b"\xfe.h5", b"again.h5"):
        source = os.fsdecode(b"\xff.npy")
        args = ["compress", source, "-o", os.fsdecode(output), "--rank", "2", "--json"]
        assert main(args) == 0
        document = json.loads(capsys.readouterr().out)
        assert os.fsencode(document["input"]["file"]) == b"\xff.npy"
        assert os.fsencode(document["output"]) == output
    f = lplr.load("again.h5")
    lplr.save("named.h5", f, attrs={"layer": source})
    assert main(["info", "named.h5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert os.fsencode(document["attrs"]["layer"]) == b"\xff.npy"


@posix
def test_a_reader_that_goes_away(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "--help"], stdout=write, stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stderr) == (141, b"")
    # What is said about progress does not keep the file from being written.
    command = [*COMMAND, *COMMANDS["compress"][1]]
    done = subprocess.run(command, stdout=write, stderr=write, timeout=120)
    os.close(write)
    assert done.returncode == 141
    assert lplr.load("out.h5").shape == (30, 20)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def show(terminal: Terminal, work: Any = 2.0) -> str:
    with Progress(work, stream=terminal) as progress:
        with progress.step("first", 1.0):
            pass
        progress.say("a word")
    return terminal.getvalue()


def test_progress_is_redrawn_on_a_terminal(terminal: Terminal) -> None:
    text = show(terminal)
    assert text.startswith("\r\x1b[K[")
    assert "lplr: a word\n" in text
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize(("variable", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_progress_is_plain_where_it_is_asked_for(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    lines = show(terminal).splitlines()
    assert [line[:6] for line in lines] == ["lplr: "] * 2
    assert not any(char in show(terminal) for char in "\r\x1b")


def test_streams_of_the_caller_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with prepared() as output:
        print("collected")
        print("at once", file=sys.stderr)
        assert capsys.readouterr() == ("", "at once\n")
        output.deliver()
        output.deliver()
    assert capsys.readouterr().out == "collected\n"
    assert (sys.stdout, sys.stderr) == before
