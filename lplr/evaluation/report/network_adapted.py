"""What adaptation gained and what it costs: the loss by step, and a row for each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lplr.evaluation.figures import inline_svg
from lplr.evaluation.metrics import number
from lplr.evaluation.part_charts import training_chart
from lplr.evaluation.report.network_words import HEADS
from lplr.evaluation.report.page import Value, captioned, escape, table

__all__ = ["adaptation_section"]

_LOSSES = {"kl": HEADS["predictions"]["kl"], "cross-entropy": "cross-entropy, nats"}
_STAGES = {
    "before": "as it was",
    "start": "with corrections of the errors of layers",
    "trained": "trained, in float32",
    "stored": "stored",
}
_COSTLY = ("trained", "stored")


def adaptation_section(adaptations: Sequence[Mapping[str, Any]]) -> str:
    """All adaptations of a network, in their order; empty where there is none."""
    return "".join(_one(i, made) for i, made in enumerate(adaptations))


def _one(i: int, made: Mapping[str, Any]) -> str:
    losses, bits = made["held_out_loss"], made["layers_bits_per_weight"]
    axis = _LOSSES[made["loss"]]
    held_out = f"{losses['sequences']} sequences that were held out"
    text = "; ".join(f"{number(loss)} after {step} steps" for step, loss in made["history"])
    chart = training_chart(axis, made["history"], losses["before"], losses["stored"])
    svg = inline_svg(chart, f"t{i}", f"{axis}, on {held_out}: {text}.")
    rows = [
        [
            Value(words),
            Value(f"{losses[key]:.4f}", losses[key]),
            _bits(bits.get(key), ".4f"),
            _bits(bits[key] - bits["before"] if key in _COSTLY else None, "+.4f"),
        ]
        for key, words in _STAGES.items()
    ]
    heads = ("layers", axis, "bits per weight", "cost")
    return (
        f"<p>{escape(_in_short(made))}</p>"
        f'<div class="charts">{captioned(svg, escape(f"{axis}, on {held_out}"))}<div>'
        f"{table(f'Stages, on {held_out}', heads, rows, numeric=(1, 2, 3))}</div></div>"
    )


def _in_short(made: Mapping[str, Any]) -> str:
    """What was trained, for how long, and how it ended."""
    rank = made["rank"]
    factors = "the factors that were there" if rank is None else f"corrections of rank {rank}"
    trained = [factors if name == "factors" else name for name in made["trained"]]
    taken = made.get(
        "steps_taken", made["history"][-1][0]
    )  # earlier versions wrote the latter alone
    said = f"{taken} of {made['steps']} steps of {made['batch']} sequences"
    ended = "" if made["changed"] else " Nothing was better than the model as it was, which stayed."
    return f"Trained: {', '.join(trained)}; {said}. {made['stopped'].capitalize()}.{ended}"


def _bits(value: float | None, form: str) -> Value:
    return Value("–" if value is None else format(value, form).replace("-", "−"), value)
