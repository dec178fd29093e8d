"""``lplr compress FILE`` with several arrays: one budget, Hessians by name, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command import COMMAND, refused, report
from tiny_models import TOKENS, tiny_checkpoint

import lplr
from lplr.cli.main import main
from lplr.cli.progress import Progress
from lplr.inputs import ArrayFile
from lplr.models.moments_file import open_moments

COMPRESS = ("compress", "model.npz", "-o", "model.h5", "--bits-per-entry", "2")
WITH_H = (*COMPRESS, "--hessians", "hessians.npz", "--effort", "fast")


def model() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    easy = lplr.datasets.synthetic(60, 40, "power", exponent=1.5, rng=0)
    return {
        "up.weight": easy.astype(np.float32),
        "up.bias": rng.standard_normal(60).astype(np.float16),
        "down.weight": rng.standard_normal((40, 60)),
        "ids": np.arange(20).reshape(1, 20),
        "table": np.arange(20).reshape(4, 5),
        "head": rng.standard_normal((50, 30)).astype(np.float32),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("model.npz", **model())
    X = np.random.default_rng(1).standard_normal((200, 60)) * np.arange(1, 61) ** -0.5
    np.savez("hessians.npz", down=X.T @ X / 200, head=np.linspace(1, 9, 30)[None])
    return tmp_path


def test_all_matrices_of_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = report(capsys, *WITH_H, "--dry-run")
    assert not Path("model.h5").exists()
    assert not Path("model.h5.job").exists()
    made = report(capsys, *WITH_H)
    found, arrays = lplr.load("model.h5"), model()
    assert list(found) == list(arrays)
    packed = {name: f for name, f in found.items() if isinstance(f, lplr.PackedMatrix)}
    assert list(packed) == ["up.weight", "down.weight", "head"]
    for name in found.keys() - packed.keys():
        assert found[name].dtype == arrays[name].dtype
        np.testing.assert_array_equal(found[name], arrays[name])
    assert [entry["name"] for entry in made["kept"]] == ["up.bias", "ids", "table"]
    assert made["failed"] == []
    stored = sum(f.nbytes for f in packed.values())
    assert made["stored_nbytes"] == stored <= 2 * sum(arrays[name].size for name in packed) / 8
    hessians = np.load("hessians.npz")
    H = {"down.weight": hessians["down"], "head": hessians["head"][0]}
    budgets = {entry["name"]: entry["budget"] for entry in planned["matrices"]}
    assert budgets["up.weight"] < 2 < budgets["down.weight"]  # one of the two is easy
    for entry in made["matrices"]:
        name = entry["name"]
        assert entry["budget"] == budgets[name]
        f = lplr.compress(
            arrays[name], bits_per_entry=budgets[name], hessian=H.get(name), rng=0, effort="fast"
        )
        np.testing.assert_array_equal(packed[name].to_dense(), f.to_dense())
        assert entry["relative_error"] == f.relative_error(arrays[name])
        if name in H:
            assert entry["relative_error_under_hessian"] == f.relative_error(arrays[name], H[name])
    assert main([*WITH_H, "--overwrite"]) == 0
    text = capsys.readouterr().out
    for shown in ("under H", "1 dimension: up.bias", "int64: table", "3 matrices, 2 of them"):
        assert shown in text


def test_the_same_as_in_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(capsys, *WITH_H)
    with np.load("model.npz") as arrays, np.load("hessians.npz") as hessians:
        found = lplr.compress_all(
            arrays,
            bits_per_entry=2,
            hessians={"down": hessians["down"], "head": hessians["head"][0]},
            rng=0,
            effort="fast",
        )
    for name, f in lplr.load("model.h5").items():
        np.testing.assert_array_equal(np.asarray(f), np.asarray(found[name]))


def test_one_matrix_of_the_file_with_its_hessian(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compress", "model.npz:down.weight", "-o", "d.h5", "--bits-per-entry", "3")
    report(capsys, *command, "--hessians", "hessians.npz")
    H = np.load("hessians.npz")["down"]
    f = lplr.compress(model()["down.weight"], bits_per_entry=3, hessian=H, rng=0)
    np.testing.assert_array_equal(lplr.load("d.h5").to_dense(), f.to_dense())
    other = ("compress", "model.npz:up.weight", "-o", "u.h5", "--rank", "3")
    assert "has none for 'up.weight'" in refused(capsys, *other, "--hessians", "hessians.npz")


def test_names_in_hdf5(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = model()
    with h5py.File("in.h5", "w") as file:
        file["up/weight"], file["up/bias"] = arrays["up.weight"], arrays["up.bias"]
    with h5py.File("H.h5", "w") as file:
        file["up/weight"] = np.eye(40)
    command = ("compress", "in.h5", "-o", "out.h5", "--bits-per-entry", "2", "--hessians", "H.h5")
    (matrix,) = report(capsys, *command)["matrices"]
    assert (matrix["name"], matrix["hessian"]) == ("up/weight", True)
    assert list(lplr.load("out.h5")) == ["up/bias", "up/weight"]
    checked = report(capsys, "verify", "out.h5", "--against", "in.h5")["matrices"]
    assert checked[1]["relative_error"] == matrix["relative_error"]
    assert main(["info", "out.h5"]) == 0
    text = capsys.readouterr().out
    assert f"{matrix['relative_error_under_hessian']:.5f}" in text
    assert "attributes" not in text
    assert main(["info", "out.h5", "--name", "up/bias"]) == 0
    assert "attributes" not in capsys.readouterr().out  # errors are those of others


def test_moments_of_inputs_and_of_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ``lplr model calibrate`` writes of a network, with the options of one matrix as well."""
    np.save("tokens.npy", TOKENS)
    calibrate = ("model", "calibrate", str(tiny_checkpoint(Path("net"))), "--tokens", "tokens.npy")
    report(capsys, *calibrate, "-o", "H.npz")
    report(capsys, *calibrate, "-o", "G.safetensors", "--output")
    weights = ("--hessians", "H.npz", "--output-hessians", "G.safetensors")
    options = ("--bits-per-entry", "3", "--effort", "fast", *weights)
    made = report(capsys, "compress", "net/model.safetensors", "-o", "net.h5", *options)
    arrays, G = ArrayFile("net/model.safetensors"), open_moments("G.safetensors")
    for matrix in made["matrices"]:
        layer = matrix["name"].removesuffix(".weight")
        assert matrix["hessian"] == matrix["output_hessian"] == (layer in G.layers)
        if layer in G.layers:
            f, H = lplr.load("net.h5")[matrix["name"]], np.load("H.npz")[layer]
            error = f.relative_error(arrays[matrix["name"]].array, H, G.output_moment(layer))
            assert matrix["relative_error_under_output_hessian"] == error
    one = ("compress", f"net/model.safetensors:{layer}.weight", "-o", "one.h5")
    one = (*one, "--bits-per-entry", repr(matrix["budget"]), "--effort", "fast")
    report(capsys, *one, *weights)
    np.testing.assert_array_equal(lplr.load("one.h5").to_dense(), f.to_dense())
    for command in (
        ["info", "net.h5"],
        ["compress", "net/model.safetensors", "-o", "n.h5", *options],
    ):
        assert main(command) == 0
        text = capsys.readouterr().out
        assert "under H, G" in text
        assert f"{error:.5f}" in text
    assert "14 of them with a Hessian, 14 of them with an output Hessian" in text
    wrong = refused(
        capsys,
        "compress",
        "net/model.safetensors",
        "-o",
        "x.h5",
        *options[:4],
        "--hessians",
        "G.safetensors",
    )
    assert wrong.startswith("--hessians: there is no matrix of the name 'model.layers.0")


# --- what is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "hessians", "said"),
    [
        ("--hessians", {"dwon": np.eye(60)}, "'dwon' (near: down.weight)"),
        (
            "--hessians",
            {"down": np.eye(7), "head": -np.eye(30)},
            "down.weight: must have shape (60, 60)",
        ),
        ("--hessians", {"down": np.eye(7), "head": -np.eye(30)}, "head: entry (0, 0) is -1"),
        ("--output-hessians", {"down": np.eye(60)}, "down.weight: must have shape (40, 40)"),
        ("--output-hessians", {"down": np.zeros((40, 40))}, "down.weight: is zero; leave it out"),
    ],
)
def test_hessians_are_refused_all_at_once(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    hessians: dict[str, Any],
    said: str,
) -> None:
    np.savez("wrong.npz", **hessians)
    message = refused(capsys, *COMPRESS, option, "wrong.npz")
    assert message.startswith(f"{option}: ")
    assert said in message
    assert sorted(os.listdir()) == ["hessians.npz", "model.npz", "wrong.npz"]


def test_what_cannot_be_compressed_is_told_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = model()
    arrays["down.weight"][3, 4] = np.nan
    np.savez("model.npz", **arrays, spectrum=np.ones((3, 3), complex))
    assert main([*COMPRESS, "--effort", "fast"]) == 3
    said = capsys.readouterr()
    assert "warning: down.weight: has nan at (3, 4)" in said.err.split("planning")[0]
    assert "down.weight: has nan at (3, 4); every entry must be finite; kept as it is" in said.out
    assert "spectrum: dtype complex128 is not real" in said.out
    found = lplr.load("model.h5")
    np.testing.assert_array_equal(found["down.weight"], arrays["down.weight"])
    assert "spectrum" not in found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rank", "3"), "name one, model.npz:NAME, of: up.weight, up.bias"),
        (("--bits-per-entry", "2", "--hessian", "hessians.npz:down"), "name one"),
        (("--bits-per-entry", "0.001"), "use at least"),
    ],
)
def test_options_for_all_matrices(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, "compress", "model.npz", "-o", "model.h5", *options)
    assert not Path("model.h5.job").exists()
    np.savez("nothing.npz")
    command = ("compress", "nothing.npz", "-o", "v.h5", "--bits-per-entry", "2")
    assert refused(capsys, *command).startswith("nothing.npz: has no arrays")
    np.savez("vectors.npz", a=np.ones(3), b=np.ones(4))
    command = ("compress", "vectors.npz", "-o", "v.h5", "--bits-per-entry", "2")
    assert "a (1 dimension), b (1 dimension)" in refused(capsys, *command)


@pytest.mark.parametrize("option", [("--seed", "-1"), ("--bits-per-entry", "nan")])
def test_numbers_are_checked_before_any_array(
    folder: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    np.savez("model.npz", **{name: array * np.nan for name, array in model().items()})
    assert main([*COMPRESS, *option]) == 2
    said = capsys.readouterr().err
    assert f"error: {option[0]}: " in said
    assert "nan at" not in said  # what looking at them would find


def test_names_are_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    A = np.random.default_rng(0).standard_normal((20, 20))
    lplr.save("in.h5", {"a\x1b[31m\nb": A, "b": A})
    assert main(["decompress", "in.h5", "-o", "in.safetensors"]) == 0
    budget = ("--bits-per-entry", "2", "--effort", "fast")
    assert main(["compress", "in.safetensors", "-o", "all.h5", *budget]) == 0
    assert main(["compress", "in.safetensors:a\x1b[31m\nb", "-o", "one.h5", *budget]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


@pytest.mark.filterwarnings("default")
def test_a_hessian_of_what_is_kept_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("hessians.npz", **{"up.bias": np.eye(60), "head": np.ones((1, 30))})
    assert main([*WITH_H, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "warning: --hessians: up.bias: is not used" in said.err
    assert "3 matrices, 1 of them with a Hessian" in said.out


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("bits", "times"), [("15.9", 0), ("16", 1), ("64", 1)])
def test_a_budget_of_one_matrix_that_gains_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], bits: str, times: int
) -> None:
    np.save("half.npy", np.eye(30, 40, dtype=np.float16))
    assert main(["compress", "half.npy", "-o", "o.h5", "--bits-per-entry", bits, "--dry-run"]) == 0
    assert capsys.readouterr().err.count("bits that an entry takes already") == times


@pytest.mark.filterwarnings("default")
def test_a_budget_that_gains_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("model.npz", **{k: a.astype(np.float16) for k, a in model().items()})
    assert main([*COMPRESS[:-1], "16", "--dry-run"]) == 0
    assert capsys.readouterr().err.count("16 is not below the 16 bits") == 1


# --- going on --------------------------------------------------------------------------------


class StopError(Exception):
    pass


def stopped(monkeypatch: pytest.MonkeyPatch, name: str, calls: int) -> None:
    """Let a command end with a defect at this call of a function of the package."""
    original, count = getattr(lplr, name), iter(range(calls))

    def once(*args: Any, **options: Any) -> Any:
        if next(count, None) is None:
            raise StopError
        return original(*args, **options)

    monkeypatch.setattr(lplr, name, once)


def test_goes_on_where_it_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WITH_H]) == 0
    whole = Path("model.h5").read_bytes()
    Path("model.h5").unlink()
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, "compress", 2)
        assert main([*WITH_H]) == 1
    kept = Path("model.h5.job").resolve()
    assert f"2 of 3 matrices are done and kept in {kept}" in capsys.readouterr().err
    assert not Path("model.h5").exists()
    assert "--effort" in refused(capsys, *WITH_H[:-1], "best")
    assert "--seed" in refused(capsys, *WITH_H, "--seed", "1")
    part = Path("model.h5.job/00001.h5")
    part.write_bytes(part.read_bytes()[:-1])  # a damaged part is made again
    Path("model.h5.job/mine.txt").touch()  # and what is not ours stays
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, "compress", 2)  # the two that are missing
        told: list[tuple[float, str]] = []
        patch.setattr(Progress, "tell", lambda _, share, what: told.append((share, what)))
        assert main([*WITH_H]) == 0
    assert next(share for share, what in told if "(2 of 3)" in what) < 0.1  # all work is to come
    assert Path("model.h5").read_bytes() == whole
    assert os.listdir("model.h5.job") == ["mine.txt"]
    Path("model.h5").unlink()
    capsys.readouterr()
    assert "files of others" in refused(capsys, *WITH_H)


def test_a_lock_that_cannot_be_deleted_yet_does_no_harm(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows no open file is."""
    unlink = Path.unlink

    def of_windows(path: Path, missing_ok: bool = False) -> None:
        if path.name == "lock":
            raise PermissionError
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", of_windows)
    assert main([*WITH_H]) == 0
    assert os.listdir("model.h5.job") == ["lock"]
    assert main([*WITH_H, "--overwrite"]) == 0  # what is left is no obstacle


def test_a_changed_input_is_noticed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(monkeypatch, "compress", 1)
    assert main([*WITH_H]) == 1
    arrays = model()
    arrays["head"][0, 0] += 1
    np.savez("model.npz", **arrays)
    capsys.readouterr()
    assert "it differs in the input" in refused(capsys, *WITH_H)


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_an_interrupt_says_how_to_go_on(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez("model.npz", **{f"w{i}": rng.standard_normal((400, 400)) for i in range(40)})
    child = subprocess.Popen([*COMMAND, *COMPRESS], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while " of 40)" not in child.stderr.readline():  # the first ones are being compressed
        pass
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "of 40 matrices are done" in error.splitlines()[-2]
    assert error.splitlines()[-1] == "lplr: interrupted"
    assert sorted(os.listdir()) == ["hessians.npz", "model.h5.job", "model.npz"]
    assert json.loads(Path("model.h5.job/job.json").read_text())["--bits-per-entry"] == 2
