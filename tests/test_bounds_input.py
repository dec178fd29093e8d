"""What the bounds refuse: each gate once, each function with one bad argument, each named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lplr.exceptions import DampingWarning, HessianError, InputError
from lplr.theory import bounds, gaussian_limit, rate_distortion_limit

SIGMA = [3.0, 2.0, 1.0, 0.0]
SHAPE = (6, 4)
H = np.array([[2.0, 1.0], [1.0, 2.0]])

# Every function of a spectrum, as a function of (sigma, m, k).
OF_SPECTRUM: dict[str, Callable[..., Any]] = {
    "lplr_bound": lambda s, m=5, k=None: bounds.lplr_bound(s, SHAPE, m, 0.1, k=k),
    "lplr_theorem_3_2": lambda s, m=5, k=1: bounds.lplr_theorem_3_2(s, m, k, 0.1),
    "lplr_bits": lambda s, m=5, k=1: bounds.lplr_bits(s, SHAPE, m, k, 0.1, 1.0),
    "range_finder": lambda s, m=5, k=None: bounds.range_finder_bound(s, m, k=k),
    "spectral": lambda s, m=5, k=None: bounds.range_finder_spectral_bound(s, m, k=k),
    "lplr_best_k": lambda s, m=5: bounds.lplr_best_k(s, SHAPE, m, 0.1),
    "lplr_sharp_bound": lambda s, m=5: bounds.lplr_sharp_bound(s, SHAPE, m, 0.1),
    "lplr_nested_bound": lambda s, m=5: bounds.lplr_nested_bound(s, SHAPE, m, 0.1),
    "feedback_lplr_bound": lambda s, m=5: bounds.feedback_lplr_bound(s, SHAPE, m, 0.1),
    "pivot_bounds": lambda s, m=5: bounds.pivot_bounds(s, SHAPE, m, 0.1),
    "solution_range": lambda s, m=5: bounds.solution_range(s, SHAPE, m, 0.1, 0.1),
    "direct_svd_bound": lambda s, m=2: bounds.direct_svd_bound(s, SHAPE, m, 0.1),
    "lplr_svd_bound": lambda s, m=2: bounds.lplr_svd_bound(s, SHAPE, m, 0.1),
}
WITH_K = ("lplr_bound", "lplr_theorem_3_2", "lplr_bits", "range_finder", "spectral")


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        ([1.0, -1.0], "not negative"),
        ([1.0, 2.0], "descending"),
        ([np.nan, 1.0], "finite"),
        ([np.inf, 1.0], "finite"),
        ([1e200, 1.0], "at most"),
        ([5.0, 4, 3, 2, 1], "at most 4, found 5"),
        ([], "real numbers"),
        (["a"], "real numbers"),
        ([1j], "real numbers"),
        ([True], "real numbers"),
        ([[1.0], [1.0, 2.0]], "not an array"),
        (None, "real numbers"),
    ],
)
def test_spectrum(sigma: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^singular_values: .*{message}"):
        bounds.lplr_bound(sigma, SHAPE, 5, 0.1)


@pytest.mark.parametrize("name", OF_SPECTRUM)
def test_every_function_of_a_spectrum_has_the_gates(name: str) -> None:
    function = OF_SPECTRUM[name]
    function(SIGMA)
    with pytest.raises(InputError, match="^singular_values: .*descending"):
        function([1.0, 2.0])
    for m in (0, "3"):
        with pytest.raises(InputError, match="^m: "):
            function(SIGMA, m)


@pytest.mark.parametrize("name", WITH_K)
def test_sketch_must_exceed_the_rank_by_two(name: str) -> None:
    function = OF_SPECTRUM[name]
    function(SIGMA, 4, 2)
    with pytest.raises(InputError, match=r"^m: the bound assumes m >= k \+ 2, found m=3 and k=2"):
        function(SIGMA, 3, 2)
    with pytest.raises(InputError, match="^k: the bound assumes k <= rank of A, found k=4 and ran"):
        function(SIGMA, 9, 4)
    with pytest.raises(InputError, match="^k: "):
        function(SIGMA, 5, -1)


@pytest.mark.parametrize("shape", [3, (3,), (3, 0), (3, 2.5), "33", (3, np.nan), None])
def test_shape(shape: Any) -> None:
    with pytest.raises(InputError, match="^shape: "):
        bounds.naive_bound(shape, 0.1)


@pytest.mark.parametrize("steps", [-1, np.nan, np.inf, "a", (0.1, -1), (1, 2, 3), None])
def test_steps(steps: Any) -> None:
    with pytest.raises(InputError, match="^steps: "):
        bounds.lplr_bound(SIGMA, SHAPE, 2, steps)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bounds.uniform_step(0, 1.0), "bits"),
        (lambda: bounds.uniform_step(2, 0.0), "dynamic_range"),
        (lambda: bounds.dithered_moments([[1.0]], 0.0), "step"),
        (lambda: bounds.dithered_moments([[np.nan]], 1.0), "values"),
        (lambda: bounds.dithered_moments([1.0], 1.0, offset=np.inf), "offset"),
        (lambda: bounds.dithered_moments([1.0, 2.0], np.ones(3)), "step: values, step and offset"),
        (lambda: bounds.dithered_variance_bound(-1.0), "step"),
        (lambda: bounds.nearest_error_bound(np.nan), "step"),
        (lambda: bounds.nearest_high_rate_error(np.inf), "step"),
        (lambda: bounds.naive_bound(SHAPE, -1.0), "step"),
        (lambda: bounds.lplr_best_k(SIGMA, SHAPE, 5, -1.0), "steps"),
        (lambda: bounds.pivot_bounds(SIGMA, SHAPE, 5, np.nan), "steps"),
        (lambda: bounds.direct_svd_bound(SIGMA, SHAPE, 5, 0.1), "m"),
        (lambda: bounds.direct_svd_bound(SIGMA, SHAPE, 2, -0.1), "steps"),
        (lambda: bounds.lplr_theorem_3_2(SIGMA, 5, 1, -0.1), "epsilon"),
        (lambda: bounds.lplr_bits(SIGMA, SHAPE, 5, 1, 0.0, 1.0), "epsilon"),
        (lambda: bounds.lplr_bits(SIGMA, SHAPE, 5, 1, 0.1, (1.0, -1.0)), "ranges"),
        (lambda: bounds.range_finder_bound(SIGMA, 5, n_power_iter=-1), "n_power_iter"),
        (lambda: bounds.range_finder_spectral_bound(SIGMA, 5, n_power_iter=-1), "n_power_iter"),
        (lambda: bounds.range_finder_spectral_bound(SIGMA, 5, k=1), "k"),
        (lambda: bounds.sketch_range([-1.0], 2, 0.1), "row_norms"),
        (lambda: bounds.sketch_range([1.0], 0, 0.1), "m"),
        (lambda: bounds.sketch_range([1.0], 2, 1.0), "failure_probability"),
        (lambda: bounds.solution_range(SIGMA, SHAPE, 2, 0.1, 0.0), "failure_probability"),
        (lambda: bounds.solution_range(SIGMA, SHAPE, 2, -0.1, 0.1), "step"),
        (lambda: bounds.solution_range(SIGMA, SHAPE, 2, 0.1, 0.1, column_norm=0.0), "column_norm"),
        (lambda: bounds.ldlq_range([[np.nan]], [[1.0]], 2), "W"),
        (lambda: bounds.ldlq_range([[1.0]], [[1.0]], 0), "bits"),
        (lambda: bounds.ldlq_range([[1.0]], [[1.0]], 2, 2.0), "failure_probability"),
        (lambda: bounds.ldlq_range([[1.0]], np.eye(2), 2), "hessian"),
        (lambda: bounds.pilot_range([1.0, 2.0], 0.1), "largest"),
        (lambda: bounds.pilot_range([1.0, -2.0], 0.5), "largest"),
        (lambda: bounds.saturated_entries([[1.0]], 0.0), "dynamic_range"),
        (lambda: bounds.ldl_pivots(H, order="random"), "order"),
        (lambda: bounds.ldl_pivots(None), "hessian"),
        (lambda: bounds.ldlq_loss([[1.0]], H), "rounding_errors"),
        (lambda: bounds.ldlq_loss([[np.nan, 0.0]], H), "rounding_errors"),
        (lambda: bounds.two_sided_loss([[1.0, 1.0]], H, H), "rounding_errors"),
        (lambda: bounds.two_sided_expected_loss(H, H, -0.1), "variance"),
        (lambda: bounds.two_sided_bound(H, H, -1.0), "step"),
        (lambda: bounds.ldlq_expected_loss(H, 0, 0.1), "n"),
        (lambda: bounds.ldlq_expected_loss(H, 1, -0.1), "variance"),
        (lambda: bounds.rounding_expected_loss(H, 1, np.nan), "variance"),
        (lambda: bounds.rounding_worst_loss(H, 1, -1.0), "step"),
        (lambda: bounds.rank_constrained_optimum([[np.inf]], [[1.0]], 1), "A"),
        (lambda: bounds.rank_constrained_optimum(np.ones((2, 3)), np.ones(2), 1), "hessian"),
        (lambda: bounds.rank_constrained_optimum(np.ones((2, 3)), np.eye(3), 3), "k"),
        (lambda: bounds.caldera_theorem_4_1(H, 3, 3, 2, 1.0), "k"),
        (lambda: bounds.caldera_theorem_4_1(H, 3, 1, 0, 1.0), "bits"),
        (lambda: bounds.caldera_theorem_4_1(H, 0, 1, 2, 1.0), "n"),
        (lambda: bounds.caldera_theorem_4_1(H, 3, 1, 2, 1.0, -1.0), "epsilon"),
        (lambda: bounds.caldera_pivot_bound(H, 3, 3, 2, 1.0), "k"),
        (lambda: bounds.caldera_theorem_4_1_spectral(np.ones((3, 2)), np.eye(3), 1), "rounding_e"),
        (lambda: bounds.caldera_theorem_4_1_spectral(np.ones((3, 2)), H, 3), "k"),
    ],
)
def test_refusals(call: Callable[[], Any], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}"):
        call()


OF_HESSIAN: dict[str, Callable[[Any], Any]] = {
    "ldl_pivots": bounds.ldl_pivots,
    "ldlq_loss": lambda H: bounds.ldlq_loss(np.ones((1, 2)), H),
    "ldlq_expected_loss": lambda H: bounds.ldlq_expected_loss(H, 1, 1.0),
    "ldlq_ratio": bounds.ldlq_ratio,
    "ldlq_range": lambda H: bounds.ldlq_range(np.ones((1, 2)), H, 2),
    "caldera_theorem_4_1": lambda H: bounds.caldera_theorem_4_1(H, 2, 1, 2, 1.0),
    "spectral": lambda H: bounds.caldera_theorem_4_1_spectral(np.ones((2, 2)), H, 1),
    "pivot": lambda H: bounds.caldera_pivot_bound(H, 2, 1, 2, 1.0),
    "rounding_expected_loss": lambda H: bounds.rounding_expected_loss(H, 1, 1.0),
    "rounding_worst_loss": lambda H: bounds.rounding_worst_loss(H, 1, 1.0),
    "optimum": lambda H: bounds.rank_constrained_optimum(np.ones((2, 2)), H, 1),
    "two_sided_loss": lambda H: bounds.two_sided_loss(np.ones((2, 2)), H, [1.0, 2.0]),
    "two_sided_expected_loss": lambda H: bounds.two_sided_expected_loss(H, [1.0, 2.0], 1.0),
    "two_sided_bound": lambda H: bounds.two_sided_bound(H, [1.0, 2.0], 1.0),
    "incoherent_pivot_bound": bounds.incoherent_pivot_bound,
}
SEMIDEFINITE = (
    *("rounding_expected_loss", "rounding_worst_loss", "optimum"),
    *("two_sided_bound", "incoherent_pivot_bound"),
)


@pytest.mark.parametrize("name", OF_HESSIAN)
def test_every_function_of_a_hessian_has_the_gate(name: str) -> None:
    function = OF_HESSIAN[name]
    # The forms that compress takes: a second moment, its diagonal, calibration inputs.
    np.testing.assert_allclose(function(np.array([2.0, 3.0])), function(np.diag([2.0, 3.0])))
    inputs = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    np.testing.assert_allclose(function(inputs), function(inputs.T @ inputs / 3))
    with pytest.raises(HessianError, match="^hessian: "):
        function([[1.0, 0.5], [0.0, 1.0]])
    singular = np.ones((2, 2))
    if name in SEMIDEFINITE:
        assert function(singular) >= 0
    else:
        with pytest.raises(HessianError, match="^hessian: is assumed positive definite"):
            function(singular)
    with pytest.raises(HessianError, match="^hessian: has eigenvalues below"):
        function([[1.0, 2.0], [2.0, 1.0]])


def test_an_output_hessian_has_the_gate_and_its_own_name() -> None:
    for function in (
        lambda G: bounds.two_sided_loss(np.ones((2, 3)), np.ones(3), G),
        lambda G: bounds.two_sided_expected_loss(np.ones(3), G, 1.0),
        lambda G: bounds.two_sided_bound(np.ones(3), G, 1.0),
    ):
        np.testing.assert_allclose(function([2.0, 3.0]), function(np.diag([2.0, 3.0])))
        for bad in ([[1.0, 0.5], [0.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]], np.zeros(2)):
            with pytest.raises(HessianError, match="^output_hessian: "):
                function(bad)
        with pytest.raises(InputError, match="^output_hessian: "):
            function([np.nan, 1.0])
    with pytest.raises(HessianError, match="^output_hessian: is assumed positive definite"):
        bounds.two_sided_expected_loss(np.ones(3), np.ones((2, 2)), 1.0)


# --- the gate that takes matrices and arrays -------------------------------------------------

A = np.diag(SIGMA)[:, ::-1]


@pytest.mark.parametrize("name", OF_SPECTRUM)
def test_every_function_of_a_spectrum_takes_the_matrix(name: str) -> None:
    tall = np.vstack([A, np.zeros((2, 4))])  # of the shape SHAPE
    np.testing.assert_allclose(OF_SPECTRUM[name](tall), OF_SPECTRUM[name](SIGMA), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(set(OF_SPECTRUM) - {"pivot_bounds"}))
def test_every_function_of_a_spectrum_takes_arrays(name: str) -> None:
    function, m = OF_SPECTRUM[name], (3, 4)
    found = function(SIGMA, np.reshape(m, (2, 1)))
    columns = found if isinstance(found, tuple) else (found,)
    singly = np.reshape([function(SIGMA, value) for value in m], (2, -1)).T
    for column, expected in zip(columns, singly, strict=True):
        assert column.shape == (2, 1)
        np.testing.assert_array_equal(column[:, 0], expected)


def test_a_bound_says_how_far_it_is() -> None:
    seen: list[float] = []
    bounds.feedback_lplr_bound(SIGMA, SHAPE, [5, 6], 0.1, progress=lambda s, _: seen.append(s))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 1)
    assert len(seen) > 10


def test_arrays_are_broadcast() -> None:
    grid = bounds.lplr_bound(SIGMA, (np.array([[6], [9]]), 4), 5, (np.array([0.1, 0.2, 0.3]), 0))
    assert grid.shape == (2, 3)
    for i, n in enumerate((6, 9)):
        for j, step in enumerate((0.1, 0.2, 0.3)):
            assert grid[i, j] == bounds.lplr_bound(SIGMA, (n, 4), 5, (step, 0))
    # A pair is for L and R; an array is for both, whatever its length.
    pair, array = ((0.1, 0.2), np.array([0.1, 0.2]))
    assert np.ndim(bounds.lplr_bound(SIGMA, SHAPE, 5, pair)) == 0
    assert bounds.lplr_bound(SIGMA, SHAPE, 5, array).shape == (2,)
    # Every other number, too: of a Hessian, of a quantizer, of a range.
    assert bounds.caldera_pivot_bound(H, 3, 1, range(1, 5), 1.0).shape == (4,)
    assert bounds.ldlq_expected_loss(H, 3, np.ones((2, 2))).shape == (2, 2)
    assert bounds.pivot_bounds(SIGMA, SHAPE, 5, [0.1, 0.2]).shape == (2, 5)
    assert bounds.sketch_range(np.ones(3), 5, [0.1, 0.2]).shape == (2,)
    np.testing.assert_array_equal(gaussian_limit([1, 2]), [1 / 4, 1 / 16])
    first, second = rate_distortion_limit(A, bits_per_entry=[1, 2])
    assert first > second == rate_distortion_limit(SIGMA, A.shape, 2)


def test_a_matrix_has_its_own_shape_and_row_norms() -> None:
    given = bounds.lplr_bound(SIGMA, (4, 4), 5, 0.1)
    for shape in ({}, {"shape": (4, 4)}, {"shape": A}):
        assert bounds.lplr_bound(A, m=5, steps=0.1, **shape) == pytest.approx(given, rel=1e-12)
    assert bounds.naive_bound(A, 2) == 16
    assert bounds.sketch_range(A, 5, 0.1) == bounds.sketch_range([1.0, 2.0, 0.0, 3.0], 5, 0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.lplr_bound(A, 5, 0.1), r"shape: the matrix has \(4, 4\), found 5"),
        (lambda: bounds.lplr_bound(A, (6, 4), 5, 0.1), "shape: the matrix has"),
        (lambda: bounds.lplr_bound(A * np.nan, m=5, steps=0.1), "singular_values: has nan"),
        (lambda: bounds.uniform_step([1, 2], [1.0, 2.0, 3.0]), "bits, dynamic_range: arrays of"),
        (lambda: bounds.uniform_step([], 1.0), "bits: is an empty array"),
        (lambda: bounds.uniform_step([1, 60], 1.0), "bits: must be from 1 to 52, found 60"),
        (lambda: bounds.uniform_step([1.5], 1.0), "bits: must be an integer"),
        (lambda: bounds.pivot_bounds(A, m=[3, 4], step=0.1), "m: results of different lengths"),
    ],
)
def test_refusals_of_the_gate(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        call()
    with pytest.raises(TypeError, match="multiple values for argument 'shape'"):
        bounds.lplr_bound(A, SHAPE, shape=SHAPE)


def test_too_few_calibration_inputs() -> None:
    with (
        pytest.warns(DampingWarning),
        pytest.raises(HessianError, match="^hessian: is assumed positive definite"),
    ):
        bounds.ldl_pivots(np.ones((2, 3)))


def test_zero_matrix() -> None:
    # Rank 0: k = 0 only, and the noise alone contributes.
    zero = [0.0, 0.0]
    assert bounds.lplr_bound(zero, (3, 2), 4, 0) == 0
    assert bounds.lplr_best_k(zero, (3, 2), 4, 1) == 0
    # d step'^2/4 n m step^2/4 remains: R is rounded although it is multiplied by noise only.
    for function in (bounds.lplr_bound, bounds.lplr_sharp_bound, bounds.feedback_lplr_bound):
        assert function(zero, (3, 2), 4, (2, 2)) == 2 * 3 * 4
    assert bounds.range_finder_bound(zero, 4) == 0
    assert bounds.range_finder_spectral_bound(zero, 4) == 0
    assert bounds.rank_constrained_optimum(np.zeros((2, 2)), np.eye(2), 1) == 0


def test_callers_arrays_are_not_changed() -> None:
    sigma, hessian = np.array([3.0, 2.0]), H.copy()
    for array in (sigma, hessian):
        array.setflags(write=False)
    bounds.feedback_lplr_bound(sigma, (3, 3), 4, 0.1)
    bounds.ldl_pivots(hessian, order="min-pivot")
    bounds.rank_constrained_optimum(hessian, hessian, 1)
