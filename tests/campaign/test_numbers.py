"""The properties of `lplr.selftest.numbers`, drawn by Hypothesis, which finds what is smallest."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from lplr.selftest.numbers import PROPERTIES, holds
from lplr.selftest.trials import Scale


class Drawn:
    """Choices of Hypothesis, for `lplr.selftest.matrices.Draw`."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def choice(self, values):
        return self._data.draw(st.sampled_from(values))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name: str, scale: Scale, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("numbers")

    phases = (hypothesis.Phase.generate, hypothesis.Phase.shrink)

    @hypothesis.settings(max_examples=scale.count(500, 6), database=None, phases=phases)
    @hypothesis.given(st.data())
    def tried(data: st.DataObject) -> None:
        wrong, _ = holds(PROPERTIES[name], Drawn(data), folder)
        assert wrong == ""

    tried()
