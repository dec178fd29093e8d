"""``lplr demo``: real matrices compressed by every method, as files, tables and pictures."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lplr.cli.options import add_command, add_json, add_seed, print_json

__all__ = ["add_parser", "run"]

_PARTLY = 3
_RESULTS = "results.json"
_DRAFT = ".lplr-demo-"
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
        "result is written, read again and verified. The folder holds the files, their table "
        "results.json and pictures; an interrupted run leaves none of it. Takes about two minutes "
        "on two cores, with --quick half a minute.",
    )
    parser.add_argument(
        "--out",
        default="demo",
        metavar="DIR",
        help="folder for files and pictures (default: demo); an earlier demo there is replaced",
    )
    parser.add_argument("--quick", action="store_true", help="smaller matrices, fewer budgets")
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import json

    from lplr.cli.demo_pictures import draw_pictures
    from lplr.cli.progress import Progress
    from lplr.storage.atomic import write_atomic
    from lplr.validation.arguments import check_integer

    check_integer(args.seed, "seed", 0, 2**31 - 1)
    folder = _folder(args.out)
    grids = [*_grids(args.quick, args.seed), _layer_grid(args.quick, args.seed)]
    results: dict[tuple[str, str, float], Any] = {}  # what was read back, by data set, method, bits
    with _all_or_nothing(folder) as draft:
        rows = _measure(grids, draft, results)
        with Progress() as progress:
            with progress.step("singular values"):
                attrs = _describe(grids, args.quick)
            document = {"seed": args.seed, "attrs": attrs, "rows": rows}
            write_atomic(draft / _RESULTS, [json.dumps(document, indent=1).encode()])
            with progress.step("drawing the pictures"):  # one that fails does not lose the table
                drawn = draw_pictures(grids, rows, results, draft)
    if args.json:
        print_json(document)
    else:
        _print(grids, rows, attrs)
        print(f"\n{len(results)} files were written, read again and verified. See {folder}:")
        for name in [*(name for name, done in drawn.items() if done), _RESULTS, "files"]:
            print(f"  {folder / name}")
    return 0 if all(drawn.values()) else _PARTLY


def _folder(name: str) -> Path:
    """The folder to write to: new, empty, or of an earlier run."""
    from lplr.cli.demo_pictures import PICTURES
    from lplr.exceptions import InputError

    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{name}: is not a folder; name another one by --out")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = {n for n in found - {"files", *PICTURES} if not n.startswith(_DRAFT)}
    if foreign and _RESULTS not in found:
        raise InputError(
            f"{name}: is not empty and holds no earlier demo; name another folder by --out"
        )
    return folder


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to, which becomes ``folder`` when all is there.

    If there is one already, the files go there one by one, in milliseconds, the table last; without
    it they are no demo. An exception of any kind, an interrupt too, removes the hidden folder; only
    the kill of the process leaves it behind, and it may be deleted.
    """
    from lplr.exceptions import StorageError
    from lplr.storage.names import rename_folder, sync_folder
    from lplr.storage.temporary import remove_folder

    there = folder.exists()
    draft = (folder if there else folder.parent) / f"{_DRAFT}{secrets.token_hex(16)}.tmp"
    try:
        try:
            (draft / "files").mkdir(parents=True)
            yield draft
            if not there:
                rename_folder(draft, folder)
                return
            (folder / "files").mkdir(exist_ok=True)
            (folder / _RESULTS).unlink(missing_ok=True)  # what it says is over
            sync_folder(folder)
            for path in (*(draft / "files").iterdir(), *draft.glob("*.png")):
                path.replace(folder / path.relative_to(draft))
            sync_folder(folder / "files")
            sync_folder(folder)
            (draft / _RESULTS).replace(folder / _RESULTS)
            sync_folder(folder)
        finally:
            remove_folder(draft)
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written: {error.strerror or error}; name another folder by --out"
        ) from error


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

    methods = [
        METHODS["naive"],
        caldera("feedback alone", 0.2, rank=0, q_bits=_LAYER_BITS),
        caldera("caldera, faithful", 0.7 * steps, rank=rank, mode="faithful", n_iter=steps),
        caldera("caldera", 0.5, rank=rank),
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
    from lplr.progress import parts, tracked

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
    with Progress(1.0) as progress, watch_compilation(progress), tracked(progress.tell, "demo"):
        for grid in parts(grids, [remaining(grid, []) for grid in grids]):
            rows += run_grid(grid, see=see)
    for row in rows:
        row |= files.get((row["dataset"], row["method"], row["budget"], row["seed"]), {})
    return rows


def _describe(grids: Sequence[Any], quick: bool) -> dict[str, Any]:
    """What the tables of all grids stand on."""
    from lplr.evaluation.results_file import describe

    attrs: dict[str, Any] = {}
    for grid in grids:
        for name, value in describe(grid, quick, _METHODS[0]).items():
            attrs[name] = {**attrs.get(name, {}), **value} if isinstance(value, dict) else value
    return attrs


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
        "\nThe yardstick is what two Gaussian factors with the same singular values would leave, "
        "ideally coded.\nIt is not a bound: what uses more structure can go below it. `lplr info "
        "FILE` shows how a result spent\nits bits."
    )
