"""The gate, and what stands behind it: any input gives a correct result or one typed error."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

import lplr
from lplr.exceptions import BudgetError, InputError
from lplr.linalg.svd import range_finder, truncated_svd
from lplr.validation.arguments import (
    check_bits,
    check_choice,
    check_flag,
    check_integer,
    check_pair,
    check_rank,
    check_real,
    check_rng,
)
from lplr.validation.matrices import LARGEST, SMALLEST, check_matrix

BASE = np.random.default_rng(0).standard_normal((6, 5))


def with_entry(value: float, dtype: type = np.float64) -> np.ndarray:
    A = BASE.astype(dtype)
    A[2, 3] = value
    return A


class Unconvertible:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("no array here")


REFUSED = {
    "nan": (with_entry(np.nan), "nan at (2, 3)"),
    "nan-float32": (with_entry(np.nan, np.float32), "nan at (2, 3)"),
    "inf": (with_entry(np.inf), "inf at (2, 3)"),
    "minus-inf": (with_entry(-np.inf, np.float32), "-inf at (2, 3)"),
    "nan-float16": (with_entry(np.nan, np.float16), "nan at (2, 3)"),
    "empty": (np.empty((0, 5)), "empty"),
    "no-columns": (np.empty((5, 0)), "empty"),
    "empty-list": ([[]], "empty"),
    "scalar": (3.0, "0"),
    "vector": (np.ones(5), "one column"),
    "cube": (np.ones((2, 3, 4)), "3"),
    "complex": (BASE + 1j, "complex128"),
    "object": (BASE.astype(object), "object"),
    "strings": (np.array([["a", "b"]]), "<U1"),
    "digits": ([["1", "2"]], "<U1"),
    "bytes": (np.array([[b"1"]]), "|S1"),
    "dates": (np.array([["2020-01-01"]], "datetime64[D]"), "datetime64"),
    "record": (np.zeros((2, 2), [("x", "f4")]), "x"),
    "ragged": ([[1, 2], [3]], "not an array"),
    "none": (None, "must be an array, found a NoneType"),
    "path": ("layer.npy", "must be an array, found a str"),
    "broken": (Unconvertible(), "no array here"),
    "sparse": (scipy.sparse.eye(4).tocsr(), "toarray()"),
    "sparse-array": (scipy.sparse.eye_array(4), "toarray()"),
    "masked": (np.ma.masked_less(BASE, 0), "masked"),
    "too-large": (BASE * 1e35, "multiply"),
    "too-large-for-float32": (BASE * 1e300, "multiply"),
    "too-small": (BASE * 1e-35, "multiply"),
    "underflows": (BASE * 1e-300, "multiply"),
    "subnormal": (np.full((3, 4), 5e-324), "multiply"),
    "subnormal-float32": (np.full((3, 4), 1e-45, np.float32), "multiply"),
    "largest-float64": (np.full((2, 2), np.finfo(np.float64).max), "multiply"),
    "largest-float32": (np.full((2, 2), np.finfo(np.float32).max, np.float32), "multiply"),
}


@pytest.mark.parametrize(("A", "found"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_the_name_and_the_remedy(A, found: str) -> None:
    """One typed error; a warning on the way would fail as well."""
    with pytest.raises(InputError, match=f"^W: .*{re.escape(found)}"):
        check_matrix(A, "W")


F = lplr.quantize(BASE, bits=4)
# Every public function that takes a matrix, and what its messages call it.
TAKE_A_MATRIX = {
    "A compress": lambda A: lplr.compress(A, bits_per_entry=20, rng=0),
    "A predictions": lambda A: lplr.predictions(A, bits_per_entry=20, rng=0),
    "A factorize": lambda A: lplr.factorize(A, rank=1, rng=0),
    "A quantize": lambda A: lplr.quantize(A, bits=4),
    "W caldera": lambda W: lplr.caldera(W, rank=1, rng=0),
    "matrices[0] allocate": lambda A: lplr.allocate([A], bits_per_entry=20),
    "A relative_error": F.relative_error,
    "A range_finder": lambda A: range_finder(A, 1, rng=0),
    "A truncated_svd": lambda A: truncated_svd(A, 1, rng=0),
    "hessian regularize": lambda H: lplr.regularize(H, columns=5),
    "hessian relative_error": lambda H: F.relative_error(BASE, hessian=H),
    "hessian compress": lambda H: lplr.compress(BASE, bits_per_entry=20, hessian=H, rng=0),
    "output_hessian relative_error": lambda G: lplr.quantize(BASE.T, bits=4).relative_error(
        BASE.T, output_hessian=G
    ),
    "output_hessian compress": lambda G: lplr.compress(
        BASE.T, bits_per_entry=20, output_hessian=G, rng=0
    ),
    "hessian caldera": lambda H: lplr.caldera(BASE, rank=1, hessian=H, rng=0),
    "matrices[0]: hessian allocate": lambda H: lplr.allocate([(BASE, H)], bits_per_entry=20),
}
each_function = pytest.mark.parametrize(
    ("name", "call"), [(key.rsplit(maxsplit=1)[0], call) for key, call in TAKE_A_MATRIX.items()],
    ids=TAKE_A_MATRIX,
)  # fmt: skip


@each_function
def test_every_matrix_goes_through_the_gate(name: str, call) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(name)}: .*nan at \\(2, 3\\)"):
        call(with_entry(np.nan))


@each_function
def test_no_function_writes_to_its_matrix(name: str, call) -> None:
    """A matrix of another layout and byte order is taken, and stays as it is."""
    A = np.asfortranarray(BASE.astype(">f8"))
    before = A.copy()
    A.setflags(write=False)
    call(A)
    np.testing.assert_array_equal(A, before)


# --- any layout and dtype --------------------------------------------------------------------

INTEGERS = np.random.default_rng(1).integers(0, 100, (6, 5))
PADDED = np.random.default_rng(2).standard_normal((12, 15)).astype(np.float32)


def read_only(A: np.ndarray) -> np.ndarray:
    A = A.copy()
    A.setflags(write=False)
    return A


ACCEPTED = {
    "float64": BASE,
    "float16": BASE.astype(np.float16),
    "longdouble": BASE.astype(np.longdouble),
    **{np.dtype(t).name: INTEGERS.astype(t) for t in "bhilqBHILQ"},
    "bool": INTEGERS > 50,
    "big-endian-float64": BASE.astype(">f8"),
    "big-endian-float32": BASE.astype(">f4"),
    "big-endian-int16": INTEGERS.astype(">i2"),
    "fortran": np.asfortranarray(BASE.astype(np.float32)),
    "transposed": BASE.astype(np.float32).T,
    "negative-strides": PADDED[::-1, ::-1],
    "every-other": PADDED[::2, ::3],
    "broadcast": np.broadcast_to(BASE[0], (4, 5)),
    "unaligned": np.frombuffer(b"x" + BASE.tobytes(), np.uint8)[1:].view(np.float64).reshape(6, 5),
    "read-only": read_only(BASE.astype(np.float32)),
    "list": INTEGERS.tolist(),
    "tuple-of-arrays": tuple(BASE),
    "matrix": np.array(BASE).view(np.matrix),
    "masked-without-mask": np.ma.array(BASE),
    "extreme-int64": np.array([[-(2**63), 2**63 - 1], [1, 0]]),
    "extreme-uint64": np.array([[2**64 - 1, 0], [1, 2]], np.uint64),
}


@pytest.mark.parametrize("A", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_dtype_and_layout_do_not_matter(A) -> None:
    """The plain float32 array, and the input is as it was."""
    before = np.array(A, copy=True)
    found = check_matrix(A)
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, np.array(A, np.float32, order="C"))
    np.testing.assert_array_equal(np.asarray(A), before)
    if isinstance(A, np.ndarray):
        assert A.dtype == before.dtype


# --- any shape and value ---------------------------------------------------------------------

METHODS = ("feedback", "lplr", "lplr-svd", "direct-svd")
CALLS = {
    "minmax": lambda A: lplr.quantize(A, bits=8),
    "mse": lambda A: lplr.quantize(A, bits=8, quantizer="lloyd-max", granularity="row"),
    "float16": lambda A: lplr.quantize(A, bits=16),
    "lattice": lambda A: lplr.quantize(A, bits=4, quantizer="e8p", granularity="column"),
    **{m: lambda A, m=m: lplr.factorize(A, rank=1, bits=8, method=m, rng=0) for m in METHODS},
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
RANK_ONE = np.outer(np.arange(1, 7), [3, -1, 4, 1, -5]).astype(np.float64)
SPECIAL = {
    "1x1": np.array([[2.5]]),
    "1xN": BASE[:1],
    "Nx1": BASE[:, :1],
    "1x2": BASE[:1, :2],
    "2x1": BASE[:2, :1],
    "zero": np.zeros((6, 5)),
    "minus-zero": np.full((6, 5), -0.0),
    "constant": np.full((6, 5), 0.1),
    "one-entry": np.eye(6, 5) * (np.arange(5) == 2),
    "rank-one": RANK_ONE,
    "zero-row": RANK_ONE * (np.arange(6) != 3)[:, None],
    "subnormal-row": RANK_ONE * np.where(np.arange(6) == 3, 1e-43, 1)[:, None],
    "vanishing-column": RANK_ONE * np.where(np.arange(5) == 2, 1e-320, 1),
    "near-the-largest": RANK_ONE * (0.99 * LARGEST / 30),
    "near-the-smallest": RANK_ONE * (1.01 * SMALLEST / 30),
    "float16-largest": np.full((3, 2), np.finfo(np.float16).max, np.float16) * [[1, -1]],
}


@each_call
@pytest.mark.parametrize("A", SPECIAL.values(), ids=SPECIAL.keys())
def test_special_matrices_are_reproduced(call, A) -> None:
    """All are of rank 1 or nearly: what remains is the rounding of the codes."""
    before = A.copy()
    f = call(A)
    assert f.shape == A.shape
    if (A == A.flat[0]).all():
        np.testing.assert_array_equal(f.to_dense(), A.astype(np.float32))
    # Four bits of a lattice lose the most, on groups of eight that are mostly padding.
    lattice = isinstance(f, lplr.Quantized) and f.quantizer == "e8p"
    assert f.relative_error(A) <= (0.08 if lattice else 0.015)
    np.testing.assert_array_equal(A, before)
    np.testing.assert_array_equal(f @ np.zeros(A.shape[1]), np.zeros(A.shape[0]))


@pytest.mark.parametrize("method", METHODS)
def test_rank_above_that_of_the_data(method: str) -> None:
    """Many components of a rank-one matrix: least squares of any condition, none amplified."""
    rng = np.random.default_rng(0)
    A = np.outer(rng.standard_normal(40), rng.standard_normal(30))
    for rank in (12, 30):
        # Direct-SVD rounds each component to its share of the range: an 8-bit step each.
        f = lplr.factorize(A, rank=rank, bits=8, method=method, rng=0)
        assert f.relative_error(A) < 0.05
        f = lplr.factorize(A, rank=rank, bits=16, method=method, rng=0)
        assert f.relative_error(A) < 2.0**-10


# --- options of factorize --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("rank", {"rank": 6}),
        ("rank, bits_per_entry", {"rank": None}),
        ("rank, bits_per_entry", {"rank": 2, "bits_per_entry": 2}),
        ("bits_per_entry", {"rank": None, "bits_per_entry": np.nan}),
        ("bits", {"bits": 15}),
        ("bits", {"bits": (4, 4, 4)}),
        ("bits", {"bits": (4, None)}),
        ("bits", {"bits": 1, "quantizer": "e8p"}),
        ("method", {"method": "svd"}),
        ("method", {"method": "feedback", "rounding": "dithered"}),
        ("method", {"method": "feedback", "normalize": True}),
        ("effort", {"effort": "slow"}),
        ("effort", {"effort": "best", "method": "lplr"}),
        ("sketch", {"sketch": "fourier"}),
        ("n_oversamples", {"n_oversamples": -1}),
        ("n_power_iter", {"n_power_iter": 0}),
        ("n_power_iter", {"n_power_iter": -1, "method": "lplr"}),
        ("quantizer", {"quantizer": "linear"}),
        ("quantizer", {"quantizer": ("uniform",)}),
        ("rounding", {"rounding": "up"}),
        ("rounding", {"method": "lplr", "rounding": "dithered", "bits": 16}),
        ("rounding", {"method": "lplr", "rounding": "dithered", "quantizer": "lloyd-max"}),
        ("normalize", {"method": "lplr", "normalize": "yes"}),
        ("rng", {"rng": "seed"}),
    ],
)
def test_options_are_refused_by_name(argument: str, options: dict) -> None:
    with pytest.raises(InputError, match=f"^{argument}: "):
        lplr.factorize(BASE, **{"rank": 2, "bits": 4, **options})


@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (1, 40), (40, 1), (100, 70)])
@pytest.mark.parametrize("method", METHODS)
def test_the_advised_budget_is_enough(shape: tuple[int, int], method: str) -> None:
    for A in (np.random.default_rng(0).standard_normal(shape), np.ones(shape)):
        with pytest.raises(BudgetError, match="bits_per_entry: .* rank 1") as refusal:
            lplr.factorize(A, bits_per_entry=1e-3, method=method)
        advised = float(re.search(r"at least (\S+)$", str(refusal.value))[1])
        f = lplr.factorize(A, bits_per_entry=advised, method=method, rng=0)
        assert f.bits_per_entry <= advised
        with pytest.raises(BudgetError):
            lplr.factorize(A, bits_per_entry=0.99 * advised, method=method)


# --- the checks themselves -------------------------------------------------------------------


def test_check_matrix_copies_only_where_it_must() -> None:
    A = BASE.astype(np.float32)
    assert check_matrix(A) is A
    assert check_matrix(BASE, dtype=np.float64) is BASE


def test_check_matrix_finds_the_one_bad_entry() -> None:
    """Wherever it lies among blocks of 2**16 entries."""
    for place in ((0, 0), (120, 999), (299, 999)):
        A = np.zeros((300, 1000), np.float32)
        A[place] = np.nan
        with pytest.raises(InputError, match=re.escape(str(place))):
            check_matrix(A, "W")


def test_range_limits_are_inclusive() -> None:
    for value in (LARGEST, SMALLEST):
        A = np.full((2, 2), value)
        assert check_matrix(A, dtype=np.float64) is A
    for value in (np.nextafter(LARGEST, np.inf), np.nextafter(SMALLEST, 0)):
        with pytest.raises(InputError, match="multiply"):
            check_matrix(np.full((2, 2), value), dtype=np.float64)


def test_check_integer() -> None:
    for value in (3, np.int8(3), np.uint64(3)):
        number = check_integer(value, "k", 1, 3)
        assert number == 3
        assert type(number) is int
    for value in (0, 4, 3.0, "3", None, True, np.True_, [3], np.array([3])):
        with pytest.raises(InputError, match=r"^k: .*from 1 to 3"):
            check_integer(value, "k", 1, 3)
    with pytest.raises(InputError, match="at least 1"):
        check_integer(0, "k", 1)


def test_check_real() -> None:
    for value in (2, 2.0, np.float32(2), np.int16(2), Fraction(2)):
        number = check_real(value, "x")
        assert number == 2
        assert type(number) is float
    huge = 10**400  # no float is as large
    for value in (0, -1, np.nan, np.inf, huge, "2", None, True, 2j, [2], [1, [2]], np.ones(1)):
        with pytest.raises(InputError, match="^x: "):
            check_real(value, "x")
    assert check_real(0, "x", strict=False) == 0


def test_check_rank_choice_flag() -> None:
    assert check_rank(3, (3, 9)) == 3
    assert check_rank(0, (3, 9), low=0) == 0
    with pytest.raises(InputError, match="^rank: must be from 1 to 3, found 4"):
        check_rank(4, (3, 9))
    assert check_choice("a", "letter", ("a", "b")) == "a"
    for value in ("c", None, 1, ["a"]):
        with pytest.raises(InputError, match="^letter: must be one of a, b"):
            check_choice(value, "letter", ("a", "b"))
    assert check_flag(np.True_, "on") is True
    for value in (1, "no", None):
        with pytest.raises(InputError, match="^on: must be True or False"):
            check_flag(value, "on")


def test_check_bits_and_pair() -> None:
    for value, bits in ((4, 4), (np.int8(2), 2), (2.75, 2.75), (4.0, 4), (Fraction(5, 2), 2.5)):
        found = check_bits(value, "bits")
        assert found == bits
        assert type(found) is type(bits)
    for value in (0, 17, -4, 4.1, "4", None, True, (4,), np.nan, np.inf, 10**400, np.array([2, 3])):
        with pytest.raises(InputError, match="^bits: must be .*from 1 to 16"):
            check_bits(value, "bits")
    assert check_pair("a", "pair") == check_pair(["a", "a"], "pair") == ("a", "a")
    for value in (("a",), (1, 2, 3), []):
        with pytest.raises(InputError, match="^pair: give one value or two"):
            check_pair(value, "pair")


def test_check_rng() -> None:
    for value in (-1, 1.5, "0", np.random.RandomState(0)):
        with pytest.raises(InputError, match="^rng: "):
            check_rng(value)
    generator = np.random.default_rng(0)
    assert check_rng(generator) is generator
    assert check_rng(np.int64(7)).random() == np.random.default_rng(7).random()
    assert check_rng(None).random() != check_rng(None).random()


@each_call
def test_the_global_random_state_is_untouched(call) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    call(BASE)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
