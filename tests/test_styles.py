"""The table of styles: what must be told apart can be told apart, by everybody and in print."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lplr.evaluation.baselines import METHODS
from lplr.evaluation.styles import COLOURS, FAMILIES, PAPER, STYLES, in_order, style_of

DARK_PAGE = "#14171a"
_RGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
# What the colour-blind see, on linear RGB: Machado, Oliveira, Fernandes 2009, severity 1.
SEEN = {
    "all": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b*, in which a distance of about 2.3 is just noticed."""
    t = _RGB_TO_XYZ @ rgb.clip(0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(_RGB_TO_XYZ[1] @ linear(c)) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def test_every_method_has_a_style() -> None:
    assert set(METHODS) <= set(STYLES)
    assert {"caldera", "caldera, faithful", "limit", "uncompressed"} <= set(STYLES)
    assert all(s.colour in COLOURS and s.family in FAMILIES for s in STYLES.values())
    families = {"lplr": "ours", "paper": "papers"}
    for method in METHODS.values():
        assert STYLES[method.name].family == families.get(method.family, "libraries")


@pytest.mark.parametrize("seen", SEEN)
def test_methods_of_a_family_differ_in_colour_to_everyone(seen: str) -> None:
    """Five times what is just noticed, since lines are thin; libraries differ by marker alone."""
    for family in ("ours", "papers"):
        colours = {s.colour for s in STYLES.values() if s.family == family}
        assert len(colours) == sum(s.family == family for s in STYLES.values())
        places = [lab(np.array(SEEN[seen]) @ linear(colour)) for colour in colours]
        assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 5 * 2.3


def test_methods_differ_without_colour() -> None:
    shapes = {
        name: (s.family, s.marker, s.full) for name, s in STYLES.items() if s.family != "yardstick"
    }
    assert len(set(shapes.values())) == len(shapes)
    assert len({str(dashes) for _, dashes, _ in FAMILIES.values()}) == len(FAMILIES)


def test_lines_can_be_seen() -> None:
    """WCAG 2.2, 1.4.11."""
    for light, dark in COLOURS.items():
        assert contrast(light, PAPER) >= 3
        assert contrast(dark, DARK_PAGE) >= 3


def test_order_and_others() -> None:
    assert in_order(["limit", "mine", "PQ", "lplr", "compress"]) == [
        "compress", "lplr", "PQ", "limit", "mine",
    ]  # fmt: skip
    assert style_of("mine") == style_of("mine")
    assert [name for name, style in STYLES.items() if style.bold] == ["compress"]
