"""Networks are compressed block by block: budgets, plans and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refused, report
from tiny_models import CONFIG, TOKENS, content, tiny_checkpoint

from lplr.cli.main import main
from lplr.exceptions import DampingWarning, InputError
from lplr.models.block import Context
from lplr.models.compress_model import compress, plan
from lplr.models.job import progress_of
from lplr.models.opening import load, open_network
from lplr.parallel import n_threads, run_blocks

QUICK: dict[str, Any] = {"method": "caldera", "rank": 2, "calibration": TOKENS}
METHODS: list[dict[str, Any]] = [
    {"bits_per_weight": 3, "effort": "fast", "calibration": TOKENS},
    {**QUICK, "mode": "faithful", "q_bits": 3, "prefix": False},
    {"method": "quantize", "bits_per_weight": 5},
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "source")


@pytest.fixture(scope="module")
def expected(source: Path) -> dict[str, Any]:
    """What an undisturbed run with `QUICK` makes."""
    out = source.parent / "expected"
    compress(source, out, **QUICK)
    return content(out)


# --- what is made ---------------------------------------------------------------------------


@pytest.mark.parametrize("call", METHODS, ids=["compress", "caldera", "quantize"])
def test_methods(source: Path, tmp_path: Path, call: dict[str, Any]) -> None:
    planned = plan(source, **call)
    said: list[tuple[float, str]] = []
    manifest = compress(source, tmp_path / "small", progress=lambda *now: said.append(now), **call)
    layers = {layer["name"]: layer for layer in manifest["layers"]}
    assert list(layers) == [layer.name for layer in planned.layers]
    assert all(layers[layer.name]["nbytes"] <= layer.nbytes for layer in planned.layers)
    totals = manifest["totals"]
    assert totals["layers"]["bits_per_weight"] <= call.get("bits_per_weight", np.inf)
    assert totals["kept"]["nbytes"] == planned.kept_nbytes
    assert not (tmp_path / "small.job").exists()
    # A network of random weights whose layers have relative errors up to 0.35 still predicts
    # roughly what it did; weights of other layers or other families would be at 1.4.
    a, b = (
        network.logits(TOKENS[:2]) for network in (open_network(source), load(tmp_path / "small"))
    )
    assert np.linalg.norm(a - b) < 0.8 * np.linalg.norm(a)
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    words = [what for _, what in said]
    assert any("block 2 of 2, mlp.down_proj" in what for what in words)
    if call.get("method") != "quantize":
        assert len(manifest["settings"]["error_after_blocks"]) == 2
        assert any("last layer" in what and "after block 1" in what for what in words)


def test_bits_of_each_layer(source: Path, tmp_path: Path) -> None:
    names = [layer.name for layer in plan(source, bits_per_weight=3).layers]
    bits = {f"{name}.weight": 2.5 + k % 2 for k, name in enumerate(names)}
    manifest = compress(source, tmp_path / "small", bits_per_weight=bits, calibration=TOKENS)
    for layer in manifest["layers"]:
        given = bits[f"{layer['name']}.weight"]
        assert given - 0.3 < layer["bits_per_entry"] <= given
    del bits[f"{names[3]}.weight"]
    with pytest.raises(InputError, match=f"{names[3]}' is missing"):
        plan(source, bits_per_weight=bits)


def test_calibration_with_or_without_the_prefix(source: Path, tmp_path: Path) -> None:
    """Layers of the first stage see what they would see without it; later ones do not."""
    compress(source, tmp_path / "behind", **QUICK)
    compress(source, tmp_path / "alone", prefix=False, **QUICK)
    behind, alone = content(tmp_path / "behind"), content(tmp_path / "alone")
    same = [name for name in behind if behind[name] == alone[name]]
    assert {f"layers/{k:05}.h5" for k in range(3)} <= set(same)
    assert "layers/00007.h5" not in same


def test_a_plan_needs_a_configuration_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    planned = plan(tmp_path, bits_per_weight=2)
    assert [layer.name for layer in planned.layers] == [
        layer.name for layer in plan(CONFIG, bits_per_weight=2).layers
    ]
    assert planned.tokens == (320, 512)
    assert planned.bits_per_weight <= 2
    states = 2 * 320 * 512 * 32 * 4
    assert planned.memory > states
    assert planned.disk >= 2 * states + planned.nbytes + planned.kept_nbytes
    twice = plan(tmp_path, bits_per_weight=2, calibration=(640, 512))
    assert twice.disk - planned.disk == 2 * states


def test_the_number_of_threads_is_an_argument_that_changes_nothing(
    source: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def watched(*args: Any) -> None:
        seen.add(n_threads())
        run_blocks(*args)

    monkeypatch.setattr("lplr.models.walk.run_blocks", watched)
    compress(source, tmp_path / "small", jobs=3, **QUICK)
    assert seen == {3}
    assert content(tmp_path / "small") == expected
    with pytest.raises(InputError, match="jobs"):
        compress(source, tmp_path / "other", jobs=0, **QUICK)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"out": "a\0b"}, "out: must be the name"),
        ({"out": "/"}, "out: / exists"),
        ({"bits_per_weight": None}, "bits_per_weight: is missing"),
        ({"bits_per_weight": -1}, "bits_per_weight: must be finite and above 0"),
        ({"bits_per_weight": 0.01}, r"q_proj, 32 x 32, by the method 'compress'; use at least 0\."),
        ({"calibration": None}, "calibration: is missing"),
        ({"calibration": TOKENS + 90}, "the vocabulary has 100"),
        ({"calibration": TOKENS[:0]}, "at least one sequence"),
        ({"method": "magic"}, "method: must be one of"),
        ({"rank": 3}, "rank: the method 'compress' does not take it; it takes effort"),
        ({"method": "caldera", "rank": 2}, "bits_per_weight: 3 is too little|use at least"),
        ({"method": "quantize"}, "calibration: the method 'quantize' takes none"),
        ({"embedding_bits": 3}, "embedding_bits: must be 4, 8 or None"),
        ({"rng": "x"}, "rng: must be an integer"),
        ({"effort": "much"}, "effort: must be one of"),
    ],
)
def test_bad_arguments(source: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    call = {"bits_per_weight": 3 if "method" not in change else 1.0, "calibration": TOKENS}
    with pytest.raises(InputError, match=words):
        compress(source, **({"out": tmp_path / "small"} | call | change))
    assert list(tmp_path.iterdir()) == []


def test_bad_checkpoints(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"

    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][3, 4] = np.nan

    bad = tiny_checkpoint(tmp_path / "bad", spoil)
    with pytest.raises(InputError, match=f"{name}.*nan at"):
        compress(bad, tmp_path / "small", **QUICK)
    missing = tiny_checkpoint(tmp_path / "missing", lambda tensors: tensors.pop(name))
    with pytest.raises(InputError, match=name):
        compress(missing, tmp_path / "small", **QUICK)
    with pytest.raises(InputError, match="does not exist"):
        compress(bad, tmp_path / "no" / "small", **QUICK)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_inputs_that_overflow_are_named(tmp_path: Path) -> None:
    def raise_norm(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.layers.1.post_attention_layernorm.weight"] *= 1e30

    hot = tiny_checkpoint(tmp_path / "hot", raise_norm)
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.gate_proj \(block 1\) is not finite"):
        compress(hot, tmp_path / "small", **QUICK)
    assert progress_of(tmp_path / "small") == 7 + 4


def test_too_few_tokens_are_told_with_numbers(source: Path, tmp_path: Path) -> None:
    with pytest.warns(DampingWarning, match=r"32 tokens.*2 layers.*down_proj with 48"):
        compress(source, tmp_path / "small", **(QUICK | {"calibration": TOKENS[:2]}))


# --- the command ------------------------------------------------------------------------------


def test_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small"
    base = ("model", "compress", source, "-o", out, "--bits-per-weight", "5")
    command = (*base, "--method", "quantize", "--embedding-bits", "8")
    planned = report(capsys, *command, "--dry-run")
    assert not out.exists()
    assert len(planned["layers"]) == 14
    assert main([*map(str, command), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "model.layers.1.mlp.down_proj" in text
    assert "at the peak" in text
    made = report(capsys, *command)
    assert made["totals"]["layers"]["nbytes"] <= planned["nbytes"]
    assert planned["kept_nbytes"] == sum(
        made["totals"][kind]["nbytes"] for kind in ("embedding", "kept")
    )
    shutil.rmtree(out)
    assert main([*map(str, command)]) == 0
    assert "of the weights" in capsys.readouterr().out
    assert "--tokens: is missing" in refused(capsys, *base[:4], tmp_path / "other", *base[5:])


def test_calibrate(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """H of each layer is that of a plain loop over the outputs of every block."""
    np.save(tmp_path / "tokens.npy", TOKENS)
    H = tmp_path / "H.npz"
    made = report(
        capsys, "model", "calibrate", source, "-o", H, "--tokens", tmp_path / "tokens.npy"
    )
    assert (made["layers"], made["tokens"]) == (14, TOKENS.size)
    network = open_network(source)
    sums: dict[str, np.ndarray] = {}
    for row in TOKENS:
        h = network.embed(row[None])
        for i in range(2):
            block, x, state = network.block(i), None, h
            for stage in block.stages:
                rows = stage.inputs(state, x)[0].astype(np.float64)
                for name in stage.linears:
                    full = f"model.layers.{i}.{name}"
                    sums[full] = sums.get(full, 0) + rows.T @ rows / TOKENS.size
                state, x = block.step(stage, state, x, Context())
            h = state
    with np.load(H) as found:
        assert sorted(found) == sorted(sums)
        for name, expected in sums.items():
            # Between two stages, entries are kept to 1/65534 of the largest of their token, which
            # changes a product of two by 3e-5; there are 8 stages.
            np.testing.assert_allclose(found[name], expected, atol=3e-4 * np.abs(expected).max())
    matrices = source / "model.safetensors"
    planned = report(
        capsys, "compress", matrices, "-o", tmp_path / "l.h5", "--bits-per-entry", "2",
        "--hessians", H, "--dry-run",
    )  # fmt: skip
    assert sum(matrix["hessian"] for matrix in planned["matrices"]) == 14
