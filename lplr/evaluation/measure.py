"""Everything that `lplr bench` measures on one compressed matrix."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lplr.evaluation.cases import Case
from lplr.exceptions import LplrError
from lplr.matrices.base import Artefact

__all__ = ["Measurement", "Meter", "search_engine"]

_RECALL = 10


@dataclass(frozen=True)
class Measurement:
    """One value, or the reason why there is none.

    Parameters
    ----------
    metric : str
    value : float or None
    protocol : str or None
    note : str or None
    """

    metric: str
    value: float | None
    protocol: str | None = None
    note: str | None = None


def search_engine() -> str:
    """Who looks for neighbours: faiss where it is installed, since it is the quickest.

    Returns
    -------
    str

    Examples
    --------
    >>> from lplr.evaluation.measure import search_engine
    >>> search_engine() in ("faiss", "factors")
    True
    """
    return "faiss" if importlib.util.find_spec("faiss") else "factors"


class Meter:
    """Measures results on one case; what depends on the original alone is calculated once.

    Parameters
    ----------
    case : Case

    Examples
    --------
    >>> import lplr
    >>> from lplr.evaluation.cases import load_suite
    >>> from lplr.evaluation.measure import Meter
    >>> case = load_suite("image", quick=True)[0]
    >>> found = Meter(case).measure(lplr.quantize(case.A, bits=8))
    >>> [(m.metric, m.value is not None) for m in found][:2]
    [('relative error', True), ('psnr', True)]
    """

    def __init__(self, case: Case) -> None:
        self.case = case

    def measure(self, f: Artefact) -> list[Measurement]:
        """All that the case asks for.

        Parameters
        ----------
        f : Artefact of the shape of the case

        Returns
        -------
        list of Measurement
        """
        return list(self._measure(f))

    def reference(self) -> list[Measurement]:
        """What the uncompressed matrix is good for; nothing where there are no queries.

        Returns
        -------
        list of Measurement
        """
        return self._neighbours(self.case.A) if self.case.queries is not None else []

    def limit(self, bits_per_entry: float) -> float:
        """The rate-distortion limit for the spectrum of the matrix.

        Parameters
        ----------
        bits_per_entry : float

        Returns
        -------
        float
        """
        from lplr.theory import rate_distortion_limit

        return rate_distortion_limit(self._spectrum, self.case.A.shape, bits_per_entry)

    def _measure(self, f: Artefact) -> Iterator[Measurement]:
        from lplr.evaluation import errors

        case = self.case
        yield Measurement("relative error", f.relative_error(case.A))
        if case.hessian is not None:
            under_h = errors.hessian_error(case.A, f, case.hessian)
            yield Measurement("relative error under H", under_h)
        if case.is_image:
            yield _tried("psnr", errors.psnr, case.A, f, peak=1.0)
            yield _tried("ssim", errors.ssim, case.A, f, peak=1.0)
        if case.queries is not None:
            yield from self._neighbours(f)
            if case.queries.metric == "cosine":
                yield _tried("cosine distortion", errors.cosine_distortion, case.A, f)

    def _neighbours(self, database: Any) -> list[Measurement]:
        from lplr.evaluation.knn import PROTOCOLS, recall, vote
        from lplr.evaluation.neighbours import Neighbours, nearest

        q = self.case.queries
        assert q is not None
        names = ("accuracy", f"recall@{_RECALL}")
        try:
            found = nearest(
                database, q.X, max(q.k, _RECALL), metric=q.metric, engine=search_engine()
            )
        except LplrError as error:  # a row that is stored as zero has no direction
            return [Measurement(name, None, PROTOCOLS[0], str(error)) for name in names]

        def first(k: int) -> Neighbours:
            return Neighbours(found.distances[:, :k], found.indices[:, :k])

        if database is self.case.A:
            self._expected = first(_RECALL)
        accuracy = float(np.mean(vote(first(q.k), q.labels) == q.truth))
        shared = recall(first(_RECALL), self._expected)
        return [
            Measurement(name, value, PROTOCOLS[0])
            for name, value in zip(names, (accuracy, shared), strict=True)
        ]

    @cached_property
    def _expected(self) -> Any:
        """Nearest rows of the original."""
        from lplr.evaluation.neighbours import nearest

        q = self.case.queries
        assert q is not None
        return nearest(self.case.A, q.X, _RECALL, metric=q.metric, engine=search_engine())

    @cached_property
    def _spectrum(self) -> np.ndarray:
        from lplr.evaluation.spectrum import singular_values

        return singular_values(self.case.A)


def _tried(name: str, function: Any, *args: Any, **options: Any) -> Measurement:
    """A metric that may not exist for a result, or need a package that is not there."""
    try:
        return Measurement(name, function(*args, **options))
    except LplrError as error:
        return Measurement(name, None, note=str(error))
