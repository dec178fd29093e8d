"""Images of results, kept beside their table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lplr import datasets
from lplr.evaluation.gallery import Gallery, read_gallery
from lplr.evaluation.grid import Grid, run_grid
from lplr.evaluation.tasks import Task, load_suite
from lplr.exceptions import CorruptFileError


def test_gallery(tmp_path: Path) -> None:
    path = tmp_path / "r.pictures.npz"
    phantom = Task("phantom", datasets.shepp_logan(48).astype(np.float32), is_image=True)
    plain = Task("no image", phantom.A)
    grid = Grid([phantom, plain], ["feedback", "naive", "lplr-svd"], [0.5, 1.0], [0, 1])
    gallery = Gallery(grid, "feedback", path)
    run_grid(grid, see=gallery.see)
    assert gallery.samples.keys() == {"phantom"}
    shown = gallery.samples["phantom"]
    # The default at all budgets, others near one bit; the first seed.
    assert [(s.method, s.budget) for s in shown] == [
        ("uncompressed", 32.0), ("feedback", 0.5), ("feedback", 1.0), ("naive", 1.0),
    ]  # fmt: skip
    original, *others = (s.image for s in shown)
    np.testing.assert_array_equal(original, np.rint(255 * phantom.A))
    assert all(o.shape == original.shape and not np.array_equal(o, original) for o in others)
    gallery.save()
    again = Gallery(grid, "feedback", path).samples["phantom"]
    assert [(s.method, s.budget, s.error) for s in again] == [
        (s.method, s.budget, s.error) for s in shown
    ]
    assert all(np.array_equal(a.image, s.image) for a, s in zip(again, shown, strict=True))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CorruptFileError, match="damaged"):
        read_gallery(path)


def test_gallery_of_small_images() -> None:
    task = load_suite("knn", quick=True)[0]
    grid = Grid([task], ["naive"], [1.0], [0])
    gallery = Gallery(grid, "naive")
    run_grid(grid, see=gallery.see)
    assert [s.image.shape for s in gallery.samples["Fashion-MNIST"]] == 2 * [(2 * 28, 5 * 28)]
