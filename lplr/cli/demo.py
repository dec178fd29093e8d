"""``lplr demo``: real matrices compressed by every method, as files, tables and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lplr.cli.options import add_command, add_json, add_seed, print_json

__all__ = ["add_parser", "run"]

_PARTLY = 3
_RESULTS = "results.json"
_METHODS = (
    "compress",
    "feedback",
    "lplr",
    "lplr-svd",
    "direct-svd",
    "TruncatedSVD float16",
    "naive",
)
_LAYER = "minilm_l2_query"
_LAYER_BITS = 3  # per entry: what naive rounding and feedback alone can have as well


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "demo",
        "compress real data by every method, with tables and pictures",
        "lplr demo --out demo",
        "Fashion-MNIST, transformer layers, text embeddings and the Shepp-Logan phantom; each "
        "result is written, read again and verified. Takes about three minutes.",
    )
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for files and pictures (default: demo)"
    )
    parser.add_argument("--quick", action="store_true", help="smaller matrices, fewer budgets")
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import json

    from lplr.evaluation.results_file import describe
    from lplr.storage.atomic import write_atomic

    folder = _folder(args.out)
    grids = [*_grids(args.quick, args.seed), _layer_grid(args.quick, args.seed)]
    results: dict[tuple[str, str, float], Any] = {}  # what was read back, by data set, method, bits
    rows = _measure(grids, folder, results)
    attrs: dict[str, Any] = {}
    for grid in grids:
        for name, value in describe(grid, args.quick, _METHODS[0]).items():
            attrs[name] = {**attrs.get(name, {}), **value} if isinstance(value, dict) else value
    document = {"seed": args.seed, "attrs": attrs, "rows": rows}
    # Before anything is drawn: a picture that fails does not lose the table.
    text = json.dumps(document, indent=1).encode()
    write_atomic(folder / _RESULTS, [text], overwrite=True)
    if args.json:
        print_json(document)
    else:
        _print(grids, rows, attrs)
    drawn = _draw(grids, rows, attrs, results, folder)
    if not args.json:
        print(f"\n{len(results)} files were written, read again and verified. See {folder}:")
        for name in [*(name for name, done in drawn.items() if done), _RESULTS, "files"]:
            print(f"  {folder / name}")
    return 0 if all(drawn.values()) else _PARTLY


def _folder(name: str) -> Path:
    """The folder to write to: new, empty, or of an earlier run."""
    from lplr.exceptions import InputError, StorageError

    folder = Path(name)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{name}: is not a folder; name another one by --out")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / _RESULTS).is_file():
            raise InputError(
                f"{name}: is not empty and holds no earlier demo; name another folder by --out"
            )
        (folder / "files").mkdir(parents=True, exist_ok=True)
        # At once, so that an interrupted run can be repeated in the same folder.
        (folder / _RESULTS).touch()
    except OSError as error:
        raise StorageError(f"{name}: cannot be made: {error.strerror}; name another one") from None
    return folder


def _grids(quick: bool, seed: int) -> list[Any]:
    """A grid for each matrix: the more rows share one R, the less a budget has to be."""
    from lplr import datasets
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.tasks import Task
    from lplr.exceptions import InputError

    budgets = (1.0, 2.0) if quick else (0.5, 1.0, 2.0, 4.0)
    try:
        images = datasets.fashion_mnist(n=500 if quick else 10000).images
    except InputError:  # all of it is not installed
        images = datasets.fashion_mnist(subset="small").images
    layer = datasets.layer(_LAYER if quick else "minilm_l3_output")
    texts = datasets.text_embeddings().embeddings[: 500 if quick else None]
    phantom = datasets.shepp_logan(128 if quick else 256)
    tasks = (
        (Task("Fashion-MNIST", images), budgets if quick else tuple(b / 2 for b in budgets)),
        (Task(layer.name, layer.W), budgets),
        (Task("text embeddings", texts), budgets),
        (Task("Shepp-Logan phantom", phantom), budgets),
    )
    return [Grid([task], _METHODS, own, [seed]) for task, own in tasks]


def _layer_grid(quick: bool, seed: int) -> Any:
    """Five ways to spend three bits per entry on one layer under its Hessian."""
    import lplr
    from lplr import datasets
    from lplr.evaluation.baselines import METHODS, Method
    from lplr.evaluation.grid import Grid
    from lplr.evaluation.tasks import Task

    layer = datasets.layer(_LAYER)
    n, d = layer.W.shape
    # Of 4-bit factors beside a 2-bit backbone, the largest rank that fits: 20 bytes of scale and
    # seeds, 4 of the scale of L, 4 a component.
    rank = int(((_LAYER_BITS - 2) * n * d - 8 * 24) // (4 * (n + d) + 32))
    steps = 3 if quick else 10

    def caldera(name: str, cost: float, **options: Any) -> Method:
        def run(A: Any, bits: float, rng: int, hessian: Any) -> Any:
            return lplr.caldera(A, hessian=hessian, rng=rng, **options)

        stores = "codes of Q, L and R; scales and sign seeds"
        return Method(name, "caldera", run, stores, weighted=True, cost=(cost, 0.0))

    def rounded(A: Any, bits: float, rng: int) -> Any:
        return lplr.quantize(A, bits=int(bits), quantizer="lloyd-max")

    methods = [
        Method("naive rounding", "naive", rounded, "codes; one scale", seeded=False),
        caldera("feedback alone", 0.2, rank=0, q_bits=_LAYER_BITS),
        caldera("CALDERA, faithful", 0.7 * steps, rank=rank, mode="faithful", n_iter=steps),
        caldera("CALDERA, default", 0.5, rank=rank),
        METHODS["compress"],
    ]
    task = Task(f"{layer.name} under H", layer.W, hessian=layer.H)
    return Grid([task], methods, [_LAYER_BITS], [seed])


def _measure(grids: Sequence[Any], folder: Path, results: dict[Any, Any]) -> list[dict[str, Any]]:
    """The rows of all grids; each result is saved, and what was read back is kept."""
    import numpy as np

    import lplr
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation.grid import remaining, run_grid
    from lplr.exceptions import StorageError

    files: dict[Any, dict[str, Any]] = {}

    def see(run: Any, f: Any) -> None:
        words = f"{run.task.name}-{run.budget:g}-{run.method.name}".lower().replace(",", "")
        name = f"files/{words.replace(' ', '-')}.h5"
        lplr.save(folder / name, f, overwrite=True)
        again = lplr.load(folder / name)
        if not np.array_equal(again.to_dense(), f.to_dense()):
            raise StorageError(f"{name}: decodes to another matrix than the one that was saved")
        results[run.task.name, run.method.name, run.budget] = again
        files[run.key] = {"file": name, "file_nbytes": (folder / name).stat().st_size}

    rows = []
    total = sum(remaining(grid, []) for grid in grids)
    with Progress(total) as progress, watch_compilation(progress):
        for grid in grids:
            rows += run_grid(grid, step=progress.step, see=see)
    for row in rows:
        row |= files.get((row["dataset"], row["method"], row["budget"], row["seed"]), {})
    return rows


def _print(grids: Sequence[Any], rows: list[dict[str, Any]], attrs: dict[str, Any]) -> None:
    from lplr.cli.bench_tables import print_by_budget, print_runs, print_skipped
    from lplr.evaluation.report.results import gather

    *matrices, layer = (grid.tasks[0].name for grid in grids)
    results = gather([row for row in rows if row["dataset"] in matrices], _METHODS[0])
    print_by_budget(results, attrs["limits"])
    own = [row for row in rows if row["dataset"] == layer]
    print(f"\n{layer}, the second moment of its inputs\n")
    print_runs(own, attrs)
    print_skipped(results.skipped)
    print(
        "\nThe limit is that of two coded factors for this spectrum: coding the entries themselves "
        "may go\nbelow it. `lplr info FILE` shows how a result spent its bits."
    )


def _draw(
    grids: Sequence[Any],
    rows: list[dict[str, Any]],
    attrs: dict[str, Any],
    results: dict[Any, Any],
    folder: Path,
) -> dict[str, bool]:
    """Which pictures could be drawn."""
    from lplr.evaluation.figures import draw_or_warn
    from lplr.evaluation.pictures import draw_images
    from lplr.evaluation.plots import draw_curves, draw_history

    *matrices, layer = (grid.tasks[0] for grid in grids)
    images, phantom = matrices[0], matrices[-1]
    titles = {task.name: f"{task.name}, {task.shape}" for task in (*matrices, layer)}
    panels = {titles[task.name]: _curves(task, rows) for task in matrices}
    one_bit = f"{titles[images.name]}: one of each class, all at 1 stored bit per entry"
    equal = f"{titles[phantom.name]}: equal stored bits in a row, relative errors in the corners"
    pictures: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
        "rate-distortion.png": (draw_curves, (panels,)),
        "fashion-mnist.png": (draw_images, (one_bit, _clothes(images, results))),
        "phantom.png": (
            draw_images,
            (equal, _phantoms(phantom, grids[-2].budgets, results), ["original", *_METHODS]),
        ),
        "layer-under-hessian.png": (
            draw_history,
            (f"{titles[layer.name]}, {_LAYER_BITS} stored bits per entry", *_steps(layer, results)),
        ),
    }
    return {
        name: draw_or_warn(draw, folder / name, *args) for name, (draw, args) in pictures.items()
    }


def _curves(task: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Stored bits and errors of each method, and the limit."""
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


def _clothes(task: Any, results: dict[Any, Any]) -> dict[str, Any]:
    """A row for each method, with the first image of each class."""
    from lplr import datasets
    from lplr.evaluation.pictures import Picture, class_images

    labels = datasets.fashion_mnist(n=1000).labels
    rows = {"original": task.A}
    for (name, method, budget), f in results.items():
        if (name, budget) == (task.name, 1):
            rows[f"{method}\nerror {f.relative_error(task.A):.3f}"] = f.to_dense()
    return {label: [*map(Picture, class_images(A, labels))] for label, A in rows.items()}


def _phantoms(task: Any, budgets: Sequence[float], results: dict[Any, Any]) -> dict[str, Any]:
    """A row for each budget, with all of the phantom by each method."""
    from lplr.evaluation.metrics import bits_text
    from lplr.evaluation.pictures import Picture

    def picture(f: Any) -> Picture | None:
        return f and Picture(f.to_dense(), f"{f.relative_error(task.A):.3f}")

    return {
        f"{bits_text(budget)}\nper entry": [
            Picture(task.A),
            *(picture(results.get((task.name, method, budget))) for method in _METHODS),
        ]
        for budget in budgets
        if budget <= 2
    }


def _steps(task: Any, results: dict[Any, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Errors under the damped Hessian: step by step where there are steps, and of the others."""

    from lplr.linalg.hessian import regularize

    damped, _ = regularize(task.hessian)
    histories, levels = {}, {}
    for (name, method, _), f in results.items():
        if name == task.name:
            steps = [step["error"] for step in f.meta.get("history", [])]
            if len(steps) > 1:
                histories[method] = steps
            else:
                levels[method] = f.relative_error(task.A, damped)
    return histories, levels
