"""lplr model adapt: what it prints, what an interrupt leaves, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_models import FIXTURES, compressed

from lplr.cli.main import main
from lplr.models.adaptation import run

ORIGINAL = str(FIXTURES / "llama")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compressed network, ``small``, and tokens."""
    path = tmp_path_factory.mktemp("adapt")
    compressed(FIXTURES / "llama", path / "small", 2)
    np.save(path / "tokens.npy", np.random.default_rng(0).integers(0, 96, (16, 12)))
    return path


def call(folder: Path, out: str, *more: str) -> list[str]:
    tokens = ("--tokens", str(folder / "tokens.npy"), "--steps", "3", "--batch", "2")
    start = ["model", "adapt", str(folder / "small"), ORIGINAL, "-o", str(folder / out)]
    return [*start, *tokens, "--rank", "2", *more]


def test_what_it_gained_and_what_it_costs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call(folder, "adapted")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layers", "divergence", "(nats)", "bits", "per", "weight"]
    stages = [
        "as it was",
        "with corrections of the layers' errors",
        "trained, in float32",
        "stored",
    ]
    for words, line in zip(stages, lines[2:6], strict=True):
        assert line.startswith(words)
    assert "2 sequences, 22 predictions" in lines[8]
    assert "3 of 3 steps; all steps were taken" in lines[9]
    assert main(["model", "info", str(folder / "adapted")]) == 0
    assert "adapted (rank 2, 4 bits, 3 steps)" in capsys.readouterr().out
    assert main(call(folder, "again", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    made = report["settings"]["adaptations"][-1]
    assert made["held_out_loss"]["stored"] < made["held_out_loss"]["before"]
    assert made["trained"] == ["factors", "scales", "norms", "biases"]


@pytest.mark.filterwarnings("default::lplr.exceptions.AdaptationWarning")
def test_steps_that_were_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A training that diverges between two looks at what is held out."""
    assert main(call(folder, "far", "--rate", "100", "--steps", "40")) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("training")]
    assert re.match(r"training +(\d+) of 40 steps; stopped after step \1: the loss went far", line)


def test_an_interrupt_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "adapted_layer", interrupted)
        assert main(call(folder, "later")) == 130
    said = capsys.readouterr().err
    assert "what is done is kept in" in said
    assert "the same command goes on" in said
    assert main(call(folder, "later", "--seed", "1")) == 2
    assert "it differs in rng" in capsys.readouterr().err
    assert main(call(folder, "later")) == 0
    assert (folder / "later" / "model.json").is_file()
    assert not (folder / "later.job").exists()


def test_what_is_missing_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = ["model", "adapt", str(folder / "small"), ORIGINAL, "-o", str(folder / "none")]
    assert main(bare) == 2
    assert "--tokens: is missing" in capsys.readouterr().err
    assert main([*bare, "--tokens", str(folder / "tokens.npy"), "--bits", "9"]) == 2
    assert "--bits" in capsys.readouterr().err
    assert main(["model", "adapt", ORIGINAL, ORIGINAL, *call(folder, "none")[4:]]) == 2
    said = capsys.readouterr().err
    assert "error: MODEL: " in said
    assert "is not compressed" in said
    assert main(call(folder, "none", "--train", "everything")) == 2
    assert "there are factors, scales, norms, biases" in capsys.readouterr().err
