"""What an error of 0.13 means: in words, in images at growing errors, and in neighbours kept."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np

from lplr.evaluation.charts import kept_chart
from lplr.evaluation.figures import inline_svg
from lplr.evaluation.gallery import Sample
from lplr.evaluation.grid import UNCOMPRESSED
from lplr.evaluation.metrics import bits_text, metric, percent
from lplr.evaluation.report.glossary import term
from lplr.evaluation.report.page import captioned, escape
from lplr.evaluation.report.results import Entry, Results
from lplr.evaluation.styles import in_order, style_of

__all__ = ["meaning", "side_by_side"]

_MOST, _FEWEST = 6, 4  # data sets of a chart, and points of one of them


def meaning(results: Results, samples: Mapping[str, Sequence[Sample]]) -> str:
    """The section; nothing where the default has no result to speak of."""
    names = sorted(results.measured, key=lambda name: not samples.get(name))  # images first
    about = {"metric": "relative error", "method": results.default, "budget": results.budget}
    found = [e for name in names for e in results.pick(dataset=name, **about)]
    example = next((e for e in found if 0 < e.mean < math.inf), None)
    if example is None:
        return ""
    seen = example.dataset if samples.get(example.dataset) else ""
    error = example.mean
    what = f"{error:.2g}"
    lost = percent(error**2)
    parts = [
        f'<section><h2 id="meaning">What an error of {what} means</h2>',
        f"<p>Let A be the matrix and B what is stored of it. The {term('relative error')} is "
        f"‖A − B‖<sub>F</sub> / ‖A‖<sub>F</sub>: 0 is exact, 1 is as bad as storing nothing.</p>"
        f"<ul><li>An error of {what} loses {lost} of the sum of squares of A and keeps "
        f"{percent(1 - error**2)}.</li><li>A typical entry is off by {100 * error:.2g} % of the "
        f"root mean square of all entries.</li>{_told_neighbours(results, error)}</ul>",
    ]
    if seen:
        strip = _growing(seen, samples[seen], results.default)
        parts.append(f"<h3>{escape(seen)} at growing errors</h3>{strip}")
    parts.append(_kept(results, error))
    return "\n".join([*parts, "</section>"])


def _neighbours(results: Results) -> dict[str, list[tuple[Entry, Entry]]]:
    """By data set: error and share of neighbours kept, of every method at every budget."""
    found: dict[str, list[tuple[Entry, Entry]]] = {}
    kept = {
        (e.dataset, e.method, e.budget): e
        for e in results.entries
        if e.metric.startswith("recall@") and e.family != "reference"
    }
    for e in results.pick(metric="relative error"):
        if 0 < e.mean < math.inf and (key := (e.dataset, e.method, e.budget)) in kept:
            found.setdefault(e.dataset, []).append((e, kept[key]))
    return found


def _told_neighbours(results: Results, error: float) -> str:
    """What is kept where the error is nearest to this one."""
    told = []
    for dataset, pairs in _neighbours(results).items():
        e, kept = min(pairs, key=lambda pair: abs(math.log(pair[0].mean / error)))
        if abs(math.log(e.mean / error)) < 0.25:
            told.append(f"{10 * kept.mean:.1f} on {escape(dataset)} (error {e.mean:.2g})")
    if not told:
        return ""
    return f"<li>Of the 10 nearest neighbours of a query, it keeps {', '.join(told)}.</li>"


def _kept(results: Results, error: float) -> str:
    found = _neighbours(results)
    points = {
        dataset: [(e.mean, kept.mean) for e, kept in pairs]
        for dataset, pairs in list(found.items())[:_MOST]
    }
    if max(map(len, points.values()), default=0) < _FEWEST:
        return ""
    told = "; ".join(
        f"{name}: {percent(max(p for _, p in pairs))} at the least error"
        for name, pairs in points.items()
    )
    svg = inline_svg(
        kept_chart(points, error), "kept", f"Share of neighbours kept against error. {told}."
    )
    projects = any(e.method.startswith("GaussianRandomProjection") for e in results.entries)
    far = "Random projections, far right, keep distances rather than entries. " if projects else ""
    caption = (
        f"Each point is one method at one number of bits; the line marks an error of {error:.2g}. "
        f"Mostly the error decides, not the method. {far}See "
        f"{term('neighbours kept (recall@10)', 'neighbours kept')}."
    )
    return f'<div class="charts">{captioned(svg, caption)}</div>'


def _growing(dataset: str, samples: Sequence[Sample], default: str) -> str:
    """The original, the default at all budgets, and what is worse than all of these."""
    own = [s for s in samples if s.method in (default, UNCOMPRESSED)]
    top = max((s.error for s in own), default=0.0)
    worse = [s for s in samples if s.error > 1.25 * top]
    chosen = sorted([*own, *sorted(worse, key=lambda s: s.error)[-1:]], key=lambda s: s.error)
    return _pictures(dataset, [(s, _growing_caption(s, default)) for s in chosen])


def _growing_caption(sample: Sample, default: str) -> str:
    if sample.method == UNCOMPRESSED:
        return "original"
    by = "" if sample.method == default else f" ({style_of(sample.method).label})"
    return f"error {sample.error:.2g}{by}"


def side_by_side(dataset: str, samples: Sequence[Sample], budget: float) -> str:
    """The original, and the methods at one budget."""
    order = in_order(s.method for s in samples)
    order = [UNCOMPRESSED, *(m for m in order if m != UNCOMPRESSED)]
    chosen = sorted(
        (s for s in samples if s.method == UNCOMPRESSED or s.budget == budget),
        key=lambda s: order.index(s.method),
    )
    captions = [
        "original" if s.method == UNCOMPRESSED else f"{style_of(s.method).label}: {s.error:.3f}"
        for s in chosen
    ]
    if len(chosen) < 2:
        return ""
    head = f"<p>At {bits_text(budget)} per entry, with the {metric('relative error').name}:</p>"
    return head + _pictures(dataset, list(zip(chosen, captions, strict=True)))


def _pictures(dataset: str, shown: Sequence[tuple[Sample, str]]) -> str:
    figures = []
    tall = shown[0][0].image.shape[0] > 0.8 * shown[0][0].image.shape[1]
    for sample, caption in shown:
        height, width = sample.image.shape
        small = ' class="small"' if max(height, width) < 150 else ""
        text = f"{dataset}, {caption}"
        image = (
            f'<img{small} width="{width}" height="{height}" alt="{escape(text)}" '
            f'src="{_data_uri(sample.image)}">'
        )
        figures.append(captioned(image, escape(caption)))
    kind = "pictures" if tall else "pictures wide"
    return f'<div class="{kind}">{"".join(figures)}</div>'


def _data_uri(image: np.ndarray) -> str:
    """A grey PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
