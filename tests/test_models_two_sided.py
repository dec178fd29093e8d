"""Layers coded under output moments, those of a file or those that are formed first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refused, report
from plain_moments import IDS, LAYERS, SEED, gradients, moments_of
from tiny_models import TOKENS, content, tiny_checkpoint

from lplr.algorithms.quantize import quantize
from lplr.cli.main import main
from lplr.exceptions import InputError
from lplr.models import calibration, moments_pass
from lplr.models.compress_model import compress
from lplr.models.methods import Method, method_of
from lplr.models.moments import output_moments
from lplr.models.moments_file import OutputMoments, open_moments
from lplr.models.opening import open_network

CALL: dict[str, Any] = {"method": "caldera", "rank": 2, "calibration": IDS, "rng": SEED}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "source")


@pytest.fixture(scope="module")
def moments(source: Path) -> OutputMoments:
    return moments_of(source)


@pytest.fixture(scope="module")
def weighed(source: Path, moments: OutputMoments) -> dict[str, Any]:
    """What an undisturbed run makes."""
    out = source.parent / "weighed"
    compress(source, out, output_moments=moments.path, **CALL)
    return content(out)


Seen = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Of each layer what it is coded under, H and G; it is rounded to 8 bits."""
    found: Seen = {}

    def code(self: Method, layer: str, W: np.ndarray, H: Any, G: Any, progress: Any) -> Any:
        found[layer] = H, G
        return quantize(W, bits=8, granularity="row")

    monkeypatch.setattr(Method, "code", code)
    return found


# What a stage leaves for the next is kept to 1/65534 of the largest of a token; a change of a
# layer by 1/255 of its largest entry, 4 sigma, is one of 1 % of its outputs.
@pytest.mark.parametrize(("prefix", "tolerance"), [(False, 3e-4), (True, 3e-2)])
def test_layers_are_coded_under_both_moments(
    source: Path,
    moments: OutputMoments,
    seen: Seen,
    tmp_path: Path,
    prefix: bool,
    tolerance: float,
) -> None:
    compress(source, tmp_path / "small", output_moments=moments, prefix=prefix, **CALL)
    every = gradients(open_network(source))
    for layer in LAYERS:
        most = 10 * np.mean([np.sum(row**2) for of in every for row in of[layer][1]])
        H: Any = 0.0
        total = 0.0
        for of in every:
            x, delta = of[layer]
            for t in range(len(x)):
                w = min(np.sum(delta[t] ** 2), most)
                H, total = H + w * np.outer(x[t], x[t]), total + w
        H /= total
        np.testing.assert_allclose(seen[layer][0], H, atol=tolerance * np.abs(H).max())
        assert (seen[layer][1] == moments.output_moment(layer)).all()


def test_layers_are_coded_under_the_moments_of_sequences(
    source: Path, seen: Seen, tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    moments = output_moments(source, IDS, out, estimator="sequence", rng=SEED)
    compress(source, tmp_path / "small", output_moments=out, **CALL)
    for layer in LAYERS:
        assert (seen[layer][0] == moments.input_moment(layer)).all()
        assert (seen[layer][1] == moments.output_moment(layer)).all()


def test_the_method_passes_both_on(moments: OutputMoments) -> None:
    layer = LAYERS[1]
    G = moments.output_moment(layer)
    W = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    method = method_of("compress", 3.0, 0, {layer: W}, {"effort": "fast"})
    arguments = method.code(layer, W, moments.input_moment(layer), G).meta["call"]["arguments"]
    assert arguments["output_hessian"]["shape"] == [16, 16]
    assert arguments["hessian"]["shape"] == [32, 32]


def test_an_interrupted_compression_ends_with_the_same_bytes(
    source: Path, moments: OutputMoments, weighed: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "small"

    def stop(share: float, what: str) -> None:
        if "block 2" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(source, out, output_moments=moments, progress=stop, **CALL)
    with pytest.raises(InputError, match=r"it differs in output_moments\)"):
        compress(source, out, **CALL)
    compress(source, out, output_moments=moments, **CALL)
    assert content(out) == weighed
    manifest = weighed["model.json"]
    assert manifest["settings"]["output_moments"] == {
        "estimators": ["token", "sequence"], "rng": SEED, "sha256": moments.digest,
    }  # fmt: skip
    for layer in manifest["layers"]:
        assert 0 < layer["predicted_kl"] < 1
        assert 0 < layer["two_sided_error"] < 1


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_moments_that_are_formed_first(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command with and without a file makes the same layers; an interrupt forms them once."""
    np.save(tmp_path / "tokens.npy", IDS)
    tokens = ("--tokens", tmp_path / "tokens.npy")
    file = tmp_path / "m.safetensors"
    calibrate = ("model", "calibrate", source, "-o", file, *tokens)
    with monkeypatch.context() as patch:
        patch.setattr(moments_pass.Pass, "run", interrupted)
        assert main([*map(str, calibrate), "--output", "--seed", str(SEED)]) == 130
    assert "m.safetensors.job; the same command goes on" in capsys.readouterr().err
    made = report(capsys, *calibrate, "--output", "--seed", SEED)
    assert (made["layers"], made["estimators"], made["rng"]) == (14, ["token"], SEED)
    assert made["tokens"] == (IDS >= 0).sum()
    assert made["file_nbytes"] == file.stat().st_size
    assert "exists" in refused(capsys, *calibrate, "--output")
    assert "--seed: is of moments of outputs" in refused(capsys, *calibrate, "--seed", 1)
    base = ("model", "compress", source, "--method", "caldera", "--rank", 2, *tokens)
    base = (*base, "--seed", SEED)
    report(capsys, *base, "-o", tmp_path / "a", "--output-moments", file)
    planned = report(capsys, *base, "-o", tmp_path / "b", "--output-moments", "--dry-run")
    assert planned["seconds"]["output moments"] > 0
    report(capsys, *base, "-o", tmp_path / "b", "--output-moments")
    a, b = content(tmp_path / "a"), content(tmp_path / "b")
    assert a == b
    assert not (tmp_path / "b.job").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"calibration": TOKENS}, "is of other tokens, 8 x 16 of them"),
        (
            {"method": "quantize", "calibration": None, "rank": None, "bits_per_weight": 3},
            "'quantize' takes none",
        ),
        ({"output_moments": 3.5}, "output_moments: must be the name of a file, or True"),
        ({"output_moments": "no.safetensors"}, "output_moments: there is no 'no.safetensors'"),
    ],
)
def test_other_moments_are_refused(
    source: Path, moments: OutputMoments, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    call = {"output_moments": moments.path, **CALL, **change}
    with pytest.raises(InputError, match=words):
        compress(source, tmp_path / "small", **call)
    assert list(tmp_path.iterdir()) == []


def test_moments_of_other_networks_are_refused(
    source: Path, moments: OutputMoments, tmp_path: Path
) -> None:
    other = tiny_checkpoint(tmp_path / "other", rms_norm_eps=1e-5)
    with pytest.raises(InputError, match="is of another checkpoint"):
        compress(other, tmp_path / "small", output_moments=moments.path, **CALL)
    shapes = {layer: (32, 32) for layer in moments.layers}
    with pytest.raises(InputError, match=r"has .*down_proj.sequence.H of shape \(48, 48\), and"):
        moments.check(shapes)
    with pytest.raises(InputError, match="holds none"):
        open_moments(source / "model.safetensors")
    with pytest.raises(InputError, match=r"has no x\.token\.G; it holds the estimators token, seq"):
        moments.output_moment("x")


def test_a_heavy_token_counts_at_most_ten_times_the_mean() -> None:
    weights = np.ones((2, 50))
    weights[1, 3] = 901  # the mean is 10
    roots = calibration._roots(weights, None)
    assert roots.shape == (2, 50, 1)
    np.testing.assert_allclose(roots[1, 3] ** 2, 100 * roots[0, 0] ** 2, rtol=1e-6)
    np.testing.assert_allclose(np.mean(roots**2), 1, rtol=1e-6)
