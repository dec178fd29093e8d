"""`lplr.compress_all`: a whole collection in one call, and what it refuses before it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lplr
from lplr.exceptions import BudgetError, BudgetWarning, DampingWarning, InputError
from lplr.inputs import ArrayFile


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal((40, 30)),
        "a.bias": np.arange(40.0),
        "b.weight": rng.standard_normal((30, 50)).astype(np.float32),
    }


def test_each_is_what_compress_makes_of_it() -> None:
    shares: list[float] = []
    H, G = np.diag(np.linspace(1, 9, 30)), np.linspace(1, 9, 40)
    found = lplr.compress_all(
        arrays(),
        bits_per_entry=2,
        hessians={"a": H},
        output_hessians={"a.weight": G},
        rng=np.random.default_rng(5),
        effort="fast",
        progress=lambda share, what: shares.append(share),
    )
    assert list(found) == list(arrays())
    np.testing.assert_array_equal(found["a.bias"], arrays()["a.bias"])
    for name, hessian, output_hessian in (("a.weight", H, G), ("b.weight", None, None)):
        call = found[name].meta["call"]["arguments"]
        f = lplr.compress(
            arrays()[name],
            bits_per_entry=call["bits_per_entry"],
            hessian=hessian,
            output_hessian=output_hessian,
            rng=call["rng"],
            effort="fast",
        )
        np.testing.assert_array_equal(f.to_dense(), found[name].to_dense())
    assert found["a.weight"].meta["call"]["arguments"]["rng"] == call["rng"]
    assert (shares[0], shares[-1]) == (0, 1)
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        ({"a.weight": np.full((3, 3), np.nan)}, {}, InputError, r"matrices\['a.weight'\]: has nan"),
        ({"c": np.full((2, 2), np.inf)}, {"hessians": {"a": np.eye(3)}}, InputError, "hessians.*a"),
        ({}, {"hessians": {"A": np.eye(30)}}, InputError, "no matrix of the name 'A'"),
        ({}, {"hessians": [np.eye(30)]}, InputError, "hessians: must be a mapping"),
        ({}, {"output_hessians": {"A": np.eye(40)}}, InputError, "^output_hessians: there is no"),
        ({}, {"output_hessians": {"a": np.eye(30)}}, InputError, r"^output_hessians\['a.weight'\]"),
        ({}, {"output_hessians": {7: np.eye(30)}}, InputError, "^output_hessians: a name must be"),
        ({}, {"bits_per_entry": 0.001}, BudgetError, "use at least"),
        ({}, {"bits_per_entry": -1}, InputError, "bits_per_entry"),
        ({}, {"effort": "much"}, InputError, "effort"),
        ({}, {"rng": -1}, InputError, "rng"),
        ({7: np.eye(3)}, {}, InputError, "a name must be text, found 7"),
        ({"a.weight": np.eye(3, dtype=int), "b.weight": [1.0]}, {}, InputError, "none of the"),
    ],
)
def test_refusals(change: Any, options: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        lplr.compress_all(arrays() | change, **{"bits_per_entry": 2, **options})


def test_refuses_what_is_no_mapping() -> None:
    with pytest.raises(InputError, match="must be a mapping"):
        lplr.compress_all([np.eye(3)], bits_per_entry=2)  # type: ignore[arg-type]


def test_warnings_name_the_matrix() -> None:
    with pytest.warns(
        DampingWarning, match=r"hessians\['b.weight'\]: 3 calibration inputs"
    ) as said:
        lplr.compress_all(
            arrays(), bits_per_entry=2, hessians={"b": np.eye(50)[:3] + 1}, rng=0, effort="fast"
        )
    assert len(said) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_a_budget_that_gains_nothing(dtype: type) -> None:
    A = np.arange(80 * 90).reshape(80, 90).astype(dtype)
    bits = 8 * A.itemsize
    for function in (lplr.compress, lplr.predictions, lplr.factorize):
        with pytest.warns(BudgetWarning, match=f"{bits} is not below the {bits} bits"):
            function(A, bits_per_entry=bits, rng=0)
    lplr.predictions(A, bits_per_entry=0.9 * bits, rng=0)
    lplr.predictions(A[:6, :6], bits_per_entry=bits + 16, rng=0)  # it needs more than it has
    if A.dtype.kind == "f":
        with pytest.warns(BudgetWarning) as said:
            lplr.compress_all({"A": A}, bits_per_entry=bits, rng=0, effort="fast")
        assert len(said) == 1


def test_arrays_of_a_file(tmp_path: Any) -> None:
    np.savez(tmp_path / "model.npz", **arrays())
    np.save(tmp_path / "weights.npy", np.eye(3))
    file = ArrayFile(str(tmp_path / "model.npz"))
    assert list(file) == list(arrays())
    np.testing.assert_array_equal(file["a.bias"].array, arrays()["a.bias"])
    assert "c" not in file
    assert (file["b.weight"].bits, file["b.weight"].nbytes) == (32, 4 * 30 * 50)
    assert list(ArrayFile(str(tmp_path / "weights.npy"))) == ["weights"]
