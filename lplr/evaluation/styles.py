"""One table: how each method is called and drawn, in every picture of the project.

The family shows at a glance, also in grey and to the colour-blind. This project's methods are
solid lines in cool colours with full markers, those of the papers dashed lines in warm colours with
hollow markers, and those of libraries dotted lines in grey. A yardstick is thin and has no marker.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = [
    "BLUE",
    "COLOURS",
    "FAMILIES",
    "FOREST",
    "GREEN",
    "GREYS",
    "INK",
    "NAVY",
    "PAPER",
    "PINE",
    "PINK",
    "RED",
    "SETTINGS",
    "SKY",
    "STYLES",
    "VERMILION",
    "VIOLET",
    "WINE",
    "Style",
    "css_colours",
    "font_size",
    "in_order",
    "style_of",
    "variable",
]

PAPER, INK = "#ffffff", "#111111"

# Family: how it is headed, its dashes, and whether its markers are full.
FAMILIES: Mapping[str, tuple[str, Any, bool]] = MappingProxyType(
    {
        "ours": ("ours", "-", True),
        "papers": ("papers", (0, (4, 1.6)), False),
        "libraries": ("others", (0, (1, 1.3)), True),
        "yardstick": ("yardstick", (0, (7, 2, 1, 2)), False),
    }
)

BLUE, GREEN, SKY, NAVY, FOREST = "#0050a0", "#009e73", "#3a8fd0", "#1d1650", "#117733"
PINE, VIOLET = "#004c1f", "#6c00d9"
VERMILION, WINE, PINK, RED = "#d55e00", "#882255", "#c8559b", "#c1121f"
GREYS = ("#222222", "#555555", "#7a7a7a")

# On white, and on the dark page of a reader who prefers one. Each has a contrast of at least 3 with
# its page, the least that WCAG 2.2 allows for lines (1.4.11).
COLOURS: Mapping[str, str] = MappingProxyType(
    {
        BLUE: "#5aa9ff",
        GREEN: "#2fd0a0",
        SKY: "#9fd3ff",
        NAVY: "#c3b4ff",
        FOREST: "#7fcf7a",
        PINE: "#c2f0c2",
        VIOLET: "#b58cff",
        VERMILION: "#ff8c3a",
        WINE: "#e77fb5",
        PINK: "#f5a6d3",
        RED: "#ff7b80",
        GREYS[0]: "#dddddd",
        GREYS[1]: "#bbbbbb",
        GREYS[2]: "#9a9a9a",
        INK: "#eeeeee",
    }
)

# Of Matplotlib, for figures that stay readable where they are shown 400 pixels wide.
SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "figure.figsize": (5.4, 3.4),
        "figure.dpi": 90,
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "legend.frameon": False,
        "legend.fontsize": 11,
    }
)


@dataclass(frozen=True)
class Style:
    """How a method is called and drawn.

    Parameters
    ----------
    label : str
    colour : str
        One of `COLOURS`.
    marker : str
        Of Matplotlib; empty for a line without markers.
    family : str
        One of `FAMILIES`.
    order : int
        Its place in lists, legends and tables.
    full : bool
        Whether the marker is full.
    bold : bool
        Whether the line is the one to look at.
    """

    label: str
    colour: str
    marker: str
    family: str
    order: int
    full: bool
    bold: bool = False

    def line(self, scale: float = 1.0) -> dict[str, Any]:
        """The keywords of ``axes.plot``; widths and markers grow with ``scale``.

        Examples
        --------
        >>> from lplr.evaluation.styles import style_of
        >>> style_of("lplr").line()["markerfacecolor"]
        '#ffffff'
        """
        width = 2.8 if self.bold else {"ours": 2.0, "papers": 1.6}.get(self.family, 1.2)
        return {
            "color": self.colour,
            "linestyle": FAMILIES[self.family][1],
            "linewidth": width * scale,
            "marker": self.marker or "None",
            "markersize": (6.5 if self.bold else 5.5) * scale,
            "markerfacecolor": self.colour if self.full else PAPER,
            "markeredgecolor": self.colour,
            "markeredgewidth": 1.2 * scale,
            # A thin line is seen on a wide one.
            "zorder": {"libraries": 3, "papers": 4, "yardstick": 7}.get(self.family, 5) + self.bold,
        }


def _table() -> dict[str, Style]:
    """Name, label, colour, marker, family; ``full`` where it is not that of the family."""
    rows: list[tuple[str, str, str, str, str]] = [
        ("compress", "compress (ours)", BLUE, "o", "ours"),
        ("two-sided", "two-sided (ours)", PINE, "P", "ours"),
        ("adapted", "adapted (ours)", VIOLET, "*", "ours"),
        ("feedback", "factorize (ours)", GREEN, "s", "ours"),
        ("caldera", "caldera (ours)", SKY, "D", "ours"),
        ("caldera, trellis", "caldera, trellis (ours)", NAVY, "^", "ours"),
        ("feedback alone", "feedback alone (ours)", FOREST, "v", "ours"),
        ("lplr", "LPLR (paper)", VERMILION, "s", "papers"),
        ("lplr-svd", "LPLR-SVD (paper)", WINE, "D", "papers"),
        ("direct-svd", "direct-SVD (paper)", PINK, "v", "papers"),
        ("caldera, faithful", "CALDERA (paper)", RED, "o", "papers"),
        ("naive", "naive rounding", GREYS[0], "X", "libraries"),
        ("llama.cpp", "llama.cpp", GREYS[0], "D", "libraries"),
        ("llama.cpp, as built", "llama.cpp, as built", GREYS[1], "s", "libraries"),
    ]
    reduced = {
        "TruncatedSVD": "P",
        "PCA": "p",
        "randomized_svd": "d",
        "GaussianRandomProjection": "<",
        "interpolative": ">",
    }
    rows += [
        (f"{name} {dtype}", f"{name} {dtype}", colour, marker, "libraries")
        for dtype, colour in (("float16", GREYS[2]), ("int8", GREYS[1]))
        for name, marker in reduced.items()
    ]
    vectors = {"KMeans rows": "h", "KMeans sub-vectors": "8"}
    rows += [(name, name, GREYS[1], marker, "libraries") for name, marker in vectors.items()]
    faiss = {"ScalarQuantizer": "*", "PQ": "1", "OPQ": "2", "RaBitQ": "3"}
    rows += [(name, name, GREYS[0], marker, "libraries") for name, marker in faiss.items()]
    grown = {"IncrementalPCA": "^", "svd_compressed": "v"}
    rows += [(name, name, GREYS[1], marker, "libraries") for name, marker in grown.items()]
    rows += [
        ("limit", "yardstick", INK, "", "yardstick"),
        ("uncompressed", "uncompressed", INK, "", "yardstick"),
        ("read twice + product", "reading + product", INK, "", "yardstick"),
    ]
    return {
        name: Style(
            label, colour, marker, family, order,
            full=FAMILIES[family][2] and not name.endswith("int8"), bold=name == "compress",
        )
        for order, (name, label, colour, marker, family) in enumerate(rows)
    }  # fmt: skip


STYLES: Mapping[str, Style] = MappingProxyType(_table())

_OTHERS = ("s", "^", "D", "v", "o", "h", "p", "d")


def style_of(method: str) -> Style:
    """The style of a method; one that is not in the table is drawn as those of libraries are.

    Examples
    --------
    >>> from lplr.evaluation.styles import style_of
    >>> style_of("lplr").label, style_of("mine").label, style_of("mine").family
    ('LPLR (paper)', 'mine', 'libraries')
    """
    if method in STYLES:
        return STYLES[method]
    marker = _OTHERS[zlib.crc32(method.encode()) % len(_OTHERS)]
    return Style(method, GREYS[1], marker, "libraries", len(STYLES), full=False)


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods as lists and legends show them: ours, those of the papers, of libraries.

    Examples
    --------
    >>> from lplr.evaluation.styles import in_order
    >>> in_order(["limit", "naive", "lplr", "compress"])
    ['compress', 'lplr', 'naive', 'limit']
    """
    return sorted(methods, key=lambda method: (style_of(method).order, method))


def variable(colour: str) -> str:
    """The name of the CSS variable that stands for one of `COLOURS` in a page."""
    return f"--s-{colour[1:]}"


def css_colours(dark: bool) -> str:
    """The variables of all `COLOURS`, for the style sheet of a light or a dark page.

    Examples
    --------
    >>> from lplr.evaluation.styles import css_colours
    >>> css_colours(dark=True)[:21]
    '--s-0050a0: #5aa9ff; '
    """
    return " ".join(f"{variable(c)}: {d if dark else c};" for c, d in COLOURS.items())


def font_size(width: float, pixels: float = 10.5) -> float:
    """Points of letters that are so many pixels high where a figure is shown 400 pixels wide.

    Parameters
    ----------
    width : float
        Of the figure, in inches.
    pixels : float
    """
    return pixels * width * 72 / 400
