"""Bits are divided among layers by what matters, and only where held-out sequences confirm it."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refused, report
from tiny_models import tiny_checkpoint

from lplr.cli.main import main
from lplr.cli.model_allocation import table_of
from lplr.exceptions import CorruptFileError, InputError
from lplr.models import allocate, comparison
from lplr.models.allocation import allocation_seconds
from lplr.models.candidates import Allocation, Candidate
from lplr.models.costs import layers_of
from lplr.models.moves import from_margins, moved
from lplr.models.opening import open_network

IDS = np.random.default_rng(1).integers(0, 100, (40, 32))
GIVEN: dict[str, Any] = {"bits_per_weight": 3, "calibration": IDS, "output_moments": True}
ATTENTION = [f"model.layers.0.self_attn.{kind}_proj" for kind in "qkvo"]
MLP = [f"model.layers.0.mlp.{kind}_proj" for kind in ("gate", "up", "down")]


def quiet_attention(tensors: dict[str, np.ndarray]) -> None:
    """What attention adds to the hidden states is a twentieth of what the other layers add."""
    tensors["model.layers.0.self_attn.o_proj.weight"] /= 20


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "source"
    return tiny_checkpoint(folder, quiet_attention, num_hidden_layers=1)


@pytest.fixture(scope="module")
def found(source: Path) -> Allocation:
    said: list[str] = []
    out = source.parent / "bits.json"
    found = allocate(source, out, **GIVEN, progress=lambda share, what: said.append(what))
    # The output moments of the 20 sequences that are coded for are formed once.
    formed = [words for words, _ in itertools.groupby(said) if words.endswith("17 to 20 of 20")]
    assert formed == ["output moments, sequences 17 to 20 of 20"]
    return found


# --- moves ------------------------------------------------------------------------------------


def test_moves_are_the_best_of_a_grid() -> None:
    """The loss of each layer is c 2^(-2 b); the grid has all moves in steps of 1/32."""
    losses = {"a": 5.0, "b": 0.7, "c": 0.2, "d": 1.0}
    weights = {"a": 100, "b": 100, "c": 200, "d": 100}
    least = {"a": 1.0, "b": 1.0, "c": 1.9, "d": 1.0}

    def loss(moves: Any) -> float:
        return sum(c * 4.0**-m for c, m in zip(losses.values(), moves, strict=True))

    found = moved(losses, weights, 2.0, 0.25, least)
    assert sum(found[k] * weights[k] for k in weights) <= 2 * sum(weights.values())
    steps = np.arange(-8, 9) / 32
    allowed = (
        m
        for m in itertools.product(steps, repeat=4)
        if m[2] >= -0.1 and np.dot(m, list(weights.values())) <= 0
    )
    best = min(map(loss, allowed))
    ours = loss([found[k] - 2 for k in weights])
    # Rounded down by less than 1/1024 of a bit, of which a loss rises by 2 ln 2 / 1024.
    assert ours <= best * (1 + 2 * np.log(2) / 1024)
    assert found["c"] >= 1.9
    assert max(abs(bits - 2) for bits in found.values()) <= 0.25


def test_equal_losses_move_nothing_and_no_loss_gives_all() -> None:
    weights = {"a": 100, "b": 300}
    least = dict.fromkeys(weights, 1.0)
    assert moved({"a": 1, "b": 3}, weights, 2, 0.25, least) == {"a": 2, "b": 2}
    assert moved({"a": 1, "b": -1}, weights, 2, 0.25, least)["a"] == 2.25
    assert moved({"a": 0, "b": 0}, weights, 2, 0.25, least)["a"] > 2  # no weight tells them apart


def test_margins_of_a_product_give_it_back() -> None:
    kinds, blocks = {"up": 3.0, "down": 1.0}, [0.5, 2.0, 1.5]
    table = from_margins(kinds, blocks)
    for kind, loss in kinds.items():
        assert sum(table[kind, i] for i in range(3)) == pytest.approx(loss)
    for i, loss in enumerate(blocks):
        assert sum(table[kind, i] for kind in kinds) == pytest.approx(loss)
    assert from_margins({"up": -1.0, "down": 0.0}, [0.0]) == {("up", 0): 0.0, ("down", 0): 0.0}


# --- comparisons ------------------------------------------------------------------------------


def test_what_matters_is_found(source: Path, found: Allocation) -> None:
    """Predictions hang on the MLP, as the divergences of parts and output moments both say."""
    assert [each.name for each in found.candidates] == ["equal", "measured", "predicted"]
    weights = {name: n * d for name, (_, (n, d)) in layers_of(open_network(source).family).items()}
    for candidate in found.candidates[1:]:
        bits = candidate.bits_per_weight
        assert isinstance(bits, dict)
        assert all(bits[name] < 3 for name in ATTENTION)
        assert all(bits[name] > 3 for name in MLP)
        assert max(abs(b - 3) for b in bits.values()) <= 0.25
        assert sum(bits[name] * weights[name] for name in weights) <= 3 * sum(weights.values())
        change = found.change(candidate)
        assert change.value < -2 * change.standard_error
    assert found.chosen is min(found.candidates, key=lambda each: sum(each.kl))
    assert found.bits_per_weight is found.chosen.bits_per_weight
    assert "measured" in str(found)
    assert not (source.parent / "bits.json.job").exists()


def test_the_same_call_reads_what_it_has_found(
    source: Path, found: Allocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "compress", None)
    out = source.parent / "bits.json"
    assert allocate(source, out, **GIVEN) == found
    with pytest.raises(InputError, match="is not of this call"):
        allocate(source, out, **GIVEN, rng=1)


def test_a_guess_that_misleads_is_not_followed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misled(losses: dict[str, float], *rest: Any) -> dict[str, float]:
        return moved({name: 1 / loss for name, loss in losses.items()}, *rest)

    monkeypatch.setattr(comparison, "moved", misled)
    found = allocate(
        source, tmp_path / "bits.json", bits_per_weight=3, calibration=IDS, prefix=False
    )
    other = found.candidates[1]
    assert isinstance(other.bits_per_weight, dict)
    assert all(other.bits_per_weight[name] < 3 for name in MLP)
    assert found.change(other).value > 0
    assert (found.chosen.name, found.bits_per_weight) == ("equal", 3)


def test_gains_within_the_error_are_none() -> None:
    noise = np.random.default_rng(0).standard_normal(20)
    noise -= noise.mean()
    noise /= noise.std(ddof=1) / 20**0.5  # so that the standard error of the mean is 1

    def chosen(gain: float) -> str:
        each = [(1.0, np.full(20, 9.0)), ({"a": 1.0}, 9.0 - gain + noise)]
        candidates = (
            Candidate(name, bits, tuple(kl.tolist()))
            for name, (bits, kl) in zip(("equal", "measured"), each, strict=True)
        )
        return Allocation(tuple(candidates), {}, (), (31,) * 20).chosen.name

    assert [chosen(gain) for gain in (-5, 0, 1.9, 2.1)] == ["equal"] * 3 + ["measured"]


# --- interrupts and refusals ------------------------------------------------------------------


def test_an_interrupted_comparison_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded: list[str] = []
    compress = comparison.compress

    def stopping(checkpoint: Any, path: Path, **given: Any) -> None:
        coded.append(path.name)
        if coded == ["equal", "measured"]:
            raise KeyboardInterrupt
        compress(checkpoint, path, **given)

    monkeypatch.setattr(comparison, "compress", stopping)
    given: dict[str, Any] = {"bits_per_weight": 3, "calibration": IDS, "prefix": False}
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        allocate(source, first, **given, progress=lambda share, what: said.append(what))
    assert "candidate 1 of 2, equal bits: its predictions" in said
    assert any(words.startswith("each part alone: block 1 of 1, mlp") for words in said)
    assert said[-1].startswith("candidate 2 of 2, measured bits: ")
    with pytest.raises(InputError, match="it differs in effort"):
        allocate(source, first, **given, effort="default")
    (tmp_path / "first.json.job" / "measured").mkdir()
    (tmp_path / "first.json.job" / "measured" / "model.json").write_text("damaged")
    allocate(source, first, **given)
    assert coded == ["equal", "measured", "measured"]
    allocate(source, second, **given)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_command(
    source: Path,
    found: Allocation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What `allocate` has found before is what the command would find, and is not found anew."""

    def interrupt(*args: Any, **given: Any) -> None:
        raise KeyboardInterrupt

    np.save(tmp_path / "tokens.npy", IDS)
    out, record = tmp_path / "small", tmp_path / "small.allocation.json"
    command = ["model", "compress", source, "-o", out, "--bits-per-weight", "3", "--tokens",
        tmp_path / "tokens.npy", "--output-moments", "--effort", "fast"]  # fmt: skip
    verified = [*command, "--allocation", "verified"]
    plain, planned = (report(capsys, *call, "--dry-run")["seconds"] for call in (command, verified))
    assert planned["allocation"] > plain["all"]  # four networks are coded for it
    with monkeypatch.context() as patch:
        patch.setattr(comparison, "compress", interrupt)
        assert main([*map(str, verified)]) == 130
    assert f"compared are kept in {record}.job; the same command goes on" in capsys.readouterr().err
    shutil.rmtree(f"{record}.job")
    shutil.copy(source.parent / "bits.json", record)
    made = report(capsys, *verified)
    assert made["allocation"] == {"file": str(record), **found.describe()}
    assert made["settings"]["bits_per_weight"] == found.bits_per_weight
    assert "measured: KL" in table_of(made["allocation"])
    assert "exists" in refused(capsys, *verified)
    for words, wrong in {
        "--held-out: is for": [*command, "--held-out", "x.npy"],
        "for --method compress alone": [*verified, "--method", "caldera"],
        "--bits-per-weight: is missing": [*verified[:5], *verified[7:]],
    }.items():
        assert words in refused(capsys, *wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits_per_weight": {"a": 2}}, "bits_per_weight: must be a number"),
        ({"bits_per_weight": 0.1}, "bits_per_weight: 0.1 is too little"),
        ({"calibration": IDS[:7]}, "has 7 sequences, and at least 8 are needed"),
        ({"held_out": IDS[:1]}, "held_out: is one sequence"),
        ({"held_out": IDS + 90}, "the vocabulary has 100"),
        ({"prefix": 2}, "prefix"),
        ({"output_moments": "moments.safetensors"}, "output_moments: must be True or False"),
        ({"out": "/"}, "exists"),
    ],
)
def test_bad_arguments(source: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    call = {**GIVEN, "out": tmp_path / "bits.json"} | change
    with pytest.raises(InputError, match=words):
        allocate(source, **call)
    assert list(tmp_path.iterdir()) == []


def test_encoders_and_damaged_files_are_refused(
    source: Path, found: Allocation, tmp_path: Path
) -> None:
    bert = {"model_type": "bert", "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1}
    bert |= {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40}
    with pytest.raises(InputError, match="is an encoder"):
        allocation_seconds(bert, bits_per_weight=3)
    (tmp_path / "bits.json").write_text("{")
    with pytest.raises(CorruptFileError, match="not valid JSON"):
        allocate(source, tmp_path / "bits.json", bits_per_weight=3, calibration=IDS)
