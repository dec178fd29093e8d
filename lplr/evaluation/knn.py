"""What compression does to nearest neighbours: classification and recall.

The compressed matrix is the database. Queries are compared with it as they are, or after the
fitted transformer has projected them; `PROTOCOLS` names the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lplr.evaluation.engines import search_by
from lplr.exceptions import InputError
from lplr.neighbours.search import Neighbours, search
from lplr.neighbours.vote import class_shares
from lplr.progress import Progress, tracked, until
from lplr.validation.matrices import check_matrix

__all__ = [
    "FORMULAS",
    "PROTOCOLS",
    "Evaluation",
    "evaluate",
    "project",
    "recall",
    "shared_share",
    "vote",
]

PROTOCOLS = ("queries uncompressed", "queries projected")

# What stands next to a printed number, by the name of the metric.
FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "share of queries whose label is that of most of the k nearest database rows",
        "recall@k": "mean of |K(B) & K(A)| / k, K the k nearest rows of database B and original A",
    }
)


@dataclass(frozen=True)
class Evaluation:
    """Neighbours found in a database, and what they are worth.

    Parameters
    ----------
    accuracy : float
        As `FORMULAS` says, in [0, 1].
    recall : float or None
        Share of the k nearest neighbours that was found; None without an original.
    k : int
    metric : str
    engine : str
    protocol : str
        One of `PROTOCOLS`.
    neighbours : Neighbours
    """

    accuracy: float
    recall: float | None
    k: int
    metric: str
    engine: str
    protocol: str
    neighbours: Neighbours


def evaluate(
    f: Any,
    labels: Any,
    queries: Any,
    query_labels: Any,
    *,
    k: int = 11,
    metric: str = "cosine",
    engine: str = "lplr",
    transformer: Any = None,
    original: Any = None,
    progress: Progress = False,
) -> Evaluation:
    """Classify queries by their nearest rows in a compressed matrix, the database.

    Parameters
    ----------
    f : array_like, packed matrix or LinearOperator of shape (n, d)
    labels : array_like of shape (n,)
        Classes of the rows of f, at least two.
    queries : array_like of shape (m, d)
        Uncompressed.
    query_labels : array_like of shape (m,)
    k : int
        From 1 to n.
    metric : {"cosine", "euclidean"}
    engine : {"lplr", "scikit-learn", "faiss"}
        Who searches, as in `lplr.evaluation.engines.search_by`.
    transformer : object, optional
        Fitted, with ``transform`` and ``inverse_transform``, such as `lplr.LPLR`: the protocol
        "queries projected". Without it "queries uncompressed".
    original : array_like of shape (n, d) or Neighbours, optional
        The matrix before compression, or its nearest rows for the uncompressed queries, k or
        more for each, by the same metric: then the recall is measured as well.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If an argument is outside what is offered, labels and rows differ in number, there is one
        class only, or a row is zero and the metric is the cosine.
    MissingPackageError
        If faiss is asked for and not installed.

    Notes
    -----
    For ``f = model.factors_`` of an `lplr.LPLR` model without a shift the two protocols
    find the same neighbours: what projection onto the row space of R takes from a query is
    orthogonal to all rows of L R, so that it adds the same to the square of every distance, and
    divides every cosine by the same.

    Examples
    --------
    >>> import lplr
    >>> from lplr.evaluation.knn import evaluate
    >>> x, y, _ = lplr.datasets.text_embeddings()
    >>> found = evaluate(x[:3379], y[:3379], x[3379:], y[3379:], k=11)
    >>> round(found.accuracy, 3), found.protocol
    (0.685, 'queries uncompressed')
    """
    classes, _ = _check_labels(labels, _row_count(f, "f"), "f")
    truth = _check_length(query_labels, "query_labels", _row_count(queries, "queries"), "queries")
    if not np.isin(truth, classes).any():
        raise InputError("query_labels: none of them is among labels; use the same classes")
    asked = queries if transformer is None else project(queries, transformer)
    again = original is not None and not isinstance(original, Neighbours)
    with tracked(progress, "nearest neighbours"):
        with until(0.5 if again else 1.0):
            found = search_by(engine, f, asked, k, metric)
        if again:
            original = search(original, queries, k, metric=metric)
    predicted = vote(found, labels)
    shared = None if original is None else recall(found, original)
    return Evaluation(
        accuracy=float(np.mean(predicted == truth)),
        recall=shared,
        k=found.indices.shape[1],
        metric=metric,
        engine=engine,
        protocol=PROTOCOLS[transformer is not None],
        neighbours=found,
    )


def vote(found: Neighbours, labels: Any) -> np.ndarray:
    """The class of most neighbours, as scikit-learn's ``KNeighborsClassifier`` decides.

    Parameters
    ----------
    found : Neighbours
        The neighbours of m queries; all of them vote.
    labels : array_like of shape (n,)
        Classes of all database rows, at least two.

    Returns
    -------
    ndarray of shape (m,)
        Where classes are equally frequent, the first in sorted order.

    Raises
    ------
    InputError
        If a neighbour has no label, or there is one class only.

    Examples
    --------
    >>> import lplr
    >>> from lplr.evaluation.knn import vote
    >>> found = lplr.search([[0.0], [1.0], [5.0]], [[0.4], [4.0]], k=1)
    >>> vote(found, ["low", "low", "high"])
    array(['low', 'high'], dtype='<U4')
    """
    n = len(np.atleast_1d(labels))
    if found.indices.max() >= n:
        raise InputError(
            f"labels: has {n} entries, and row {found.indices.max()} of the database is a neighbour"
        )
    classes, codes = _check_labels(labels, n, "f")
    return classes[class_shares(codes[found.indices], len(classes)).argmax(axis=1)]


def recall(found: Neighbours, expected: Neighbours) -> float:
    """Share of the expected neighbours that were found, ``mean |found & expected| / k``.

    Parameters
    ----------
    found : Neighbours
        k for each query.
    expected : Neighbours
        Neighbours of the same queries in the original; the first k of each count.

    Returns
    -------
    float
        1 if all were found.

    Raises
    ------
    InputError
        If the queries differ in number, or fewer neighbours were expected than found.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.knn import recall
    >>> from lplr.neighbours.search import Neighbours
    >>> found, expected = np.array([[4, 2]]), np.array([[2, 9]])
    >>> recall(Neighbours(np.zeros((1, 2)), found), Neighbours(np.zeros((1, 2)), expected))
    0.5
    """
    return float(shared_share(found, expected).mean())


def shared_share(found: Neighbours, expected: Neighbours) -> np.ndarray:
    """Of each query, the share of its expected neighbours that was found; see `recall`.

    Parameters
    ----------
    found, expected : Neighbours
        As in `recall`.

    Returns
    -------
    ndarray of shape (m,)
        In [0, 1].

    Raises
    ------
    InputError
        If the queries differ in number, or fewer neighbours were expected than found.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.evaluation.knn import shared_share
    >>> from lplr.neighbours.search import Neighbours
    >>> found, expected = np.array([[4, 2], [1, 0]]), np.array([[2, 9], [0, 1]])
    >>> zeros = np.zeros((2, 2))
    >>> shared_share(Neighbours(zeros, found), Neighbours(zeros, expected)).tolist()
    [0.5, 1.0]
    """
    m, k = found.indices.shape
    if len(expected.indices) != m or expected.indices.shape[1] < k:
        raise InputError(
            f"expected: must have at least {k} neighbours for each of {m} queries, "
            f"found {expected.indices.shape[1]} for {len(expected.indices)}"
        )
    # Sorted together, a row that both have stands twice in a row; neither has a row twice.
    both = np.sort(np.hstack((found.indices, expected.indices[:, :k])), axis=1)
    return (both[:, 1:] == both[:, :-1]).sum(axis=1) / k


def project(queries: Any, transformer: Any) -> np.ndarray:
    """Queries as the fitted transformer represents them, in the original space.

    Parameters
    ----------
    queries : array_like of shape (m, d)
    transformer : object
        Fitted, with ``transform`` and ``inverse_transform``.

    Returns
    -------
    ndarray of shape (m, d)

    Raises
    ------
    InputError
        If the transformer has no such methods.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.evaluation.knn import project
    >>> model = lplr.LPLR(1, bits=8, random_state=0).fit(np.outer(np.arange(1.0, 9), [3, 4]))
    >>> project(np.array([[5.0, 0.0]]), model).round(1)
    array([[1.8, 2.4]])
    """
    for name in ("transform", "inverse_transform"):
        if not callable(getattr(transformer, name, None)):
            raise InputError(f"transformer: has no method {name}; pass a fitted lplr.LPLR")
    return np.asarray(transformer.inverse_transform(transformer.transform(queries)))


def _row_count(matrix: Any, name: str) -> int:
    shape = getattr(matrix, "shape", None)
    return int((shape if shape and len(shape) == 2 else check_matrix(matrix, name).shape)[0])


def _check_length(labels: Any, name: str, rows: int, of: str) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (rows,):
        raise InputError(
            f"{name}: must be one label for each of the {rows} rows of {of}, "
            f"found an array of shape {array.shape}"
        )
    return array


def _check_labels(labels: Any, rows: int, of: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes in sorted order, and the number of each label among them."""
    array = _check_length(labels, "labels", rows, of)
    try:
        classes, codes = np.unique(array, return_inverse=True)
    except TypeError:
        raise InputError("labels: cannot be sorted; give all of them one type") from None
    if len(classes) < 2:
        raise InputError(f"labels: all are {array[0]!r}; classification needs two classes")
    return classes, codes
