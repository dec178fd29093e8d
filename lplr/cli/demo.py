"""``lplr demo``: real matrices compressed by every method, as files, a table and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lplr.cli.options import add_command, add_json, add_seed, print_json

__all__ = ["add_parser", "run"]

_RESULTS = "results.json"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "demo",
        "compress real data by every method, with a table and pictures",
        "lplr demo --out demo",
        "Fashion-MNIST, a transformer layer, text embeddings and the Shepp-Logan phantom; each "
        "result is written, read again and verified. Takes about three minutes.",
    )
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for files and pictures (default: demo)"
    )
    parser.add_argument("--quick", action="store_true", help="smaller matrices, fewer budgets")
    add_seed(parser)
    add_json(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Case:
    """A matrix and the budgets, in bits an entry, that it is compressed to."""

    key: str
    title: str
    A: Any
    budgets: tuple[float, ...]


@dataclass(frozen=True)
class _Method:
    """A way to compress; ``work`` is roughly its seconds for a million entries at one bit."""

    key: str
    work: float
    make: Callable[[Any, float, int], Any]


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import json

    from lplr.cli.demo_layer import PICTURE, compress_layer
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.storage.atomic import write_atomic

    folder = _folder(args.out)
    cases = _cases(args.quick)
    jobs = [(c, b, m) for c in cases for b in c.budgets for m in _METHODS if _offers(m, b)]
    work = [m.work * c.A.size * 1e-6 * b**0.8 + 0.05 for c, b, m in jobs]
    rows: list[dict[str, Any]] = []
    pictures: dict[str, dict[Any, Any]] = {"fashion-mnist": {}, "phantom": {}}
    with Progress(sum(work) + 10.0) as progress, watch_compilation(progress):
        limits = {case.key: _limit_of(case) for case in cases}
        for (case, budget, method), size in zip(jobs, work, strict=True):
            with progress.step(f"{case.title}: {method.key}, {budget:g} bits", size):
                row, dense = _compress(case, budget, method, limits[case.key], folder, args.seed)
            rows.append(row)
            if case.key in pictures:
                pictures[case.key][budget, method.key] = (dense, row["error"])
        with progress.step("transformer layer under its Hessian", 8.0):
            layer = compress_layer(folder, args.seed, args.quick, progress.say)
        with progress.step("drawing", 2.0):
            drawn = [*_draw(cases, rows, limits, pictures, folder), PICTURE]
    document = {
        "seed": args.seed,
        "quick": args.quick,
        "results": rows,
        "layer_under_hessian": layer,
        "pictures": drawn,
    }
    text = json.dumps(document, indent=1).encode()
    write_atomic(folder / _RESULTS, [text], overwrite=True)
    if args.json:
        print_json(document)
    else:
        _print(cases, rows, layer, drawn, folder)
    return 0


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
        if isinstance(error, InputError):
            raise
        raise StorageError(f"{name}: cannot be made: {error.strerror}; name another one") from None
    return folder


def _cases(quick: bool) -> list[_Case]:
    from lplr import datasets
    from lplr.exceptions import InputError

    budgets = (1.0, 2.0) if quick else (0.5, 1.0, 2.0, 4.0)
    if quick:
        images = datasets.fashion_mnist(n=1000).images
    else:
        try:
            images = datasets.fashion_mnist(n=10000).images
        except InputError:  # all of it is not installed
            images = datasets.fashion_mnist(subset="small").images
    layer = datasets.layer("minilm_l2_query" if quick else "minilm_l3_output")
    texts = datasets.text_embeddings().embeddings[: 1000 if quick else None]
    phantom = datasets.shepp_logan(128 if quick else 256)

    def case(key: str, name: str, A: Any, halvings: int = 0) -> _Case:
        title = f"{name}, {A.shape[0]} x {A.shape[1]}"
        return _Case(key, title, A, tuple(b / 2**halvings for b in budgets))

    return [
        # The more rows share one R, the less a budget has to be for the same error.
        case("fashion-mnist", "Fashion-MNIST images", images, halvings=0 if quick else 1),
        case("layer", f"transformer layer {layer.name}", layer.W),
        case("embeddings", "text embeddings", texts),
        case("phantom", "Shepp-Logan phantom", phantom),
    ]


def _best(A: Any, budget: float, seed: int) -> Any:
    import lplr

    return lplr.compress(A, bits_per_entry=budget, rng=seed)


def _factorize(method: str) -> Callable[[Any, float, int], Any]:
    def make(A: Any, budget: float, seed: int) -> Any:
        import lplr

        return lplr.factorize(A, bits_per_entry=budget, method=method, rng=seed)

    return make


def _float16_svd(A: Any, budget: float, seed: int) -> Any:
    from lplr.evaluation.baselines import float16_svd

    return float16_svd(A, budget, rng=seed)


def _naive(A: Any, budget: float, seed: int) -> Any:
    from lplr.evaluation.baselines import naive

    return naive(A, int(budget))


_METHODS = (
    _Method("compress", 2.5, _best),
    _Method("feedback", 1.2, _factorize("feedback")),
    _Method("lplr", 0.4, _factorize("lplr")),
    _Method("lplr-svd", 0.3, _factorize("lplr-svd")),
    _Method("direct-svd", 0.2, _factorize("direct-svd")),
    _Method("TruncatedSVD float16", 0.05, _float16_svd),
    _Method("naive", 0.05, _naive),
)


def _offers(method: _Method, budget: float) -> bool:
    """Naive quantization exists at whole bits only."""
    return method.key != "naive" or budget == int(budget)


def _limit_of(case: _Case) -> Callable[[float], float]:
    import numpy as np

    from lplr.theory import rate_distortion_limit

    A = np.asarray(case.A, np.float64)
    gram = A.T @ A if A.shape[0] >= A.shape[1] else A @ A.T
    sigma = np.sqrt(np.linalg.eigvalsh(gram).clip(0))
    return lambda bits: rate_distortion_limit(sigma, case.A.shape, bits)


def _compress(
    case: _Case,
    budget: float,
    method: _Method,
    limit: Callable[[float], float],
    folder: Path,
    seed: int,
) -> tuple[dict[str, Any], Any]:
    """One result, measured on what was read back from its file, and its dense matrix."""
    import time

    import numpy as np

    import lplr
    from lplr.exceptions import StorageError

    start = time.perf_counter()
    f = method.make(case.A, budget, seed)
    seconds = time.perf_counter() - start
    name = f"files/{case.key}-{budget:g}-{method.key.replace(' ', '-').lower()}.h5"
    lplr.save(folder / name, f, overwrite=True)
    again = lplr.load(folder / name)
    dense = again.to_dense()
    if not np.array_equal(dense, f.to_dense()):
        raise StorageError(f"{name}: decodes to another matrix than the one that was saved")
    error = again.relative_error(case.A)
    least = limit(again.bits_per_entry)
    return {
        "matrix": case.key,
        "method": method.key,
        "budget": budget,
        "error": error,
        "bits_per_entry": again.bits_per_entry,
        "limit": least,
        "ratio": error / least,
        "rank": getattr(again, "rank", None),
        "seconds": seconds,
        "file": name,
        "file_nbytes": (folder / name).stat().st_size,
    }, dense


def _draw(
    cases: list[_Case],
    rows: list[dict[str, Any]],
    limits: dict[str, Callable[[float], float]],
    pictures: dict[str, dict[Any, Any]],
    folder: Path,
) -> list[str]:
    from lplr.evaluation.plots import draw_curves, draw_images

    images, phantom = cases[0], cases[-1]
    draw_curves(
        folder / "rate-distortion.png", [_panel(case, rows, limits[case.key]) for case in cases]
    )
    draw_images(
        folder / "fashion-mnist.png",
        f"{images.title}: one of each class, all at 1 stored bit an entry",
        _clothes(images.A, pictures[images.key]),
    )
    draw_images(
        folder / "phantom.png",
        f"{phantom.title}: equal stored bits in a row, relative errors in the corners",
        _phantoms(phantom, pictures[phantom.key]),
        ["original", *(method.key for method in _METHODS)],
    )
    return ["rate-distortion.png", "fashion-mnist.png", "phantom.png"]


def _panel(case: _Case, rows: list[dict[str, Any]], limit: Callable[[float], float]) -> Any:
    import numpy as np

    from lplr.evaluation.plots import Curve, Panel

    curves = []
    for method in _METHODS:
        own = [r for r in rows if r["matrix"] == case.key and r["method"] == method.key]
        bits, errors = [r["bits_per_entry"] for r in own], [r["error"] for r in own]
        curves.append(Curve(method.key, bits, errors))
    bits = sorted(b for curve in curves for b in curve.bits)
    grid = np.geomspace(bits[0], bits[-1], 33).tolist()
    return Panel(case.title, curves, Curve("limit", grid, [limit(b) for b in grid]))


def _clothes(A: Any, found: dict[Any, Any]) -> dict[str, Any]:
    """A row a method, with the first image of each class."""
    import numpy as np

    from lplr import datasets
    from lplr.evaluation.plots import Picture

    labels = datasets.fashion_mnist(n=1000).labels
    shown = [int(np.flatnonzero(labels == k)[0]) for k in range(10)]
    rows = {"original": A}
    for (budget, method), (dense, error) in found.items():
        if budget == 1:
            rows[f"{method}\nerror {error:.3f}"] = dense
    return {k: [Picture(X[i].reshape(28, 28)) for i in shown] for k, X in rows.items()}


def _phantoms(case: _Case, found: dict[Any, Any]) -> dict[str, Any]:
    """A row a budget, with all of the phantom by each method."""
    from lplr.evaluation.plots import Picture

    rows = {}
    for budget in (b for b in case.budgets if b <= 2):
        made = [found.get((budget, method.key)) for method in _METHODS]
        pictures = [None if one is None else Picture(one[0], f"{one[1]:.3f}") for one in made]
        label = f"{budget:g} bit{'s' if budget > 1 else ''}\nan entry"
        rows[label] = [Picture(case.A), *pictures]
    return rows


def _print(
    cases: list[_Case],
    rows: list[dict[str, Any]],
    layer: list[dict[str, Any]],
    drawn: list[str],
    folder: Path,
) -> None:
    from lplr.cli.demo_layer import print_layer
    from lplr.cli.tables import in_bytes, in_seconds, table

    head = ("bits", "method", "error", "x limit", "stored bits", "rank", "file", "time")
    for case in cases:
        print(f"\n{case.title}\n")
        cells, last = [], None
        for row in (r for r in rows if r["matrix"] == case.key):
            first = f"{row['budget']:g}" if row["budget"] != last else ""
            last = row["budget"]
            cells.append(
                [
                    first,
                    row["method"],
                    f"{row['error']:.4f}",
                    f"{row['ratio']:.2f}",
                    f"{row['bits_per_entry']:.4f}",
                    "-" if row["rank"] is None else str(row["rank"]),
                    in_bytes(row["file_nbytes"]),
                    in_seconds(row["seconds"]),
                ]
            )
        print(table(head, cells, left=2))
    print_layer(layer)
    print(
        "\nerror: relative, in the Frobenius norm, of the matrix read back from its file.\n"
        "x limit: error over the rate-distortion limit for the spectrum at the stored bits, a\n"
        "yardstick for factors; coding the entries themselves may go below it.\n"
        f"\n{len(rows) + len(layer)} files were written, read again and verified. See {folder}:"
    )
    for name in [*drawn, _RESULTS, "files"]:
        print(f"  {folder / name}")
