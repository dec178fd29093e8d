"""Where the error enters: what parts of a network do alone, and how hidden states drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from lplr.evaluation.figures import inline_svg
from lplr.evaluation.metrics import number
from lplr.evaluation.part_charts import alone_chart, drift_chart, kinds_chart
from lplr.evaluation.report.network_curves import style_of_run
from lplr.evaluation.report.network_layers import place_of, short_names
from lplr.evaluation.report.network_words import HEADS, in_words
from lplr.evaluation.report.page import Value, captioned, escape, folded, table

__all__ = ["parts_section"]

_LINES = 6  # of a chart, at most
_KL = HEADS["predictions"]["kl"]
_OUTSIDE = "embedding, head"
_WHY = (
    '<p class="dim">The parts need not add up to the whole: errors meet, and a layer that was '
    "corrected for what those before it have lost does that alone for nothing.</p>"
)


def parts_section(runs: Sequence[Mapping[str, Any]]) -> str:
    """All that is known of it; empty where that is nothing."""
    found = runs[0].get("sensitivity")
    predicted = _predicted(runs[0])
    charts = [*([] if found is None else _alone(found, predicted)), *_drift(runs)]
    if not charts:
        return ""
    said = "" if found is None else f"<p>{escape(_in_short(found, predicted))}</p>{_WHY}"
    numbers = "" if found is None else folded("All numbers", _table(found, predicted))
    return f'{said}<div class="charts">{"".join(charts)}</div>{numbers}'


def _predicted(run: Mapping[str, Any]) -> list[float]:
    """What the second moments say that the layers of each block cost; empty if they say nothing."""
    sums: dict[int, float] = {}
    for layer in run["layers"]:
        if "predicted_kl" not in layer:
            return []
        _, block = place_of(str(layer["name"]))
        sums[block] = sums.get(block, 0.0) + layer["predicted_kl"]
    return [sums[block] for block in sorted(sums)]


def _in_short(found: Mapping[str, Any], predicted: Sequence[float]) -> str:
    """What one would read off the charts."""
    whole, blocks = found["whole"]["value"], [each["value"] for each in found["blocks"]]
    worst = max(range(len(blocks)), key=blocks.__getitem__)
    kind = max(found["kinds"], key=lambda name: found["kinds"][name]["value"])
    of_kind = found["kinds"][kind]["value"]
    said = (
        f"With everything compressed the predictions are {number(whole)} nats from the original's. "
        f"One block alone, the others as in the original: {number(sum(blocks))} in the sum over "
        f"blocks, the most in block {worst}, {number(blocks[worst])}. One kind of layer alone, in "
        f"all blocks: the most in {kind}, {number(of_kind)}."
    )
    if predicted:
        said += f" The second moments predict {number(sum(predicted))} for all layers."
    return said


def _alone(found: Mapping[str, Any], predicted: Sequence[float]) -> Iterable[str]:
    """The charts of parts that are compressed alone."""
    blocks = [_band(each) for each in found["blocks"]]
    text = "; ".join(f"block {i}: {number(value)}" for i, (value, _) in enumerate(blocks))
    told = f"Each block alone, on {found['source']}; lines: twice the standard error"
    if predicted:
        told += "; predicted: 1/2 tr(G E H Eᵀ), summed over its layers"
    svg = inline_svg(alone_chart(_KL, blocks, predicted), "p-blocks", f"{_KL}. {text}.")
    yield captioned(svg, escape(told))
    names = short_names(list(found["kinds"]))
    kinds = {
        **{name: _band(each) for name, each in zip(names, found["kinds"].values(), strict=True)},
        _OUTSIDE: _band(found["outside"]),
    }
    text = "; ".join(f"{name}: {number(value)}" for name, (value, _) in kinds.items())
    svg = inline_svg(kinds_chart(_KL, kinds), "p-kinds", f"{_KL}. {text}.")
    yield captioned(svg, escape(f"Each kind of layer alone, in all blocks, on {found['source']}"))


def _band(found: Mapping[str, Any]) -> tuple[float, float]:
    """A value, and twice its standard error, which one window alone does not tell."""
    error = found["standard_error"]
    return found["value"], 2 * error if error is not None and isfinite(error) else 0.0


def _drift(runs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """How far hidden states are from the original's, block by block, for all networks that tell."""
    told = [_errors(run) for run in runs]
    if not told[0]:
        return
    on = max(told[0], key=lambda on: sum(on in errors for errors in told))
    found = [(run, errors[on]) for run, errors in zip(runs, told, strict=True) if on in errors]
    curves = [
        (
            f"{run['totals']['layers']['bits_per_weight']:.2f} bits",
            style_of_run(run, run is runs[0]),
            errors,
        )
        for run, errors in found[:_LINES]
        if len(errors) == len(found[0][1])
    ]
    text = "; ".join(f"{label}: {number(errors[-1])} at the end" for label, _, errors in curves)
    svg = inline_svg(drift_chart(curves), "p-drift", f"Relative error of hidden states. {text}.")
    yield captioned(svg, escape(f"Error of hidden states with everything compressed, on {on}"))


def _errors(run: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """The relative errors of hidden states after each block, by what they were measured on."""
    found, settings = run.get("sensitivity"), run["settings"]
    errors = {} if found is None else {str(found["source"]): found["errors"]}
    # An adapted network has those of calibration from before it was adapted.
    if settings.get("error_after_blocks") and not settings.get("adaptations"):
        errors["the tokens of calibration"] = settings["error_after_blocks"]
    return errors


def _table(found: Mapping[str, Any], predicted: Sequence[float]) -> str:
    parts = {"everything": found["whole"], _OUTSIDE: found["outside"], **found["kinds"]}
    rows = [[Value(name), _kl(each), Value("–"), Value("–")] for name, each in parts.items()]
    for i, each in enumerate(found["blocks"]):
        expected = predicted[i] if predicted else None
        rows.append(
            [
                Value(f"block {i}"),
                _kl(each),
                Value("–" if expected is None else number(expected), expected),
                Value(f"{found['errors'][i]:.4f}", found["errors"][i]),
            ]
        )
    heads = ("compressed alone", _KL, "predicted", "error of hidden states, all compressed")
    shown = [0, 1, *([2] if predicted else []), 3]
    rows = [[row[i] for i in shown] for row in rows]
    caption = f"{found['source']}: {found['protocol']}"
    return table(caption, [heads[i] for i in shown], rows, numeric=range(1, len(shown)))


def _kl(found: Mapping[str, Any]) -> Value:
    return Value(in_words("kl", found), found["value"])
