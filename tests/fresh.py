"""Python processes that start afresh, for what depends on how a process starts or ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(
    *command: str | Path, cwd: Path | None = None, **environment: str | Path | None
) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments given; None removes a variable from its environment."""
    env = {n: str(v) for n, v in {**os.environ, **environment}.items() if v is not None}
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
