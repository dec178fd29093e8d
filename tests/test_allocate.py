"""`lplr.allocate`: budgets that add up, and less error than equal ones, when carried out."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import helpers
import numpy as np
import pytest

import lplr
from lplr.exceptions import BudgetError, HessianError, InputError
from lplr.planning.allocation import spend
from lplr.planning.curves import Curve


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(n: int, d: int) -> np.ndarray:
    return np.random.default_rng([n, d]).standard_normal((n, d))


def matrices() -> list[Any]:
    """Of very different decay and size, one with a Hessian."""
    d = 64
    X = rng().standard_normal((400, d)) * np.arange(1, d + 1) ** -0.5
    W = np.random.default_rng(1).standard_normal((72, d))
    return [
        rng().standard_normal((80, 56)),
        lplr.datasets.synthetic(90, 72, "power", exponent=1.0, rng=0),
        helpers.text_embeddings().embeddings[:72, ::5],
        (W, X.T @ X / 400),
    ]


@functools.cache
def compressed(i: int, bits: float) -> Any:
    """One of `matrices` at a budget."""
    item = matrices()[i]
    A, H = item if isinstance(item, tuple) else (item, None)
    return lplr.compress(A, bits_per_entry=bits, hessian=H, rng=0, effort="fast")


def carried_out(bits: Any, weights: Any) -> tuple[float, float]:
    """Weighted sum of squared relative errors, and bits per entry of all."""
    total = stored = entries = 0.0
    for i, (b, weight) in enumerate(zip(bits, weights, strict=True)):
        f = compressed(i, b)
        total += weight * f.meta["plan"]["error"] ** 2
        stored += 8 * f.nbytes
        entries += f.shape[0] * f.shape[1]
    return total, stored / entries


@pytest.mark.parametrize(
    ("bits", "weights"),
    [(1.0, None), (1.0, (1.0, 10.0, 0.5, 3.0)), (2.6, (1.0, 10.0, 0.5, 3.0))],
)
def test_less_error_than_equal_budgets_when_carried_out(bits: float, weights: Any) -> None:
    items = matrices()
    a = lplr.allocate(items, bits_per_entry=bits, weights=weights, effort="fast")
    factors = weights or (1.0,) * 4
    error, stored = carried_out(a.bits_per_entry, factors)
    uniform, _ = carried_out((bits,) * 4, factors)
    assert stored <= bits
    assert error <= uniform
    assert error < 0.95 * uniform  # these matrices differ enough for that
    predicted = float(np.dot(factors, np.square(a.predicted)))
    assert error == pytest.approx(predicted, rel=0.12)
    expected = float(np.dot(factors, np.square(a.uniform)))
    assert uniform == pytest.approx(expected, rel=0.12)


def test_the_budget_is_spent_and_not_more() -> None:
    items = matrices()
    sizes = np.array([np.size(item[0] if isinstance(item, tuple) else item) for item in items])
    for total in (0.3, 3.7, 15.9):
        a = lplr.allocate(items, bits_per_entry=total, effort="fast")
        spent = float(sizes @ np.array(a.bits_per_entry)) / sizes.sum()
        assert 0.999 * total <= spent <= total * (1 + 1e-12)


class Reading(Mapping[str, Any]):
    """Counts how many of the arrays that it has handed out are alive."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays, self.alive, self.most = arrays, 0, 0

    def __getitem__(self, name: str) -> np.ndarray:
        found = self.arrays[name].copy()
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(found, self._gone)
        return found

    def _gone(self) -> None:
        self.alive -= 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def named() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The same matrices, and their Hessians, by name."""
    *plain, (W, H) = matrices()
    return dict(zip(("a", "b", "c", "d.weight"), (*plain, W), strict=True)), {"d": H}


def test_a_mapping_is_read_one_matrix_at_a_time() -> None:
    arrays, hessians = named()
    items = Reading(arrays)
    a = lplr.allocate(
        items, bits_per_entry=1, hessians=hessians, weights={"b": 10.0}, effort="fast"
    )
    same = lplr.allocate(matrices(), bits_per_entry=1, weights=(1, 10, 1, 1), effort="fast")
    assert a[:3] == same[:3]
    assert a.names == ("a", "b", "c", "d.weight")
    assert items.most == 1
    found = lplr.compress_all(items, bits_per_entry=2, hessians=hessians, rng=0, effort="fast")
    assert items.most == 1
    del found
    lines = repr(a).splitlines()
    assert len(lines) == 6
    for name, (n, d), bits, line in zip(
        a.names, a.shapes, a.bits_per_entry, lines[1:], strict=False
    ):
        assert line.split()[:5] == [name, str(n), "x", str(d), f"{bits:.4f}"]


def test_weights_draw_bits() -> None:
    items = [np.random.default_rng(i).standard_normal((90, 70)) for i in range(3)]
    even = lplr.allocate(items, bits_per_entry=2).bits_per_entry
    assert even == (2.0, 2.0, 2.0)  # alike: nothing to gain beyond doubt
    uneven = lplr.allocate(items, bits_per_entry=2, weights=(1, 100, 0)).bits_per_entry
    assert uneven[1] > uneven[0] > uneven[2]
    alone = lplr.allocate(items[:1], bits_per_entry=1.5)
    assert alone.bits_per_entry == (1.5,)
    assert alone.predicted == alone.uniform


def test_errors_count_under_both_hessians() -> None:
    """Where few directions of the outputs weigh, few bits are enough; at any scale of G."""
    arrays = {"a": normal(256, 64), "b": normal(256, 65)}
    gradients = normal(600, 256) * np.arange(1, 257) ** -1.5
    weights: dict[str, Any] = {"hessian": np.linspace(0.1, 2, 64), "output_hessian": gradients}
    a, scaled = (
        lplr.allocate(
            arrays,
            bits_per_entry=2,
            hessians={"a": weights["hessian"]},
            output_hessians={"a": scale * gradients},
            effort="fast",
        )
        for scale in (1, 1e3)
    )
    assert a.bits_per_entry == pytest.approx(scaled.bits_per_entry)
    found = []
    for bits in (a.bits_per_entry, (2.0, 2.0)):
        errors = [
            lplr.compress(A, bits_per_entry=b, rng=0, effort="fast", **given).meta["plan"]["error"]
            for A, b, given in zip(arrays.values(), bits, (weights, {}), strict=True)
        ]
        found.append(float(np.square(errors).sum()))
    assert found[0] < 0.7 * found[1]
    assert found[0] == pytest.approx(float(np.square(a.predicted).sum()), rel=0.12)


def test_a_constant_matrix_gets_what_it_needs() -> None:
    a = lplr.allocate([np.ones((50, 40)), rng().standard_normal((50, 40))], bits_per_entry=2)
    assert a.bits_per_entry[0] < 0.4
    assert a.bits_per_entry[1] > 3.5
    f = lplr.compress(np.ones((50, 40)), bits_per_entry=a.bits_per_entry[0])
    assert f.relative_error(np.ones((50, 40))) == 0


def test_small_beside_large() -> None:
    """A matrix too small for the common rate still gets its least."""
    items = [np.array([[1.0, 2.0]]), rng().standard_normal((100, 100))]
    a = lplr.allocate(items, bits_per_entry=1.5)
    f = lplr.compress(items[0], bits_per_entry=a.bits_per_entry[0], rng=0)
    assert f.bits_per_entry <= a.bits_per_entry[0]
    assert a.uniform[0] == np.inf


def test_spending_is_the_best_of_all_ways() -> None:
    """On convex curves of whole steps, against every combination."""
    generator = rng()
    curves = []
    for _ in range(3):
        gains = np.sort(generator.random(6))[::-1]
        curves.append(Curve(np.arange(7.0), 1 + gains.sum() - np.r_[0, np.cumsum(gains)]))
    factors = np.array([1.0, 2.0, 0.5])
    for budget in (0, 1, 4, 9, 17, 18):
        sizes = spend(curves, factors, float(budget))
        loss = sum(w * c.loss[round(s)] for w, c, s in zip(factors, curves, sizes, strict=True))
        best = min(
            sum(w * c.loss[i] for w, c, i in zip(factors, curves, way, strict=True))
            for way in product(range(7), repeat=3)
            if sum(way) <= budget
        )
        assert loss == pytest.approx(best)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([], 2), InputError, "empty"),
        ((np.eye(3), 2), InputError, "list of matrices"),
        (({"a": np.eye(9)}, 2, {"b": 1}), InputError, "weights: no matrix has the name 'b'"),
        (({"a": np.eye(9), "v": [1.0]}, 2), InputError, r"matrices\['v'\]"),
        (([np.eye(9), [1.0, 2.0]], 2), InputError, r"matrices\[1\]"),
        (([np.full((3, 3), np.nan)], 2), InputError, r"matrices\[0\]"),
        (([np.eye(9)], 0), InputError, "bits_per_entry"),
        (([np.eye(9)], 0.5), BudgetError, "use at least"),
        (([np.eye(9)], 4, [1, 2]), InputError, "weights"),
        (([np.eye(9)], 4, [-1]), InputError, r"weights\[0\]"),
        (([np.eye(9)], 4, 1.0), InputError, "weights"),
        (([(np.eye(9), np.eye(8))], 4), InputError, "hessian"),
        (([(np.eye(9), -np.eye(9))], 4), HessianError, r"^matrices\[0\]: hessian: entry"),
    ],
)
def test_refusals(arguments: tuple, error: type[Exception], said: str) -> None:
    matrices, bits, weights = (*arguments, None)[:3]
    with pytest.raises(error, match=said):
        lplr.allocate(matrices, bits_per_entry=bits, weights=weights)


# --- what one function returns another takes as it is ----------------------------------------

PAIRS: dict[str, tuple[list[np.ndarray], Any]] = {
    "3 x 30": ([normal(3, 30), normal(40, 40)], [0, 1]),
    "tiny": ([normal(1, 2), normal(100, 100)], [0, 1]),
    "constant": ([np.ones((50, 40)), normal(50, 40)], [1, 0]),
    "all constant": ([np.zeros((9, 9)), np.ones((5, 5))], None),
    "one entry": ([np.ones((1, 1)), normal(9, 9)], None),
    "no weight": ([normal(3, 30), normal(65, 17)], [0, 0]),
    "odd": ([normal(k, 90 - k) for k in (1, 7, 31, 89)], [0, 1, 2, 0]),
}


@pytest.mark.parametrize(("items", "weights"), PAIRS.values(), ids=PAIRS)
def test_compress_takes_each_budget_as_it_is(items: list[np.ndarray], weights: Any) -> None:
    """Bytes become bits and bytes again: what is lost in the last place must not matter.

    The least total, which a refusal names, is where every matrix gets just what it needs.
    """
    with pytest.raises(BudgetError, match="use at least") as caught:
        lplr.allocate(items, bits_per_entry=1e-3, weights=weights)
    least = float(str(caught.value).rsplit(" ", 1)[1])
    for total in (least, max(2.0, 1.2 * least)):
        a = lplr.allocate(items, bits_per_entry=total, weights=weights, effort="fast")
        stored = 0
        for A, bits in zip(items, a.bits_per_entry, strict=True):
            stored += lplr.compress(A, bits_per_entry=bits, rng=0, effort="fast").nbytes
        assert 8 * stored <= total * sum(A.size for A in items)


@pytest.mark.parametrize(("shape", "bits"), [((60, 50), 0.5), ((33, 65), 1.3), ((7, 90), 4.0)])
def test_compress_takes_the_budget_of_each_prediction(shape: tuple[int, int], bits: float) -> None:
    """The size that a prediction names buys that prediction."""
    A = normal(*shape)
    for plan in lplr.predictions(A, bits_per_entry=bits, effort="fast"):
        found = lplr.compress(A, bits_per_entry=plan["bits_per_entry"], rng=0, effort="fast")
        assert found.nbytes <= plan["nbytes"]
