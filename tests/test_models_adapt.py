"""Adaptation of compressed networks: what it gains, what it leaves, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import CONFIG, llama
from packed_models import FIXTURES, compressed

import lplr
from lplr.exceptions import AdaptationWarning, InputError
from lplr.models.evaluation.scores import compare
from lplr.models.writers import export_folder
from lplr.parallel import at_most

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, CONFIG["vocab_size"], (32, 20))
TEST = RNG.integers(0, CONFIG["vocab_size"], (16, 20))
OPTIONS: dict[str, Any] = {"rank": 3, "steps": 24, "batch": 8, "rate": 1e-3}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, ``original``, and one of its layers in 3 bits, ``small``."""
    folder = tmp_path_factory.mktemp("adapt")
    network = llama(attention_bias=True)
    shapes = network.family.tensors()
    config = {**CONFIG, "attention_bias": True}
    export_folder(folder / "original", config, shapes, network.tensors.__getitem__, {})
    compressed(folder / "original", folder / "small", 3)
    return folder


@pytest.fixture(scope="module")
def adapted(models: Path) -> dict[str, Any]:
    """The manifest of ``adapted``."""
    return lplr.models.adapt(
        models / "small", models / "original", TOKENS, models / "adapted", **OPTIONS
    )


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_adapted_network_predicts_more_like_the_original(
    models: Path, adapted: dict[str, Any]
) -> None:
    original = lplr.models.open_network(models / "original")
    before, after = (
        compare(original, lplr.models.load(models / name), TEST).kl for name in ("small", "adapted")
    )
    assert before is not None
    assert after is not None
    assert after.value < 0.3 * before.value  # 0.21 here; 0.5 with corrections that are not trained
    made = adapted["settings"]["adaptations"][-1]
    losses, bits = made["held_out_loss"], made["layers_bits_per_weight"]
    assert max(losses["trained"], losses["stored"]) < losses["start"] < losses["before"]
    assert bits["before"] < bits["stored"] < bits["trained"]
    assert bits["stored"] == adapted["totals"]["layers"]["bits_per_weight"]
    packed = lplr.models.load(models / "adapted").tensors
    packed.verify()
    # Stored is what was measured: 4 held-out sequences, of which `_divided` knows.
    assert losses["sequences"] == 4
    name = "model.layers.0.self_attn.q_proj.weight"
    assert packed[name].rank == 3
    assert not (models / "adapted.job").exists()


def test_the_bytes_do_not_depend_on_threads(models: Path, adapted: dict[str, Any]) -> None:
    out = models / "threads"
    with at_most(2):
        lplr.models.adapt(models / "small", models / "original", TOKENS, out, **OPTIONS)
    assert _files(out) == _files(models / "adapted")
    shutil.rmtree(out)


class _StopError(Exception):
    pass


def test_an_interrupted_adaptation_ends_with_the_same_bytes(
    models: Path, adapted: dict[str, Any]
) -> None:
    """Stopped again and again, a little later each time."""
    out = models / "resumed"
    for share in (0.03, 0.3, 0.7, 0.93, 0.985, 2):

        def stop(done: float, what: str, share: float = share) -> None:
            if done >= share:
                raise _StopError

        try:
            lplr.models.adapt(
                models / "small",
                models / "original",
                TOKENS,
                out,
                progress=stop,
                **OPTIONS,
            )
        except _StopError:
            assert share < 1
            assert not out.exists()
        else:
            break
    assert _files(out) == _files(models / "adapted")
    shutil.rmtree(out)


def test_ranks_are_shared_out_under_output_moments(models: Path, adapted: dict[str, Any]) -> None:
    """At no more bits than the same rank everywhere; an interrupted run knows them, too."""
    moments = lplr.models.output_moments(models / "original", TOKENS, models / "g.safetensors")
    given: dict[str, Any] = {**OPTIONS, "steps": 4, "output_moments": moments.path}
    call = models / "small", models / "original", TOKENS, models / "shared"

    def stop(done: float, _: str) -> None:
        if done > 0.5:
            raise _StopError

    with pytest.raises(_StopError):
        lplr.models.adapt(*call, progress=stop, **given)
    made = lplr.models.adapt(*call, **given)
    said = made["settings"]["adaptations"][-1]
    ranks = said["ranks"]
    assert 2 <= min(ranks.values()) < OPTIONS["rank"] < max(ranks.values()) <= 12
    assert (
        said["layers_bits_per_weight"]["stored"] <= adapted["totals"]["layers"]["bits_per_weight"]
    )
    packed = lplr.models.load(models / "shared").tensors
    assert {name: packed[f"{name}.weight"].rank for name in ranks} == ranks
    assert _loss(made, "stored") < _loss(made, "start") < _loss(made, "before")


def test_factors_alone_are_trained_on_a_task(models: Path, adapted: dict[str, Any]) -> None:
    """The low-rank adaptation of the paper: cross-entropy, and the factors that are there."""
    task = np.random.default_rng(4).integers(0, 10, (32, 20))  # ten tokens of 150
    out = models / "task"
    made = lplr.models.adapt(
        models / "adapted",
        models / "original",
        task,
        out,
        **{**OPTIONS, "rank": None, "rate": 1e-2},
        loss="cross-entropy",
        trained=("factors",),
    )
    assert _loss(made, "stored") < _loss(made, "before") - 0.3  # 5.06 and 4.58 here
    assert len(made["settings"]["adaptations"]) == 2
    before, after = (lplr.models.load(folder).tensors for folder in (models / "adapted", out))
    for name in before:
        if name.endswith("_proj.weight"):
            assert np.array_equal(before[name].parts()["Q"].codes, after[name].parts()["Q"].codes)
            assert np.array_equal(before[name].parts()["Q"].scale, after[name].parts()["Q"].scale)
            assert after[name].rank == 3
        else:
            assert np.array_equal(before[name], after[name])


def test_what_is_not_trained_stays(models: Path, adapted: dict[str, Any]) -> None:
    """Scales alone: the codes of all parts of a layer, and all other tensors, are as they were."""
    out = models / "scales"
    given: dict[str, Any] = {**OPTIONS, "rank": None, "steps": 4, "rate": 1e-4}
    made = lplr.models.adapt(
        models / "adapted", models / "original", TOKENS, out, trained=("scales",), **given
    )
    assert _loss(made, "before") == _loss(adapted, "stored")
    assert _loss(made, "stored") < _loss(made, "before")
    bits = made["settings"]["adaptations"][-1]["layers_bits_per_weight"]
    assert bits["before"] == bits["trained"] == bits["stored"]
    before, after = (lplr.models.load(folder).tensors for folder in (models / "adapted", out))
    for name in before:
        if name.endswith("_proj.weight"):
            for side in "QLR":
                old, new = (packed[name].parts()[side] for packed in (before, after))
                assert np.array_equal(old.codes, new.codes)
        else:
            assert np.array_equal(before[name], after[name])


def test_too_few_tokens_are_said(models: Path) -> None:
    """Random tokens can only be learned by heart, so that others are predicted worse and worse."""
    with pytest.warns(AdaptationWarning, match="more tokens would help"):
        made = lplr.models.adapt(
            models / "small",
            models / "original",
            TOKENS[:9],
            models / "few",
            **{**OPTIONS, "rate": 1e-2},
            loss="cross-entropy",
        )
    history = made["settings"]["adaptations"][-1]["history"]
    assert history[-1][0] < OPTIONS["steps"]
    assert _loss(made, "trained") == min(loss for _, loss in history)


def test_layers_that_lie_the_other_way_are_adapted(tmp_path: Path) -> None:
    """GPT-2, whose weights on disk are (inputs, outputs) and whose norms have biases."""
    compressed(FIXTURES / "gpt2", tmp_path / "small", 2)
    tokens = np.random.default_rng(5).integers(0, 96, (24, 16))
    tokens[::3, 9:] = -1
    made = lplr.models.adapt(
        tmp_path / "small", FIXTURES / "gpt2", tokens, tmp_path / "out", **OPTIONS
    )
    assert _loss(made, "trained") < _loss(made, "start") < _loss(made, "before")
    assert lplr.models.load(tmp_path / "out").tensors["transformer.h.0.attn.c_attn.weight"].rank


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    compressed(FIXTURES / "bert", tmp_path / "small")
    with pytest.raises(InputError, match="is an encoder, which predicts no tokens"):
        lplr.models.adapt(tmp_path / "small", FIXTURES / "bert", TOKENS, tmp_path / "out")


def test_another_network_is_no_original(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="original: .* is another network than"):
        lplr.models.adapt(models / "small", FIXTURES / "llama", TOKENS, tmp_path / "out")


def _loss(made: dict[str, Any], key: str) -> float:
    return float(made["settings"]["adaptations"][-1]["held_out_loss"][key])


def test_a_network_adapted_to_itself_stays_as_it_is(models: Path) -> None:
    out = models / "itself"
    with pytest.warns(AdaptationWarning, match="nothing to train"):
        made = lplr.models.adapt(models / "small", models / "small", TOKENS, out, **OPTIONS)
    assert _loss(made, "before") == 0
    before, after = _files(models / "small"), _files(out)
    del before["model.json"], after["model.json"]
    assert after == before


def test_a_rate_that_diverges_is_said_and_does_no_harm(models: Path) -> None:
    with pytest.warns(AdaptationWarning, match="use a smaller rate than 10"):
        made = lplr.models.adapt(
            models / "small", models / "original", TOKENS, models / "far", **{**OPTIONS, "rate": 10}
        )
    assert _loss(made, "stored") < _loss(made, "before")  # the start of the corrections was better


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": None}, "rank: no layer of .* has low-rank factors to train; give a rank"),
        ({"rank": 0}, "rank"),
        ({"bits": 9}, "bits"),
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"rate": 0.0}, "rate"),
        ({"preset": "slow"}, "preset"),
        ({"loss": "mse"}, "loss"),
        ({"trained": "factors"}, "trained: must name some of factors, scales, norms, biases"),
        ({"trained": []}, "trained"),
        ({"rng": -1}, "rng"),
        ({"tokens": TOKENS[:1]}, "tokens: has one sequence"),
        ({"tokens": TOKENS + 140}, "tokens: has token"),
        ({"held_out": [[1.5, 2]]}, "held_out"),
        ({"model": "original"}, "model: .* is not compressed, so there is nothing to adapt"),
    ],
)
def test_what_cannot_be_done_is_refused(
    models: Path, changed: dict[str, Any], message: str
) -> None:
    given = {**OPTIONS, "tokens": TOKENS, "model": "small", **changed}
    with pytest.raises(InputError, match=message):
        lplr.models.adapt(
            models / given.pop("model"),
            models / "original",
            given.pop("tokens"),
            models / "none",
            **given,
        )
    assert not (models / "none").exists()
    assert not (models / "none.job").exists()
