"""The tests that scikit-learn has for its TruncatedSVD, with `lplr.LPLR` in its place."""

from __future__ import annotations

from typing import Any

import pytest

import lplr

theirs = pytest.importorskip("sklearn.decomposition.tests.test_truncated_svd")
globals().update({name: test for name, test in vars(theirs).items() if name.startswith("test_")})
X_sparse = theirs.X_sparse

_ROUNDED = "entries of 11 significant bits do not agree to more than three digits"
WHY_NOT = {
    "test_solvers[dense-randomized]": _ROUNDED,
    "test_solvers[sparse-randomized]": _ROUNDED,
    "test_singular_values_expected[arpack]": _ROUNDED,
    "test_singular_values_expected[randomized]": _ROUNDED,
    "test_truncated_svd_eq_pca": _ROUNDED,
    "test_too_many_components[arpack-55]": "only ARPACK cannot have as many components as columns",
}


def as_truncated_svd(
    n_components: int = 2,
    *,
    random_state: Any = None,
    n_iter: int | None = None,
    n_oversamples: int | None = None,
    algorithm: str = "randomized",
    power_iteration_normalizer: str = "auto",
    tol: float = 0.0,
) -> lplr.LPLR:
    """The last three choose a solver, of which there is one here."""
    return lplr.LPLR(
        n_components,
        bits=16,
        n_power_iter=n_iter,
        n_oversamples=n_oversamples,
        random_state=random_state,
    )


@pytest.fixture
def global_random_seed() -> int:
    return 42


@pytest.fixture(autouse=True)
def in_its_place(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(theirs, "TruncatedSVD", as_truncated_svd)
    if reason := WHY_NOT.get(request.node.name):
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
