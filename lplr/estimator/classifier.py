"""The scikit-learn classifier: nearest neighbours among compressed rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from lplr.algorithms.compress import compress
from lplr.estimator.data import refusing
from lplr.estimator.model import Model, rng_of
from lplr.matrices.base import PackedMatrix
from lplr.neighbours.search import search
from lplr.neighbours.vote import class_shares
from lplr.sources import loaded
from lplr.validation.arguments import check_choice, check_integer
from lplr.validation.matrices import check_matrix

__all__ = ["KNeighborsClassifier"]

_DTYPES = [np.float64, np.float32]
_ENTRIES = 1 << 22  # of training rows that are queries, decoded at a time
_BITS, _LEAST_NBYTES = 4.0, 32  # the default; a few entries need more for their scales


class KNeighborsClassifier(ClassifierMixin, Model):
    """Nearest neighbours among training rows that are stored in few bits.

    ``fit`` compresses the rows with `lplr.compress`, or takes a packed matrix as it is, such as one
    in parts; queries are not compressed. Used like `sklearn.neighbors.KNeighborsClassifier`, with a
    fraction of its memory.

    Parameters
    ----------
    n_neighbors : int
        How many rows vote.
    bits_per_entry : float, optional
        Stored bits over n_samples * n_features. By default 4, and 32 bytes in all where that is
        less.
    weights : {"uniform", "distance"}
        Whether each neighbour counts the same, or the inverse of its distance; where some are at
        distance 0, they alone count.
    metric : {"euclidean", "cosine"}
    effort : {"fast", "default", "best"}
        As in `lplr.compress`.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        An int makes ``fit`` reproducible; the global NumPy state is neither read nor changed.
    verbose : bool
        Whether ``fit`` shows how far it is, as ``progress=True`` does elsewhere.

    Attributes
    ----------
    rows_ : packed matrix of shape (n_samples, n_features)
        The training rows, compressed.
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    n_samples_fit_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has feature names that are all strings.

    Raises
    ------
    InputError
        By ``fit``, if a parameter or X is outside what is offered; it is a ValueError.

    See Also
    --------
    lplr.search : the search alone.

    Notes
    -----
    A compressed row is not quite the row that it stands for, so that a training row is at a small
    distance from itself. `lplr.save` and `lplr.load` store a fitted model without pickle.

    Examples
    --------
    >>> import lplr
    >>> X, y, _ = lplr.datasets.text_embeddings()
    >>> model = lplr.KNeighborsClassifier(11, bits_per_entry=2, metric="cosine", random_state=0)
    >>> model.fit(X[:3379], y[:3379]).score(X[3379:], y[3379:]) > 0.66
    True
    >>> model.rows_.nbytes < X[:3379].nbytes / 15
    True
    """

    encoding: ClassVar[tuple[str, int]] = ("k-neighbors-classifier", 1)
    _fitted: ClassVar[Mapping[str, type | tuple[type, ...]]] = {
        "rows_": PackedMatrix,
        "classes_": np.ndarray,
        "_labels": np.ndarray,
    }

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        bits_per_entry: float | None = None,
        weights: str = "uniform",
        metric: str = "euclidean",
        effort: str = "default",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.bits_per_entry = bits_per_entry
        self.weights = weights
        self.metric = metric
        self.effort = effort
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Compress the training rows and keep their labels.

        Parameters
        ----------
        X : array_like or packed matrix of shape (n_samples, n_features)
            A packed matrix, in memory or in parts, is taken as it is.
        y : array_like of shape (n_samples,)
            Labels: numbers or text.

        Returns
        -------
        KNeighborsClassifier
            The classifier itself.

        Raises
        ------
        InputError
            If a parameter or X is outside what is offered.
        """
        packed = isinstance(X, PackedMatrix)
        with refusing("X, y"):
            if packed:
                y = check_array(y, ensure_2d=False, dtype=None)
                check_consistent_length(X, y)
                self.n_features_in_ = X.shape[1]
                self.__dict__.pop("feature_names_in_", None)
            else:
                X, y = validate_data(self, loaded(X, "X"), y, dtype=_DTYPES)
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
        check_integer(self.n_neighbors, "n_neighbors", 1)
        check_choice(self.weights, "weights", ("uniform", "distance"))
        check_choice(self.metric, "metric", ("euclidean", "cosine"))
        self.rows_ = X if packed else self._compressed(X)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._labels = labels.astype(np.min_scalar_type(len(self.classes_) - 1))
        return self

    def _compressed(self, X: np.ndarray) -> PackedMatrix:
        bits = self.bits_per_entry
        if bits is None:
            bits = max(_BITS, 8 * _LEAST_NBYTES / X.size)
        return compress(
            check_matrix(X, "X"),
            bits_per_entry=bits,
            effort=self.effort,
            rng=rng_of(self.random_state),
            progress=bool(self.verbose),
        )

    @property
    def n_samples_fit_(self) -> int:
        """Number of training rows."""
        check_is_fitted(self, "rows_")
        return int(self.rows_.shape[0])

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """The nearest training rows of each query, nearest first.

        Parameters
        ----------
        X : array_like of shape (n_queries, n_features), optional
            By default the training rows, as they are stored; none is its own neighbour.
        n_neighbors : int, optional
            By default that of the constructor.
        return_distance : bool

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), float64
            Unless ``return_distance`` is False.
        indices : ndarray of shape (n_queries, n_neighbors), int64

        Raises
        ------
        InputError
            If there are not so many rows.
        """
        check_is_fitted(self)
        wanted = self.n_neighbors if n_neighbors is None else n_neighbors
        own = X is None
        k = check_integer(wanted, "n_neighbors", 1, self.n_samples_fit_ - own)
        if own:
            distances, indices = self._own_neighbors(k)
        else:
            with refusing("X"):
                queries = validate_data(self, loaded(X, "X"), dtype=_DTYPES, reset=False)
            distances, indices = search(self.rows_, queries, k, metric=self.metric)
        return (distances, indices) if return_distance else indices

    def _own_neighbors(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Those of the training rows, a block of these at a time."""
        n, d = self.rows_.shape
        distances, indices = np.empty((n, k)), np.empty((n, k), np.int64)
        step = max(1, _ENTRIES // d)
        for start in range(0, n, step):
            rows = np.arange(start, min(start + step, n))
            queries = self.rows_.rows(start, start + len(rows))
            found = search(self.rows_, queries, k + 1, metric=self.metric)
            others = found.indices != rows[:, None]
            others[others.all(axis=1), -1] = False  # a twin came first: the last one goes
            for out, all_of in zip((distances, indices), found, strict=True):
                out[rows] = all_of[others].reshape(-1, k)
        return distances, indices

    def predict(self, X: Any) -> np.ndarray:
        """The class of most votes; of equally many the first in `classes_`.

        Parameters
        ----------
        X : array_like of shape (n_queries, n_features)

        Returns
        -------
        ndarray of shape (n_queries,)
        """
        shares = self.predict_proba(X)
        return np.asarray(self.classes_[shares.argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The share of the votes that each class has.

        Parameters
        ----------
        X : array_like of shape (n_queries, n_features)

        Returns
        -------
        ndarray of shape (n_queries, n_classes), float64
        """
        distances, indices = self.kneighbors(X)
        weights = _inverse(distances) if self.weights == "distance" else None
        return class_shares(self._labels[indices], len(self.classes_), weights)

    def _check_fitted(self) -> None:
        n, classes = self.n_samples_fit_, len(self.classes_)
        labels = self._labels
        if self.rows_.shape[1] != self.n_features_in_ or labels.shape != (n,):
            raise ValueError("rows, labels and features do not fit each other")
        if labels.dtype.kind != "u" or self.classes_.ndim != 1 or labels.max() >= classes:
            raise ValueError("a label is none of the classes")


def _inverse(distances: np.ndarray) -> np.ndarray:
    """Weights of neighbours; those at distance 0 alone count where there are any."""
    exact = distances == 0
    with np.errstate(divide="ignore"):
        return np.where(exact.any(axis=1, keepdims=True), exact, 1 / distances)
