"""The record of a call: complete, JSON-able, and enough to make the same bytes again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from helpers import digest, weights_and_inputs

import lplr
from lplr.exceptions import InputError
from lplr.provenance import as_call, generator

A, X = weights_and_inputs(20, 16)
H = X.T @ X
G = np.diag(np.arange(1.0, 21.0))
# Each public function that returns a packed matrix: with defaults, and with most options.
CALLS: dict[str, Callable[[Any], Any]] = {
    "compress": lambda rng: lplr.compress(A, bits_per_entry=3, rng=rng),
    "compress under H": lambda rng: lplr.compress(
        A, bits_per_entry=2.5, hessian=H, effort="best", rng=rng
    ),
    "compress under both": lambda rng: lplr.compress(
        A, bits_per_entry=2.5, hessian=H, output_hessian=G, rng=rng
    ),
    "factorize": lambda rng: lplr.factorize(A, rank=3, rng=rng),
    "factorize to a budget": lambda rng: lplr.factorize(A, bits_per_entry=3, rng=rng),
    "factorize as in the paper": lambda rng: lplr.factorize(
        A, rank=3, bits=(3, 5), method="lplr", sketch="srht", quantizer=("uniform", "uniform"),
        rounding="dithered", normalize=True, rng=rng,
    ),
    "caldera": lambda rng: lplr.caldera(A, rank=3, rng=rng),
    "caldera under H": lambda rng: lplr.caldera(
        A, hessian=H, rank=3, q_bits=3, factor_bits=(2, 4), mode="faithful", n_iter=1,
        damping=0.1, incoherence=False, quantizer="lloyd-max", callback=lambda step: None, rng=rng,
    ),
    "quantize": lambda rng: lplr.quantize(A, bits=2, rng=rng),
    "quantize with dither": lambda rng: lplr.quantize(A, bits=2, rounding="dithered", rng=rng),
}  # fmt: skip
each = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def repeated(packed: Any) -> Any:
    """The object that its record makes, once it has been through JSON."""
    meta = json.loads(json.dumps(dict(packed.meta)))
    assert meta == dict(packed.meta)
    rng = meta["call"]["arguments"]["rng"]
    text = as_call(meta).replace("lplr.provenance.generator(...)", "generator(rng)")
    return eval(text, {"lplr": lplr, "A": A, "H": H, "G": G, "generator": generator, "rng": rng})


@each
@pytest.mark.parametrize("seed", [None, 7, "generator"])
def test_the_record_makes_the_same_bytes(call: Callable[[Any], Any], seed: Any) -> None:
    rng = np.random.default_rng(5) if seed == "generator" else seed
    if seed == "generator":
        rng.random(3)  # the state is recorded, not the seed
    packed = call(rng)
    again = repeated(packed)
    assert digest(again) == digest(packed)
    assert again.meta["call"] == packed.meta["call"]
    assert again.meta["versions"]["numpy"] == np.__version__


@each
def test_the_record_has_every_argument(call: Callable[[Any], Any]) -> None:
    record = call(0).meta["call"]
    function = getattr(lplr, record["function"].removeprefix("lplr."))
    matrix, *others = inspect.signature(function).parameters
    assert matrix in ("A", "W")
    assert list(record["arguments"]) == [
        name
        for name in others
        if name not in ("callback", "client", "memory_limit", "out", "progress")
    ]


def test_a_file_keeps_the_record(tmp_path: Any) -> None:
    packed = CALLS["compress under H"](None)
    lplr.save(tmp_path / "f.h5", packed)
    assert digest(repeated(lplr.load(tmp_path / "f.h5"))) == digest(packed)


def test_the_hessian_is_recognised() -> None:
    record = CALLS["caldera under H"](0).meta["call"]["arguments"]["hessian"]
    same = lplr.caldera(A, hessian=H.copy(), rank=3, rng=0)
    other = lplr.caldera(A, hessian=2 * H, rank=3, rng=0)
    assert same.meta["call"]["arguments"]["hessian"] == record
    assert other.meta["call"]["arguments"]["hessian"] != record
    assert record["shape"] == [16, 16]


@pytest.mark.parametrize(
    "call",
    [
        lambda: lplr.compress(A, bits_per_entry=np.float32(3), rng=np.int64(3)),
        lambda: lplr.compress(A, bits_per_entry=np.array(3.0), rng=np.array(3)),
        lambda: lplr.quantize(A, bits=Fraction(5, 2), quantizer="trellis-6"),
        lambda: lplr.caldera(A, rank=np.int8(2), damping=Fraction(1, 10), incoherence=np.False_),
        lambda: lplr.factorize(A, rank=2, bits=[np.int16(3), 4]),
    ],
)
def test_numbers_of_any_type_are_recorded(call: Callable[[], Any]) -> None:
    packed = call()
    assert digest(repeated(packed)) == digest(packed)


@pytest.mark.parametrize("rng", ["x", [1, 2], 1j, np.array([1, 2]), np.random.RandomState(0)])
def test_what_is_refused_is_refused_by_name(rng: Any) -> None:
    with pytest.raises(InputError, match="^rng: "):
        lplr.compress(A, bits_per_entry=3, rng=rng)


def test_an_object_without_a_record_has_no_call() -> None:
    assert (
        as_call(
            lplr.Quantized((1, 1), "zero", 0, np.empty(0, np.uint8), np.ones((1, 1), "f4")).meta
        )
        == ""
    )


@pytest.mark.parametrize("kind", ["test", "seed", "Generator", 3, None, []])
def test_a_record_calls_no_function_that_it_names(kind: Any) -> None:
    with pytest.raises(InputError, match="record"):
        generator({"bit_generator": kind})
