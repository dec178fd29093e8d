"""Frozen files: what an earlier version wrote decodes for ever (made by fixtures/make.py)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from fixtures.make import decoded

from lplr.storage.container import inspect, load
from lplr.storage.encoding import ENCODINGS

FIXTURES = Path(__file__).parent / "fixtures"
FROZEN = sorted([*FIXTURES.glob("v*/*.h5"), *FIXTURES.glob("parts-*/row-parts")])


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_frozen_files_decode_as_they_always_did(path: Path) -> None:
    expected = np.load(path.with_suffix(".npy"))
    assert inspect(path)["attrs"] == {"fixture": path.stem}
    # Rounding of a level or of a product of three terms may differ between machines; a wrong
    # code or scale would be off by a hundred times as much.
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(decoded(load(path)), expected, rtol=0, atol=tolerance)


def test_every_encoding_has_a_frozen_file() -> None:
    """In each version at which it was written."""
    found = set()
    for about in map(inspect, FROZEN):
        for groups in about.get("objects", {"": about.get("groups")}).values():
            found |= {(group["encoding"], group["version"]) for group in groups.values()}
    for kind, (module, name) in ENCODINGS.items():
        newest = getattr(import_module(module), name).encoding[1]
        assert {version for k, version in found if k == kind} == set(range(1, newest + 1))
    assert ("array", 1) in found
