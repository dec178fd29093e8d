"""Trellis codes as codebooks of whole matrices: layout, products, use in the algorithms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lplr
from lplr.coding.feedback import quantize_feedback
from lplr.exceptions import InputError
from lplr.linalg.hessian import regularize
from lplr.linalg.transforms import RandomizedTransform
from lplr.matrices.low_rank import LowRank
from lplr.matrices.q_plus_low_rank import QPlusLowRank
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.matrices.vector_product import VectorProduct
from lplr.parallel import at_most
from lplr.quantizers import get_codebook

# One entry; one short segment; whole bytes of four entries at 2 bits; two segments, the second one
# shorter.
SHAPES = [(1, 1), (7, 3), (96, 5), (5, 1100), (1100, 5)]


def quantized(shape: tuple[int, int], bits: float, axis: int) -> tuple[Quantized, np.ndarray]:
    """A matrix of random symbols, and its values by the decoder of single sequences."""
    book = get_codebook("trellis-8", bits)
    rng = np.random.default_rng([*shape, axis])
    n = shape[axis]
    widths = np.array(book.trellis.widths)[np.arange(n) % 4]
    length = book.segment_length(n)
    vectors = rng.integers(0, 1 << 8, (shape[1 - axis], n)).astype(np.uint8)
    for start in range(0, n, length):  # the widths begin anew with each segment
        part = vectors[:, start : start + length]
        part &= ((1 << widths[: part.shape[1]]) - 1).astype(np.uint8)
    values = [book.trellis.decode(vectors[:, i : i + length])[..., 0] for i in range(0, n, length)]
    dense = np.concatenate(values, axis=1)
    codes, dense = (vectors, dense) if axis == 1 else (vectors.T, dense.T)
    scale = np.full((1, 1), 0.5, np.float32)
    made = Quantized(shape, book.name, bits, book.pack(codes, axis), scale, axis=axis)
    return made, 0.5 * dense


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 2.75])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_products_and_bytes_are_those_of_the_values(shape, bits, axis) -> None:
    q, dense = quantized(shape, bits, axis)
    np.testing.assert_array_equal(q.to_dense(), dense)
    rng = np.random.default_rng(0)
    for start, stop in ((0, 0), (0, shape[0]), (shape[0] // 3, shape[0] // 3 + 1)):
        np.testing.assert_array_equal(q.rows(start, stop), dense[start:stop])
    for dtype in (np.float32, np.float64):
        x, y = rng.standard_normal(shape[1]).astype(dtype), rng.standard_normal(shape[0])
        # Sums of up to 1100 float32 terms of size 1, or of int8 steps.
        tolerance = 1e-5 * np.sqrt(dense.size)
        np.testing.assert_allclose(q @ x, dense @ x, rtol=0, atol=tolerance)
        np.testing.assert_allclose(q.T @ y.astype(dtype), dense.T @ y, rtol=0, atol=tolerance)
        for columns in (0, 9, 70):  # the last ones by decoded blocks
            X = rng.standard_normal((shape[1], columns)).astype(dtype)
            X.flags.writeable = False
            np.testing.assert_allclose(q @ X, dense @ X, rtol=0, atol=tolerance)
    # The bits of a vector are rounded down, and each segment of all vectors is rounded up to bytes.
    n, count = shape[axis], shape[1 - axis]
    length = q.codebook.segment_length(n)
    lengths = [min(n - start, length) for start in range(0, n, length)]
    assert q.codes.nbytes == sum(-(-count * int(bits * length) // 8) for length in lengths)
    assert q.codebook.nbytes(n, count) == q.codes.nbytes


@pytest.mark.parametrize("planned", [True, False], ids=["one call", "part by part"])
def test_one_vector_is_multiplied_by_parts_of_all_kinds(
    planned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)

    def part(shape: tuple[int, int], bits: float, axis: int, scale: tuple[int, int]) -> Quantized:
        factors = rng.uniform(0.5, 1, scale).astype(np.float32)
        return replace(quantized(shape, bits, axis)[0], scale=factors)

    top = [part((70, 5), 2, 0, (1, 1)), part((70, 11), 1.75, 0, (1, 11))]
    bottom = [part((40, 13), 2.5, 1, (40, 1)), part((40, 3), 1, 1, (1, 1))]
    left = [part((80, 4), 1.5, 0, (1, 1)), part((30, 4), 2, 0, (1, 4))]
    if not planned:  # nothing but the codes of a trellis, by vectors with one scale each, is
        left[1] = replace(lplr.quantize(rng.standard_normal((30, 4)), bits=2), offset=None)
        bottom[1] = part((40, 3), 1, 0, (40, 1))
    Q = Stacked([Stacked(top, axis=1), Stacked(bottom, axis=1)], axis=0)
    right = Stacked([part((1, 16), 2, 1, (1, 1)), part((3, 16), 1, 1, (3, 1))], axis=0)
    low_rank = LowRank(Stacked(left, axis=0), right, shift=0.0 if planned else 0.25)
    U, V = RandomizedTransform(110, 1), RandomizedTransform(16, 2)
    f = QPlusLowRank(Q, low_rank, U, V)
    assert (f._vector_product is not None) == planned
    x = rng.standard_normal(32).astype(np.float32)[::2]  # not contiguous
    # Each entry is a float32 sum of less than 128 terms, of Q or of L times sums of R.
    size = np.linalg.norm(f.backbone.to_dense()) + np.linalg.norm(f.low_rank.to_dense())
    bound = 128 * np.finfo(np.float32).eps * size * np.linalg.norm(x)
    np.testing.assert_allclose(f.times(x), f.to_dense() @ x.astype(float), rtol=0, atol=bound)
    np.testing.assert_array_equal(f @ x, f.times(x))
    np.testing.assert_allclose(Q @ x, Q.to_dense() @ x.astype(float), rtol=0, atol=bound)
    if not planned:
        return
    # Of a large matrix, pieces are multiplied in threads: here 8 rows, or segments of columns.
    monkeypatch.setattr("lplr.matrices.vector_product._SHARE", 8)
    monkeypatch.setattr("lplr.matrices.vector_product._ROWS", 8)
    for matrix, pieces in ((f, [2, 1]), (Q, [6])):
        product = VectorProduct.of(matrix)
        assert product is not None
        assert [len(step) for step in product._steps] == pieces
        with at_most(1):
            found = product(x)
        np.testing.assert_allclose(found, matrix.times(x), rtol=0, atol=bound)
        with at_most(2):
            np.testing.assert_array_equal(product(x), found)


def test_damaged_streams_are_refused() -> None:
    q, _ = quantized((5, 3), 1, 0)  # 15 bits
    for codes in (q.codes[:-1], np.append(q.codes, 0).astype(np.uint8), q.codes.astype(int), None):
        with pytest.raises(InputError, match="codes"):
            Quantized(q.shape, q.quantizer, 1, codes, q.scale)
    damaged = q.codes.copy()
    damaged[-1] |= 0x80
    with pytest.raises(InputError, match="damaged"):
        Quantized(q.shape, q.quantizer, 1, damaged, q.scale)


def test_naive_quantization_on_gaussian_data() -> None:
    A = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    for granularity in ("tensor", "row", "column"):
        q = lplr.quantize(A, bits=2, quantizer="trellis", granularity=granularity)
        assert q.quantizer == "trellis-10"
        # Over 8 seeds: -2.8 % to 0.6 %; a scale for each row or column fits its own variance.
        assert q.relative_error(A) ** 2 == pytest.approx(q.codebook.gaussian_mse, rel=0.03)
    constant = lplr.quantize(np.full((5, 9), 3.25), bits=1.5, quantizer="trellis")
    assert (constant.to_dense() == 3.25).all()
    with pytest.raises(InputError, match="scaling"):
        lplr.quantize(A, bits=2, quantizer="trellis", scaling="minmax")
    with pytest.raises(InputError, match="bits"):
        lplr.quantize(A, bits=7, quantizer="trellis")


def test_the_loss_of_feedback_is_that_of_its_errors() -> None:
    """LDLQ's identity holds for any code: the sum of D_k |eta_k|^2, here without descent."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((24, 800)).astype(np.float32)
    B = rng.standard_normal((24, 60))
    H = B @ B.T + 0.1 * np.eye(24)
    book = get_codebook("trellis-8", 2)
    codes, scale, error = quantize_feedback(X, H, book)
    decoded = np.concatenate(
        [book.trellis.decode(codes[:, i : i + 416])[..., 0] for i in (0, 416)], axis=1
    )
    assert book.segment_length(800) == 416
    np.testing.assert_allclose(X - scale[:, None] * decoded, error, atol=1e-5)
    swept = quantize_feedback(X, H, book, sweeps=2)[2]
    loss = [float(np.einsum("kn,kl,ln->", e, H, e)) for e in (error, swept)]
    assert loss[1] < loss[0]
    lattice = quantize_feedback(X, H, get_codebook("e8p", 2))[2]
    assert loss[0] < np.einsum("kn,kl,ln->", lattice, H, lattice)


def test_caldera_with_trellises() -> None:
    """The error is 0.0692 at seed 0; its measured spread over seeds is below 1 %."""
    data = lplr.datasets.layer("minilm_l2_query")
    g = lplr.caldera(data.W, hessian=data.H, rank=64, quantizer="trellis", rng=0)
    assert g.backbone.quantizer == g.low_rank.left.quantizer == "trellis-10"
    # Q, L and R at 2, 4 and 4 bits; their scales and the seeds are the 0.02.
    n, d = data.W.shape
    assert g.bits_per_entry < 2 + 4 * 64 * (n + d) / (n * d) + 0.02
    assert g.relative_error(data.W, regularize(data.H)[0]) <= 0.0745


def test_caldera_takes_what_a_trellis_offers() -> None:
    data = lplr.datasets.layer("minilm_l2_query")
    W, H = data.W[:40, :64], data.H[:64, :64]
    g = lplr.caldera(
        W, hessian=H, rank=5, q_bits=1.75, factor_bits=(8, 2.5), quantizer="trellis-8", rng=0
    )
    assert (g.backbone.bits, g.low_rank.left.bits, g.low_rank.right.bits) == (1.75, 8, 2.5)
    assert g.low_rank.left.quantizer == "lloyd-max"
    for options in ({"mode": "faithful"}, {"q_bits": 7}, {"factor_bits": 6.5}):
        with pytest.raises(InputError):
            lplr.caldera(W, hessian=H, rank=5, **{"quantizer": "trellis", **options})


@pytest.mark.parametrize("bits_per_entry", [0.5, 2.0])
def test_factorize_with_trellises_loses_less(bits_per_entry: float) -> None:
    A = lplr.datasets.synthetic(300, 200, "power", exponent=1.0, rng=0)
    default = lplr.factorize(A, bits_per_entry=bits_per_entry, rng=0)
    f = lplr.factorize(A, bits_per_entry=bits_per_entry, quantizer="trellis", rng=0)
    assert f.bits_per_entry <= bits_per_entry
    assert f.relative_error(A) < default.relative_error(A)
    fixed = lplr.factorize(A, rank=20, bits=(2.25, 3), quantizer="trellis-8", rng=0)
    assert (fixed.left.bits, fixed.right.bits) == (2.25, 3)
