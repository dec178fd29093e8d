"""The pictures of ``lplr demo``, from its table and from the files that it read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PICTURES", "draw_pictures"]

_TITLES = {"minilm_l3_output": "transformer layer", "Shepp-Logan phantom": "phantom image"}
_CLASSES = (0, 3, 4, 8, 9)  # of the clothes that are shown

PICTURES = (
    "overview.png",
    "rate-distortion.png",
    "fashion-mnist.png",
    "phantom.png",
    "layer-under-hessian.png",
)

Results = Mapping[tuple[str, str, float], Any]  # by data set, method and budget


def draw_pictures(
    grids: Sequence[Any], rows: Sequence[Mapping[str, Any]], results: Results, folder: Path
) -> dict[str, bool]:
    """Which of `PICTURES` could be drawn."""
    from lplr import datasets
    from lplr.evaluation.figures import draw_or_warn
    from lplr.evaluation.overview import draw_overview
    from lplr.evaluation.pictures import draw_images
    from lplr.evaluation.plots import draw_curves, draw_errors

    *matrices, layer = (grid.tasks[0] for grid in grids)
    clothes, phantom = matrices[0], matrices[-1]
    labels = datasets.fashion_mnist(n=1000).labels
    at_one_bit = {
        m: f for (name, m, bits), f in results.items() if (name, bits) == (clothes.name, 1)
    }
    curves = {task.name: _curves(task, rows) for task in matrices}
    panels = {
        f"{_TITLES.get(task.name, task.name)}, {task.shape}": curves[task.name] for task in matrices
    }
    of_outputs = {
        row["method"]: row["value"]
        for row in rows
        if (row["dataset"], row["metric"]) == (layer.name, "relative error under H")
    }
    drawings: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
        (draw_overview, (clothes.A, labels, at_one_bit, curves[clothes.name])),
        (draw_curves, (panels,)),
        (
            draw_images,
            ("All at one stored bit per pixel", _clothes(clothes.A, labels, at_one_bit)),
        ),
        (
            draw_images,
            ("Relative errors at equal sizes", *_phantoms(phantom, grids[-2].budgets, results)),
        ),
        (
            draw_errors,
            (
                f"A transformer layer in {grids[-1].budgets[0]:g} bits per weight",
                of_outputs,
                "Relative error of the outputs of the layer; lower is better.",
            ),
        ),
    )
    return {
        name: draw_or_warn(draw, folder / name, *args)
        for name, (draw, args) in zip(PICTURES, drawings, strict=True)
    }


def _curves(task: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Stored bits and errors of each method, and the yardstick."""
    import numpy as np

    from lplr.evaluation.spectrum import singular_values
    from lplr.theory import rate_distortion_limit

    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        if (row["dataset"], row["metric"]) == (task.name, "relative error"):
            bits, errors = curves.setdefault(row["method"], ([], []))
            bits.append(row["bits_per_entry"])
            errors.append(row["value"])
    ends = sorted(b for bits, _ in curves.values() for b in bits)
    grid = np.geomspace(ends[0], ends[-1], 33).tolist()
    sigma = singular_values(task.A)
    limit = [rate_distortion_limit(sigma, task.A.shape, b) for b in grid]
    return {**curves, "limit": (grid, limit)}


def _clothes(A: Any, labels: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """A row for each method, with the first image of some classes."""
    from lplr.evaluation.pictures import Picture, class_images
    from lplr.evaluation.styles import in_order

    def pictures(B: Any) -> list[Picture]:
        images = class_images(B, labels)
        return [Picture(images[i]) for i in _CLASSES]

    rows = {"original": pictures(A)}
    for method in in_order(stored):
        f = stored[method]
        rows[f"{method}\nerror {f.relative_error(A):.3f}"] = pictures(f.to_dense())
    return rows


def _phantoms(task: Any, budgets: Sequence[float], results: Results) -> tuple[Any, list[str]]:
    """A row for each method and a column for each budget; and what the columns are."""
    from lplr.evaluation.metrics import bits_text
    from lplr.evaluation.pictures import Picture
    from lplr.evaluation.styles import in_order

    def picture(f: Any) -> Picture | None:
        return f and Picture(f.to_dense(), f"{f.relative_error(task.A):.3f}")

    rows = {
        method: [picture(results.get((task.name, method, budget))) for budget in budgets]
        for method in in_order({method for name, method, _ in results if name == task.name})
    }
    return {"original": [Picture(task.A)], **rows}, [bits_text(budget) for budget in budgets]
