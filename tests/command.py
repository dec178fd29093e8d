"""Running the command line in tests: in this process, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lplr.cli.main import main

COMMAND = (sys.executable, "-m", "lplr")


def process(*args: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The finished process of a command."""
    return subprocess.run(
        [*COMMAND, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=120, **options
    )


def error_of(stderr: str) -> str:
    """The one line that says what is wrong; what precedes it can only be progress."""
    *progress, last = stderr.splitlines()
    assert all(line.startswith("lplr: ") and "error:" not in line for line in progress)
    assert last.startswith("lplr: error: ")
    assert "Traceback" not in stderr
    return last.removeprefix("lplr: error: ")


def refused(capsys: pytest.CaptureFixture[str], *args: str | Path) -> str:
    """The message of a command that must end with exit code 2 and print nothing else."""
    code = main([*map(str, args)])
    captured = capsys.readouterr()
    assert code == 2, captured.err
    assert captured.out == ""
    return error_of(captured.err)


def report(capsys: pytest.CaptureFixture[str], *args: str | Path) -> dict[str, Any]:
    """The JSON document of a command that must succeed."""
    assert main([*map(str, args), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document
