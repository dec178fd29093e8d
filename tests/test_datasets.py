"""Datasets: spectra, the phantom, and what the loaders give back."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from lplr import datasets
from lplr.data import make_data
from lplr.datasets import bundled, phantom
from lplr.exceptions import CorruptFileError, InputError, MissingFileError
from lplr.linalg.qr import haar

K = np.arange(1, 31)
SPECTRA = {
    "flat": (dict(), np.ones(30)),
    "power": (dict(exponent=1.5), K**-1.5),
    "exponential": (dict(rank=4), np.exp(-(K - 1) / 4)),
    "low-rank": (dict(rank=7), (K <= 7).astype(float)),
    "outlier": (dict(rank=3), np.where(K <= 3, 10.0, 1.0)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_synthetic_has_the_named_spectrum(name: str) -> None:
    options, sigma = SPECTRA[name]
    for shape in ((30, 50), (50, 30)):
        A = datasets.synthetic(*shape, name, rng=1, **options)
        assert A.shape == shape
        assert A.dtype == np.float64
        # Weyl: rounding moves a singular value by a small multiple of eps * σ_1, here 10.
        np.testing.assert_allclose(np.linalg.svd(A, compute_uv=False), sigma, atol=1e-13)


def test_synthetic_takes_singular_values() -> None:
    A = datasets.synthetic(3, 2, [2, 1], rng=0)
    np.testing.assert_allclose(np.linalg.svd(A, compute_uv=False), [2, 1], atol=1e-14)


def test_haar_factors_have_no_preferred_sign() -> None:
    # Without the sign fix, LAPACK's Q has a negative entry (0, 0) in most draws. Its mean over
    # 1000 draws has standard deviation 0.5 / sqrt(1000) = 0.016; six of them are 0.095.
    rng = np.random.default_rng(0)
    corner = np.mean([haar(4, 4, rng)[0, 0] for _ in range(1000)])
    assert abs(corner) < 0.095


def test_synthetic_depends_on_its_seed_alone() -> None:
    state = repr(np.random.get_state())  # noqa: NPY002
    A = datasets.synthetic(20, 10, rng=3)
    assert (A == datasets.synthetic(20, 10, rng=np.random.default_rng(3))).all()
    assert (A != datasets.synthetic(20, 10, rng=4)).any()
    assert repr(np.random.get_state()) == state  # noqa: NPY002


def test_acceptance_matrix(power_law_1000: np.ndarray) -> None:
    assert power_law_1000.shape == (1000, 1000)
    squares = np.sum(1 / np.arange(1, 1001) ** 2)
    assert np.sum(power_law_1000**2) == pytest.approx(squares, rel=1e-12)
    # A QR with a positive diagonal is unique, so the matrix is the same with every LAPACK, up to
    # its rounding: about 1000 * eps = 2e-13 in each entry of the factors.
    corner = [1.77303563e-05, 2.28829884e-04, 1.06755877e-03]
    np.testing.assert_allclose(power_law_1000[0, :3], corner, atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        ((0, 5), {}, "n"),
        ((5, 2.5), {}, "d"),
        ((5, 5, "steep"), {}, "spectrum"),
        ((5, 5, [1, 2]), {}, "spectrum"),
        ((5, 5, [1, 1, 1, 1, -1]), {}, "spectrum"),
        ((5, 5, [1, 1, 1, 1, np.nan]), {}, "spectrum"),
        ((5, 5, [1, 1, 1, 1, 1j]), {}, "spectrum"),
        ((5, 5), {"exponent": -1}, "exponent"),
        ((5, 5, "low-rank"), {"rank": 0}, "rank"),
        ((5, 5), {"rng": "seed"}, "rng"),
    ],
)
def test_synthetic_refuses(arguments: tuple, options: dict, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}: "):
        datasets.synthetic(*arguments, **options)


PHANTOM = [
    (0, 0, 0.2),  # brain
    (0, 0.9, 1.0),  # skull
    (0, 0.95, 0.0),  # outside
    (0.8, 0, 0.0),
    (0.22, 0, 0.0),  # ventricles
    (-0.22, 0, 0.0),
    (0.15, -0.25, 0.0),  # they lean outwards: the mirrored point belongs to neither
    (0.29, -0.25, 0.2),
    (0.3, 0.25, 0.0),
    (-0.32, 0.3, 0.0),
    (0, 0.4, 0.3),  # the large disc is in the upper half
    (0, -0.4, 0.2),
    (0, -0.1, 0.3),
    (-0.08, -0.605, 0.3),  # the small ones
    (0, -0.606, 0.3),
    (0.06, -0.605, 0.3),
]


def test_phantom_has_its_ellipses() -> None:
    n = 1001
    image = datasets.shepp_logan(n)
    for x, y, value in PHANTOM:
        column, row = round((x * n + n - 1) / 2), round((n - 1 - y * n) / 2)
        assert image[row, column] == value, (x, y)


def test_phantom_mean_is_the_sum_of_the_ellipses() -> None:
    # Ellipses have area πab in the square of area 4. A boundary of length about 12 (the skull's two
    # sides) meets about 6n pixels of area 1/n²; their errors mostly cancel, measured 1.2e-4 at 256.
    expected = sum(rho * np.pi * a * b / 4 for rho, a, b, *_ in phantom._ELLIPSES)
    assert datasets.shepp_logan(256).mean() == pytest.approx(expected, abs=5e-4)


def test_phantom_values_and_sizes() -> None:
    assert set(np.unique(datasets.shepp_logan(300))) == {0, 0.1, 0.2, 0.3, 0.4, 1}
    assert datasets.shepp_logan().shape == (256, 256)
    assert datasets.shepp_logan(1).tolist() == [[0.2]]
    with pytest.raises(InputError, match="^n: "):
        datasets.shepp_logan(0)


def test_small_fashion_mnist() -> None:
    for split, n, first in (("train", 6000, [9, 0, 0, 3, 0]), ("test", 1000, [9, 2, 1, 1, 6])):
        images, labels = datasets.fashion_mnist(split, subset="small")
        assert images.shape == (n, 784)
        assert images.dtype == np.float32
        assert (images.min(), images.max()) == (0, 1)
        assert labels.shape == (n,)
        assert labels.dtype == np.uint8
        assert labels[:5].tolist() == first
        assert set(labels) == set(range(10))
        assert images.flags.writeable
        assert labels.flags.writeable


def test_full_fashion_mnist_starts_like_the_small_one(fashion_10000: np.ndarray) -> None:
    assert fashion_10000.shape == (10000, 784)
    np.testing.assert_array_equal(fashion_10000[:6000], datasets.fashion_mnist(n=6000).images)
    full = datasets.fashion_mnist("test", subset="full")
    small = datasets.fashion_mnist("test", subset="small")
    assert full.images.shape == (10000, 784)
    np.testing.assert_array_equal(full.images[:1000], small.images)
    np.testing.assert_array_equal(full.labels[:1000], small.labels)


def _imitate_full(folder: Path, n: int) -> np.ndarray:
    """Files with the official headers and the first n test images only."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 784), dtype=np.uint8)
    header = b"\0\0\x08\x03" + b"".join(v.to_bytes(4, "big") for v in (10000, 28, 28))
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz", "wb") as f:
        f.write(header + pixels.tobytes())
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz", "wb") as f:
        f.write(b"\0\0\x08\x01" + (10000).to_bytes(4, "big") + bytes(n))
    return pixels


def test_folder_and_variable_name_the_full_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = _imitate_full(tmp_path, 1200)
    by_folder = datasets.fashion_mnist("test", n=1200, folder=tmp_path)
    monkeypatch.setenv("LPLR_FASHION_MNIST", str(tmp_path))
    by_variable = datasets.fashion_mnist("test", n=1200)
    for images, labels in (by_folder, by_variable):
        np.testing.assert_array_equal(images, pixels.astype(np.float32) / np.float32(255))
        assert labels.shape == (1200,)


def test_damaged_full_set_is_refused(tmp_path: Path) -> None:
    _imitate_full(tmp_path, 1200)
    with pytest.raises(CorruptFileError, match="IDX"):  # shorter than its header says
        datasets.fashion_mnist("test", n=1201, folder=tmp_path)
    images, labels = tmp_path / "t10k-images-idx3-ubyte.gz", tmp_path / "t10k-labels-idx1-ubyte.gz"
    whole = images.read_bytes()
    for content, said in (
        (whole[: len(whole) // 2], "gzip"),
        (b"not gzip", "gzip"),
        (labels.read_bytes(), "IDX"),
    ):
        images.write_bytes(content)
        with pytest.raises(CorruptFileError, match=said):
            datasets.fashion_mnist("test", n=1200, folder=tmp_path)


def test_missing_full_set_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dataset-fashion-mnist.*LPLR_FASHION_MNIST"):
        datasets.fashion_mnist(subset="full", folder=tmp_path)
    with pytest.raises(InputError, match="dataset-fashion-mnist"):
        datasets.fashion_mnist(n=6001, folder=tmp_path)
    assert len(datasets.fashion_mnist("test", folder=tmp_path).images) == 1000  # what is there


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"split": "validation"}, "split"),
        ({"subset": "large"}, "subset"),
        ({"n": 0}, "n"),
        ({"n": 60001}, "n"),
        ({"n": 6001, "subset": "small"}, "n"),
    ],
)
def test_fashion_mnist_refuses(options: dict, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}: "):
        datasets.fashion_mnist(**options)


# Shape of W, and SHA-256 of it as little-endian float32: of the tensors in the two model packages.
LAYERS = {
    "minilm_l2_query": (
        (384, 384),
        "68b06bcb4ba32cd21738739c10068178f67c51adcaf7f6120c4fac8d13355b23",
    ),
    "minilm_l3_output": (
        (384, 1536),
        "0287fdf9fc3d802b020c95b37675cb3cd108774d4b3a0ce4388fa78b69619644",
    ),
    "smollm2_l10_up": (
        (1536, 576),
        "38f885041231fd41f5024f9a52456a913ad63c5832ae3edbd228f2f6ce8fe423",
    ),
}


def test_layer_names() -> None:
    assert datasets.layer_names() == tuple(LAYERS)
    with pytest.raises(InputError, match="^name: .*smollm2_l10_up"):
        datasets.layer("smollm2_l11_up")


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    shape, digest = LAYERS[name]
    layer = datasets.layer(name)
    assert layer.name == name
    assert layer.W.shape == shape
    assert layer.W.dtype == layer.H.dtype == np.float32
    assert hashlib.sha256(layer.W.astype("<f4").tobytes()).hexdigest() == digest
    assert layer.H.shape == (shape[1], shape[1])
    np.testing.assert_array_equal(layer.H, layer.H.T)
    # Cholesky fails unless the least eigenvalue is above -1e-6 of the mean diagonal.
    H = layer.H.astype(np.float64)
    np.linalg.cholesky(H + 1e-6 * H.diagonal().mean() * np.eye(len(H)))
    assert layer.W.flags.writeable
    assert layer.H.flags.writeable


def test_text_embeddings() -> None:
    embeddings, labels, class_names = datasets.text_embeddings()
    assert embeddings.shape == (4224, 384)
    assert embeddings.dtype == np.float32
    assert labels.shape == (4224,)
    assert labels.dtype == np.uint8
    assert len(class_names) == labels.max() + 1 == 15
    assert all(type(name) is str for name in class_names)
    # Unit rows before they were rounded to float16: each square is off by at most 2 * 2^-11.
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=2.0**-11)
    # The accuracy that data/README.md states: cosine, k = 11, first 80 % train.
    n = len(labels) * 4 // 5
    nearest = np.argpartition(-(embeddings[n:] @ embeddings[:n].T), 10, axis=1)[:, :11]
    votes = (labels[nearest][..., None] == np.arange(len(class_names))).sum(axis=1)
    assert np.mean(votes.argmax(axis=1) == labels[n:]) == pytest.approx(0.685, abs=0.0015)


def test_a_damaged_file_of_the_package_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "minilm_l2_query"
    whole = bytearray((bundled._DATA / f"{name}.npz").read_bytes())
    monkeypatch.setattr(bundled, "_DATA", tmp_path)
    with pytest.raises(CorruptFileError, match="install lplr again"):
        datasets.layer(name)
    path = tmp_path / f"{name}.npz"
    flipped = whole.copy()
    flipped[1000] ^= 1  # inside the compressed weights
    for damaged in (whole[:100_000], flipped):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match="install lplr again"):
            datasets.layer(name)


def test_make_data_and_loader_are_inverse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captured, made = tmp_path / "captured", tmp_path / "made"
    captured.mkdir()
    made.mkdir()
    quantized = datasets.layer("smollm2_l10_up")
    W, H = quantized.W[:64], quantized.H
    raw = np.random.default_rng(0).standard_normal((40, 24)).astype(np.float32)
    gram = raw.T @ raw
    gram = (gram + gram.T) / 2
    np.savez(captured / "minilm_l2_query.npz", W=raw, H=gram)
    np.savez(captured / "minilm_l3_output.npz", W=raw, H=gram)
    np.savez(captured / "smollm2_l10_up.npz", W=W, H=H)
    monkeypatch.setattr(make_data, "HERE", made)
    make_data.make_layers(captured)
    monkeypatch.setattr(bundled, "_DATA", made)
    exact, rounded, q4_1 = (datasets.layer(name) for name in LAYERS)
    np.testing.assert_array_equal(exact.W, raw)
    np.testing.assert_array_equal(exact.H, gram)
    np.testing.assert_array_equal(rounded.W, raw)
    assert np.abs(rounded.H - gram).max() <= 2.0**-21
    np.testing.assert_array_equal(q4_1.W, W)
    np.testing.assert_array_equal(q4_1.H, H)


def test_make_data_refuses_what_it_cannot_store() -> None:
    with pytest.raises(ValueError, match="not symmetric"):
        make_data.lower_triangle(np.array([[1, 2], [3, 4]], np.float32), None)
    with pytest.raises(ValueError, match="not a float32"):
        make_data.lower_triangle(np.full((1, 1), 1.1, np.float32), 1e-9)
    with pytest.raises(ValueError, match="not dequantized"):
        make_data.split_q4_1(np.linspace(0, 1, 64, dtype=np.float32).reshape(2, 32))


PAGE = """<html><head><title>A title</title></head><body>
  <p>One &amp;   two.</p>

  <pre>listing</pre><p class="x">Three.</p><table><tr><td>cell</td></tr></table></body></html>
"""


def test_debian_texts(tmp_path: Path) -> None:
    fortunes, reference = tmp_path / "fortunes", tmp_path / "reference"
    fortunes.mkdir()
    reference.mkdir()
    items = [f"{topic} {i:02d} " + 40 * "x" for topic in ("art", "zippy") for i in range(10)]
    (fortunes / "zippy").write_text("\n%\n".join([*items[10:], "too short to be kept"]) + "\n%\n")
    (fortunes / "art").write_text("\n%\n".join(items[:10]) + "\n%\n")
    (fortunes / "ascii-art").write_text(50 * "/" + "\n%\n")
    (fortunes / "art.dat").write_bytes(b"\xff\x00")
    (fortunes / "art.u8").symlink_to("art")
    (reference / "ch01.en.html").write_text(PAGE)
    (reference / "ch02.en.html").write_text("<p>Four.</p>")
    (reference / "index.en.html").write_text("<p>Contents</p>")
    texts = datasets.debian_texts(fortunes=fortunes, reference=reference)
    calibration, same = (texts[name].split("\n\n") for name in ("calibration", "test_same"))
    assert len(calibration) == 15
    assert sorted(calibration + same) == items
    assert calibration + same == [items[i] for i in np.random.default_rng(0).permutation(20)]
    assert texts["test_other"] == "A title\n One & two.\n\n Three.\n\n\nFour."
    with pytest.raises(MissingFileError, match="apt-get install debian-reference-en"):
        datasets.debian_texts(fortunes=fortunes, reference=tmp_path)
