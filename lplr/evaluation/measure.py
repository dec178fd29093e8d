"""Everything that `lplr bench` measures on one compressed matrix."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from lplr.evaluation.tasks import Task
from lplr.exceptions import LplrError
from lplr.matrices.base import PackedMatrix

__all__ = ["Evaluator", "search_engine"]

_RECALL = 10

Value = dict[str, Any]  # the columns of a row that say what was measured


def search_engine() -> str:
    """Who looks for neighbours: "faiss" where it is installed, the quickest, else "lplr"."""
    return "faiss" if importlib.util.find_spec("faiss") else "lplr"


class Evaluator:
    """Measures results on one task; what depends on the original alone is calculated once.

    Parameters
    ----------
    task : Task
        Loaded.

    Examples
    --------
    >>> import lplr
    >>> from lplr.evaluation.measure import Evaluator
    >>> from lplr.evaluation.tasks import load_suite
    >>> task = load_suite("image", quick=True)[0]
    >>> found = Evaluator(task).measure(lplr.quantize(task.A, bits=8))
    >>> [(m["metric"], m["status"]) for m in found][:2]
    [('relative error', 'ok'), ('psnr', 'ok')]
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def measure(self, f: PackedMatrix) -> list[Value]:
        """All metrics that the task asks for; where one has no value, the note says why."""
        return list(self._measure(f))

    def uncompressed(self) -> list[Value]:
        """What the original is good for; nothing where there are no queries."""
        return self._neighbours(self.task.A) if self.task.queries is not None else []

    def _measure(self, f: PackedMatrix) -> Iterator[Value]:
        from lplr.evaluation import errors

        task = self.task
        yield _value("relative error", f.relative_error(task.A))
        if task.hessian is not None:
            under_h = errors.hessian_error(task.A, f, task.hessian)
            yield _value("relative error under H", under_h)
        if task.is_image:
            yield _tried("psnr", errors.psnr, task.A, f, peak=1.0)
            yield _tried("ssim", errors.ssim, task.A, f, peak=1.0)
        if task.queries is not None:
            yield from self._neighbours(f)
            if task.queries.metric == "cosine":
                yield _tried("cosine distortion", errors.cosine_distortion, task.A, f)

    def _neighbours(self, database: Any) -> list[Value]:
        from lplr.evaluation.knn import PROTOCOLS, shared_share, vote
        from lplr.evaluation.significance import mean_error, write_flags

        q = self.task.queries
        assert q is not None
        names = ("accuracy", f"recall@{_RECALL}")
        try:
            found = self._nearest(database)
        except LplrError as error:  # a row that is stored as zero has no direction
            return [_value(name, None, PROTOCOLS[0], str(error)) for name in names]
        expected = found if database is self.task.A else self._expected
        right = vote(found.first(q.k), q.labels) == q.truth
        shared = shared_share(found.first(_RECALL), expected.first(_RECALL))
        rows = [
            _value(name, float(each.mean()), PROTOCOLS[0])
            | {"standard_error": mean_error(each), "queries": len(each)}
            for name, each in zip(names, (right, shared), strict=True)
        ]
        rows[0]["correct"] = write_flags(right)
        return rows

    def _nearest(self, database: Any) -> Any:
        from lplr.evaluation.engines import search_by

        q = self.task.queries
        assert q is not None
        return search_by(search_engine(), database, q.X, max(q.k, _RECALL), q.metric)

    @cached_property
    def _expected(self) -> Any:
        """Nearest rows of the original."""
        return self._nearest(self.task.A)


def _value(
    metric: str, value: float | None, protocol: str | None = None, note: str | None = None
) -> Value:
    """The columns of a value; one that is not finite, which JSON cannot say, has a note instead."""
    if value is not None and not math.isfinite(value):
        value, note = None, f"is {value}" + ("; the result is exact" if metric == "psnr" else "")
    status = "skipped" if value is None else "ok"
    known = {"metric": metric, "protocol": protocol, "value": value, "status": status}
    return known | ({"note": note} if note else {})


def _tried(name: str, function: Any, *args: Any, **options: Any) -> Value:
    """A metric that may not exist for a result, or need a package that is not there."""
    try:
        return _value(name, function(*args, **options))
    except LplrError as error:
        return _value(name, None, note=str(error))
