"""Estimators of scikit-learn on compressed matrices."""

from lplr.estimator.classifier import KNeighborsClassifier
from lplr.estimator.transformer import LPLR

__all__ = ["LPLR", "KNeighborsClassifier"]
