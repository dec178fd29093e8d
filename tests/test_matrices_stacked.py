"""Packed matrices side by side, and the codebook of nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.linalg import norm

import lplr
from lplr.exceptions import InputError
from lplr.matrices.quantized import Quantized
from lplr.matrices.stacked import Stacked
from lplr.quantizers import get_codebook
from lplr.storage.container import load, save

RNG = np.random.default_rng(0)


def part(n: int, d: int, bits: int, granularity: str = "tensor") -> Quantized:
    q = lplr.quantize(RNG.standard_normal((n, d)), bits=bits, granularity=granularity)
    return replace(q, offset=None)


KINDS = ((3, 2, "tensor"), (1, 8, "row"), (4, 5, "column"))
WIDE = Stacked([part(9, k, bits, granularity) for k, bits, granularity in KINDS], axis=1)
TALL = Stacked([part(k, 9, bits, granularity) for k, bits, granularity in KINDS], axis=0)
# Blocks of rows, some in groups of columns, and the other way round.
ROWS = Stacked((WIDE, part(5, 8, 3), WIDE), axis=0)
COLUMNS = Stacked((TALL, part(8, 7, 4)), axis=1)
STACKS = (WIDE, TALL, ROWS, COLUMNS)


def test_a_stack_is_its_parts() -> None:
    rng = np.random.default_rng(1)
    for stack in STACKS:
        join = np.vstack if stack.axis == 0 else np.hstack
        dense = join([part.to_dense() for part in stack.blocks])
        np.testing.assert_array_equal(stack.to_dense(), dense)
        for start, stop in ((0, 0), (0, 2), (2, 7), (3, 4), (1, stack.shape[0])):
            np.testing.assert_array_equal(stack.rows(start, stop), dense[start:stop])
        X, Y = rng.standard_normal((stack.shape[1], 2)), rng.standard_normal(stack.shape[0])
        np.testing.assert_allclose(stack @ X, dense @ X, rtol=1e-6, atol=1e-5)
        x = X[:, 0].astype(np.float32)
        np.testing.assert_allclose(stack.times(x), dense @ x, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(stack.T @ Y, dense.T @ Y, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(stack.scaled(-2.0).to_dense(), -2 * dense, rtol=1e-6)
        assert stack.nbytes == sum(part.nbytes for part in stack.blocks)
        assert "2 to 8 bits" in repr(stack)


def test_a_stack_refuses_what_does_not_fit() -> None:
    for parts, axis in (((), 0), ((WIDE.blocks[0],), 2), ((WIDE.blocks[0], TALL.blocks[0]), 0)):
        with pytest.raises(InputError):
            Stacked(parts, axis=axis)
    with pytest.raises(InputError):
        Stacked((np.ones((2, 2)),))
    for inner, axis in ((WIDE, 1), (TALL, 0), (ROWS, 1)):
        with pytest.raises(InputError, match="other axis"):
            Stacked((inner,), axis=axis)
    with pytest.raises(InputError):
        WIDE.rows(0, 10)
    with pytest.raises(InputError, match="offset"):
        Stacked((lplr.quantize(np.eye(3), bits=4),))
    for stack in STACKS:
        state = stack._state()
        np.testing.assert_array_equal(Stacked._from_state(state).to_dense(), stack.to_dense())
        broken = [{}, {**state, "more": 1}, {**state, "axis": 2}, {**state, "across": 7}]
        broken += [{k: v for k, v in state.items() if k != name} for name in state]
        broken += [{**state, name: state[name][1:]} for name in ("blocks", "codes", "scale")]
        inner = state["blocks"][0]
        first, *others = inner["blocks"] if isinstance(inner, dict) else state["blocks"]
        lists = [[], 3, [first[:5]], "x", [None]]
        for i, wrong in enumerate(("e8p ", 2.1, -first[2], 2, [3, -1], -first[5])):
            lists.append([[*first[:i], wrong, *first[i + 1 :]], *others])
        for blocks in lists:
            if isinstance(inner, dict):
                blocks = [{**inner, "blocks": blocks}, *state["blocks"][1:]]
            broken.append({**state, "blocks": blocks})
        if isinstance(inner, dict):
            for wrong in ({}, {**inner, "more": 1}, {**inner, "across": inner["across"] - 1}):
                broken.append({**state, "blocks": [wrong, *state["blocks"][1:]]})
        for nonsense in broken:
            with pytest.raises(ValueError, match="."):
                Stacked._from_state(nonsense)


def test_stacked_factors_are_stored(tmp_path) -> None:
    A = lplr.datasets.synthetic(80, 60, "power", exponent=1.0, rng=0)
    f = lplr.factorize(A, bits_per_entry=2, rng=0)
    assert isinstance(f.left, Stacked)
    assert isinstance(f.right, Stacked)
    save(tmp_path / "f.h5", f)
    # However many parts, the header and the structure of a file are a few kB.
    assert (tmp_path / "f.h5").stat().st_size - f.nbytes < 8000
    g = load(tmp_path / "f.h5")
    np.testing.assert_array_equal(g.to_dense(), f.to_dense())
    assert (g.nbytes, repr(g)) == (f.nbytes, repr(f))
    assert norm(f @ np.ones(60) - f.to_dense() @ np.ones(60)) < 1e-4 * norm(A)


def test_zero_bits(tmp_path) -> None:
    book = get_codebook("zero", 0)
    assert book.nbytes(300, 4) == 0
    empty = np.empty(0, np.uint8)
    scale = np.ones((1, 1), np.float32)
    part = Quantized((6, 4), "zero", 0, empty, scale)
    assert not part.to_dense().any()
    assert not (part @ np.ones(4)).any()
    assert not (part.T @ np.ones(6)).any()
    codes = np.full(12, 7, np.uint8)
    stack = Stacked((Quantized((6, 2), "uniform", 8, codes, scale), part), axis=1)
    save(tmp_path / "z.h5", stack)
    np.testing.assert_array_equal(load(tmp_path / "z.h5").to_dense(), stack.to_dense())
    with pytest.raises(InputError, match="codes"):
        Quantized((6, 4), "zero", 0, np.zeros(1, np.uint8), scale)
    with pytest.raises(InputError, match="quantizer"):
        lplr.quantize(np.eye(3), bits=1, quantizer="zero")
