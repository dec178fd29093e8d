"""Forged tables of contents, under a digest that is right: nonsense is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lplr.selftest.forge import forge_contents, small
from lplr.selftest.hostile_tables import data, table
from lplr.storage.container import inspect, load, save


def test_a_forged_file_without_evil_loads(tmp_path: Path) -> None:
    path = forge_contents(tmp_path, table(), data())
    for found in (*load(path).values(), load(path, name="c")):
        np.testing.assert_array_equal(found.to_dense(), small().to_dense())


def test_text_that_repeats_itself(tmp_path: Path) -> None:
    """A list of many like objects is small; other text is not made so, or it would be a trap."""
    path = tmp_path / "x.h5"
    many = {f"layer.{i}": small() for i in range(1000)}
    save(path, many)
    assert path.stat().st_size < 30_000
    assert list(load(path)) == list(many)
    attrs = {"x": "x" * 1_000_000}
    save(path, small(), attrs=attrs, overwrite=True)
    assert path.stat().st_size > 1_000_000
    assert inspect(path)["attrs"] == attrs
