"""`lplr compress --bits-per-entry` and how `lplr info` explains what it chose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lplr
from lplr.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layer = lplr.datasets.layer("minilm_l2_query")
    np.save(tmp_path / "W.npy", layer.W[:96, :128])
    np.save(tmp_path / "H.npy", layer.H[:128, :128])
    np.save(tmp_path / "a.npy", lplr.datasets.synthetic(90, 80, "power", exponent=1.0, rng=0))
    np.save(tmp_path / "one.npy", np.ones((9, 8)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main([*args, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("hessian", [(), ("--hessian", "H.npy")])
@pytest.mark.parametrize("bits", ["0.6", "2.5"])
def test_the_budget_is_spent_by_compress(folder, capsys, hessian, bits: str) -> None:
    command = ("compress", "W.npy", "-o", "W.h5", "--bits-per-entry", bits, *hessian)
    planned = report(capsys, *command, "--dry-run")["choices"]
    assert not Path("W.h5").exists()
    made = report(capsys, *command)
    H = np.load("H.npy") if hessian else None
    f = lplr.compress(np.load("W.npy"), bits_per_entry=float(bits), hessian=H, rng=0)
    np.testing.assert_array_equal(lplr.load("W.h5").to_dense(), f.to_dense())
    assert made["stored_nbytes"] == f.nbytes <= float(bits) * 96 * 128 / 8
    assert made["search"] == [f.meta["plan"], *f.meta["others"]]
    assert sorted(c["predicted"] for c in made["search"]) == [c["predicted"] for c in planned]
    chosen = next(c for c in planned if c["predicted"] == made["search"][0]["predicted"])
    assert chosen["nbytes"] == f.nbytes
    assert (made["relative_error_under_hessian"] is None) == (not hessian)


def test_info_shows_the_choice_and_what_else_was_considered(folder, capsys) -> None:
    assert main(["compress", "a.npy", "-o", "a.h5", "--bits-per-entry", "2"]) == 0
    compressed = capsys.readouterr().out
    assert main(["info", "a.h5"]) == 0
    text = capsys.readouterr().out
    meta = lplr.load("a.h5").meta
    assert "how the budget was spent" in text
    for shown in (compressed, text):
        lines = [line for line in shown.splitlines() if line.startswith("* ")]
        assert len(lines) == 1
        assert f"{meta['choice']['predicted']:.5f}" in lines[0]
        assert f"{meta['choice']['error']:.5f}" in lines[0]
        assert all(f"{other['predicted']:.5f}" in shown for other in meta["others"])
    assert '"kind"' not in text  # as a table, not as JSON
    document = report(capsys, "info", "a.h5")
    assert document["groups"]["/"]["meta"]["choice"] == meta["plan"]


def test_a_constant_matrix(folder, capsys) -> None:
    command = ("compress", "one.npy", "-o", "one.h5", "--bits-per-entry", "4")
    assert report(capsys, *command, "--dry-run")["choices"][0]["kind"] == "constant"
    assert report(capsys, *command)["relative_error"] == 0
    assert main(["info", "one.h5"]) == 0
    assert "one value" in capsys.readouterr().out


def test_effort(folder, capsys) -> None:
    errors = []
    for effort in ("fast", "best"):
        command = ("compress", "W.npy", "-o", f"{effort}.h5", "--bits-per-entry", "2.5")
        made = report(capsys, *command, "--effort", effort)
        assert lplr.load(f"{effort}.h5").meta["effort"] == effort
        errors.append(made["relative_error"])
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rank", "3", "--effort", "best"), "--effort"),
        (("--bits-per-entry", "2", "--method", "feedback", "--effort", "fast"), "--effort"),
        (("--bits-per-entry", "2", "--effort", "slow"), "slow"),
        (("--bits-per-entry", "0.001"), "use at least"),
        (("--bits-per-entry", "2", "--hessian", "a.npy"), "hessian"),
        (("--bits-per-entry", "2", "--hessian", "H.npy", "--bits", "3"), "--bits"),
    ],
)
def test_refusals(folder, capsys, options: tuple[str, ...], said: str) -> None:
    try:
        code: Any = main(["compress", "W.npy", "-o", "out.h5", *options])
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("out.h5").exists()


def test_a_named_method_still_does_what_it_did(folder, capsys) -> None:
    for options in (("--method", "feedback"), ("--quantizer", "e8p,lloyd-max")):
        command = ("compress", "a.npy", "-o", "a.h5", "--overwrite", "--bits-per-entry", "2")
        made = report(capsys, *command, *options)
        assert isinstance(lplr.load("a.h5"), lplr.LowRank)
        assert made["search"] == []
        assert made["bits_per_entry"] <= 2
