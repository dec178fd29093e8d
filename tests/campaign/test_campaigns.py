"""The campaigns of ``lplr selftest``: quick here, and long with ``--campaign=long``."""

from __future__ import annotations

import pytest

from lplr.selftest.run import CAMPAIGNS, run
from lplr.selftest.trials import Scale


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_guarantees_hold(name: str, scale: Scale) -> None:
    (lines,) = run([name], scale)
    assert sum(line.trials for line in lines) > 0
    assert [failure for line in lines for failure in line.failures] == []
    # What the table says is tried, was tried.
    tried = {g for line in lines for g in line.guarantees.split()}
    assert tried == set(CAMPAIGNS[name].guarantees.split())
