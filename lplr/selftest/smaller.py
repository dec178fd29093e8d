"""Commands with less to do than their options can say, so that each is over in an instant.

The command and all that it writes are the real ones; what it works on is smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from lplr.selftest.jobs import JOBS
from lplr.selftest.writings import WRITINGS

__all__ = ["one_task", "one_writing", "small_peaks", "three_grids", "two_figures"]


@contextmanager
def one_task() -> Iterator[None]:
    """Benchmarks of one small matrix, which is an image, and whose rows have neighbours."""
    from lplr.evaluation.tasks import Queries, Task

    A = np.random.default_rng(0).random((64, 32), np.float32)
    queries = Queries(np.arange(48) % 3, A[48:], np.arange(16) % 3, 5, "euclidean")
    tasks = {
        "image": Task("small", A, is_image=True, about="noise"),
        "knn": Task("small", A[:48], queries=queries, about="noise"),
    }

    def suite(what: str, quick: bool) -> list[Task]:
        return [tasks.get(what, tasks["knn"])]

    with patch("lplr.evaluation.tasks.load_suite", suite), two_figures():
        yield


@contextmanager
def two_figures() -> Iterator[None]:
    """Speed of the kernels on a small matrix, and of imports, in processes of their own."""
    from lplr.evaluation import speed

    def plan(quick: bool) -> list[Any]:
        return [
            ("kernels", 1.0, lambda: speed._kernels(64, 1)),
            ("imports", 1.0, lambda: speed._imports(1)),
        ]

    with patch.object(speed, "_plan", plan):
        yield


@contextmanager
def small_peaks() -> Iterator[None]:
    """What this machine can do at most, measured in an instant."""
    with patch("lplr.evaluation.peaks._SIDE", 64), patch("lplr.evaluation.peaks._COPY", 1 << 16):
        yield


@contextmanager
def three_grids() -> Iterator[None]:
    """The demonstration of three small matrices."""
    from lplr import datasets
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.tasks import Task

    methods = ("compress", "naive")

    def grids(quick: bool, seed: int) -> list[Grid]:
        images = datasets.fashion_mnist(subset="small").images[:100]
        tasks = Task("Fashion-MNIST", images), Task("phantom", datasets.shepp_logan(32))
        return [Grid([task], methods, (1.0,), [seed]) for task in tasks]

    def layer_grid(quick: bool, seed: int) -> Grid:
        layer = datasets.layer("minilm_l2_query")
        task = Task("layer", layer.W[:48, :48].copy(), hessian=layer.H[:48, :48].copy())
        return Grid([task], methods, [3], [seed])

    with (
        patch("lplr.cli.demo._grids", grids),
        patch("lplr.cli.demo._layer_grid", layer_grid),
        patch("lplr.cli.demo._METHODS", methods),
    ):
        yield


@contextmanager
def one_writing() -> Iterator[None]:
    """A campaign that forks, of the first writer and the first job alone."""
    with (
        patch("lplr.selftest.kills.WRITINGS", WRITINGS[:1]),
        patch("lplr.selftest.kills.JOBS", JOBS[:1]),
    ):
        yield
