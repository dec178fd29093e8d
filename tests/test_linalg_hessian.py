"""Hessians: what is taken for one, what is refused and why, and what is added to it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers import hessian_of_spectrum

import lplr
from lplr.exceptions import DampingWarning, HessianError, InputError
from lplr.linalg.hessian import DAMPING_STEPS, check_hessian, regularize

D = 40


def moment(rng: int = 0, rows: int = 3 * D) -> np.ndarray:
    X = np.random.default_rng(rng).standard_normal((rows, D))
    return X.T @ X / rows


# --- what stands for a Hessian ---------------------------------------------------------------


def test_second_moment_diagonal_inputs_or_nothing() -> None:
    rng = np.random.default_rng(0)
    X, h = rng.standard_normal((100, D)), rng.uniform(0, 2, D)
    np.testing.assert_array_equal(check_hessian(h, D), h)
    np.testing.assert_allclose(check_hessian(X, D), X.T @ X / 100, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(check_hessian(moment(), D), moment())
    assert check_hessian(list(h), D).dtype == np.float64
    # One column: a vector of length 1 is the diagonal, a column of inputs is inputs.
    assert check_hessian([2.0], 1) == 2
    assert check_hessian([[1.0], [3.0]], 1) == 5


@pytest.mark.parametrize(
    "make",
    [
        lambda H: (8 * H).astype(np.float16),
        lambda H: H.astype(np.float32),
        lambda H: np.round(100 * H).astype(np.int16),
        lambda H: np.round(100 * (H + 9)).astype(np.uint8),
        lambda H: np.abs(H) > 0.5,
        lambda H: H.astype(">f8"),
        lambda H: np.asfortranarray(H),
        lambda H: np.repeat(np.repeat(H, 2, axis=0), 2, axis=1)[::2, ::2],
        lambda H: H[::-1, ::-1],
        lambda H: H.tolist(),
    ],
)
def test_any_real_dtype_and_layout(make) -> None:
    given = make(moment())
    H = check_hessian(given, D)
    np.testing.assert_array_equal(H, np.array(given, np.float64))
    assert H.dtype == np.float64
    assert H.flags.c_contiguous


def test_almost_symmetric_is_made_symmetric() -> None:
    H = moment()
    noise = np.triu(np.random.default_rng(1).standard_normal(H.shape), 1)
    noise *= 0.9e-5 * np.linalg.norm(H) / np.linalg.norm(noise - noise.T)
    found = check_hessian(H + noise, D)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, H + (noise + noise.T) / 2, rtol=0, atol=1e-15)
    with pytest.raises(HessianError, match="not symmetric"):
        check_hessian(H + 1.3 * noise, D)


def test_as_many_inputs_as_columns_are_no_moment() -> None:
    """A square array is a second moment; the message says what to do about inputs."""
    X = np.random.default_rng(0).standard_normal((D, D))
    with pytest.raises(HessianError, match=r"hessian: .*not symmetric.*more or fewer rows"):
        check_hessian(X, D)


def test_the_callers_array_is_not_touched() -> None:
    for given in (moment(), np.ones(D), np.ones((3, D)) + np.eye(3, D)):
        before = given.copy()
        given.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DampingWarning)
            regularize(given, columns=D)
        np.testing.assert_array_equal(given, before)


# --- refusals --------------------------------------------------------------------------------


def spoiled(value: float) -> np.ndarray:
    H = moment()
    H[3, 5] = value
    return H


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (spoiled(np.nan), r"has nan at \(3, 5\)"),
        (spoiled(np.inf), r"has inf at \(3, 5\)"),
        (np.r_[np.ones(D - 1), np.nan], "nan"),
        (
            np.ones((D, D - 1)),
            r"must have shape \(40, 40\), \(40,\) or \(m, 40\).*found \(40, 39\)",
        ),
        (np.ones((D + 1, D + 1)), r"found \(41, 41\)"),
        (np.ones(D + 1), "must have 40 entries, found 41"),
        (np.ones((2, D, D)), "dimensions"),
        (np.float64(3.0), "dimensions"),
        (np.ones((0, D)), "empty"),
        (moment() * 1j, "not real"),
        (np.full((D, D), "x"), "not real"),
        (moment() * 1e32, "largest magnitude"),
    ],
)
def test_not_an_array_of_that_shape(hessian, message: str) -> None:
    with pytest.raises(InputError, match=f"^hessian: .*{message}"):
        check_hessian(hessian, D)


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (np.zeros((D, D)), "is zero"),
        (np.zeros(D), "is zero"),
        (np.zeros((50, D)), "is zero"),
        (np.r_[np.ones(D - 1), -1.0], r"entry \(39, 39\) is -1"),
        (moment() - 2 * np.eye(D), r"entry \(\d+, \d+\) is -"),
        (np.triu(moment()), "not symmetric"),
    ],
)
def test_not_a_second_moment(hessian, message: str) -> None:
    with pytest.raises(HessianError, match=f"^hessian: .*{message}"):
        check_hessian(hessian, D)


def test_indefinite_beyond_damping() -> None:
    H = hessian_of_spectrum(np.r_[np.ones(D - 1), -0.3])  # of a mean of 0.97
    assert np.diag(H).min() > 0
    with pytest.raises(HessianError, match="eigenvalues below -0.1"):
        regularize(H, damping=0.01)
    with pytest.raises(HessianError):
        lplr.caldera(np.eye(D), hessian=H, rank=2)


# --- damping ---------------------------------------------------------------------------------


def test_regularized_is_normalized_and_damped() -> None:
    H, used = regularize(7.0 * moment(), damping=0.01)
    assert used == 0.01
    expected = moment() / np.mean(np.diag(moment())) + 0.01 * np.eye(D)
    np.testing.assert_allclose(H, expected, rtol=1e-14, atol=1e-15)
    H, used = regularize(moment(), damping=0.0)
    assert used == 0.0
    assert np.mean(np.diag(H)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("least", [-1e-9, -1e-7, -1e-5, -1e-3, -0.05])
def test_the_first_sufficient_step_is_taken_and_told(least: float) -> None:
    H = hessian_of_spectrum(np.r_[np.ones(D - 1), least * (D - 1) / (D - least)])
    expected = next(step for step in DAMPING_STEPS if step > -least)
    with pytest.warns(DampingWarning, match=f"not positive definite; added {expected:g}") as told:
        damped, used = regularize(H, damping=0.0)
    assert len(told) == 1
    assert used == expected
    # The margin for rounding that is asked for.
    assert np.linalg.eigvalsh(damped)[0] > 0.9e-9


def test_steps_below_the_asked_damping_are_skipped() -> None:
    H = hessian_of_spectrum(np.r_[np.ones(D - 1), -0.02])
    with pytest.warns(DampingWarning, match="added 0.1 "):
        assert regularize(H, damping=0.015)[1] == 0.1


def test_few_inputs_are_told_once_and_damped() -> None:
    X = np.random.default_rng(0).standard_normal((7, D))
    with pytest.warns(DampingWarning, match="7 calibration inputs for 40 columns") as told:
        g = lplr.caldera(np.eye(D), hessian=X, rank=3, rng=0)
    assert len(told) == 1
    assert told[0].filename == __file__  # where the caller can do something about it
    assert g.meta["damping"] == 0.01
    with pytest.warns(DampingWarning) as told:
        g = lplr.caldera(np.eye(D), hessian=X, rank=3, damping=0, rng=0)
    assert len(told) == 2
    assert g.meta["damping"] == DAMPING_STEPS[0]


# --- any Hessian gives a finite result -------------------------------------------------------

X = np.random.default_rng(5).standard_normal((2 * D, D))
HARD = {
    "rank 1": np.outer(X[0], X[0]),
    "one entry": np.diag(np.arange(D) == 3).astype(float),
    "half seen": hessian_of_spectrum(np.r_[np.ones(D // 2), np.zeros(D // 2)]),
    "dead channels": moment() * np.outer(np.arange(D) % 3 > 0, np.arange(D) % 3 > 0),
    "outlier": moment() + np.diag(1e10 * (np.arange(D) == 3)),
    "log-normal": (X * np.exp(8 * X[0])).T @ (X * np.exp(8 * X[0])),
    "tiny": moment() * 1e-28,
    "huge": moment() * 1e28,
    "negative eigenvalue": hessian_of_spectrum(np.r_[np.ones(D - 1), -0.05]),
    **{f"condition 1e{p}": hessian_of_spectrum(np.geomspace(1, 10.0**-p, D)) for p in (8, 12, 16)},
    **{
        f"gap 1e{p}": hessian_of_spectrum(np.r_[np.ones(20), np.full(20, 10.0**-p)])
        for p in (12, 15)
    },
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("mode", ["default", "faithful"])
def test_hard_hessians(name: str, mode: str) -> None:
    W = np.random.default_rng(6).standard_normal((21, D))
    for rank, damping, incoherence in ((0, 0.01, True), (5, 0.01, False), (5, 0.0, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DampingWarning)
            g = lplr.caldera(
                W, hessian=HARD[name], rank=rank, damping=damping, incoherence=incoherence,
                mode=mode, n_iter=1, rng=0,
            )  # fmt: skip
        assert np.isfinite(g.to_dense()).all()
        errors = [h["error"] for h in g.meta["history"]]
        assert np.isfinite(errors).all()
        # Two bits per entry and more: of the order of a third, far better than nothing.
        assert min(errors) < 0.6
        assert g.meta["damping"] == damping or g.meta["damping"] in DAMPING_STEPS
