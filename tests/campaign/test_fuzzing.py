"""Fuzzing: the corpus and a little damage to it here; 30 s of each target in the long form."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import fresh
import pytest
from fuzz_targets import TARGETS
from fuzzing import damaged_corpus

from lplr.selftest.trials import Scale


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str, scale: Scale, tmp_path: Path) -> None:
    for data in islice(damaged_corpus(name), 150):
        TARGETS[name](data)
    if scale.long:
        done = fresh.run(Path(__file__).parent / "fuzzing.py", name, "30", tmp_path)
        assert "stat::number_of_executed_units:" in done.stdout + done.stderr
