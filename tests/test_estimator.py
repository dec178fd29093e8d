"""The scikit-learn transformer."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

import lplr


@parametrize_with_checks([lplr.LPLR()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
