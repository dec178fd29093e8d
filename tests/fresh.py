"""Python processes that start afresh, for what depends on how a process starts or ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(
    *command: str | Path, cwd: Path | None = None, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments given; None removes a variable from its environment."""
    env = os.environ | {name: value for name, value in environment.items() if value is not None}
    for name in environment.keys() - {n for n, value in environment.items() if value is not None}:
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
