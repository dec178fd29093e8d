"""How much the campaigns try."""

from __future__ import annotations

import pytest

from lplr.selftest.trials import Scale


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    """The quick form, or the long one with ``--campaign=long``."""
    return Scale(long=request.config.getoption("--campaign") == "long")
