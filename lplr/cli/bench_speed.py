"""``lplr bench speed``: time and memory on this machine, each figure with the error it buys."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_speed", "measure", "print_report", "run"]

_RANK = 90


def add_speed(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Describe the benchmark."""
    speed = add_command(
        kinds,
        common,
        "speed",
        "measure time, memory, imports, compilation and decoding",
        "lplr bench speed\nLPLR_NUM_THREADS=1 lplr bench speed --json",
        "Factorizations against scikit-learn's randomized_svd and against two bare matrix "
        "products, at the same rank and number of threads. Takes about two minutes; leave the "
        "machine alone meanwhile.",
    )
    speed.add_argument(
        "--quick", action="store_true", help="one small matrix, two rounds, no compilation"
    )
    add_json(speed)
    speed.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    report = measure(args.quick)
    if args.json:
        print_json(report)
    else:
        print_report(report)
    return 0


def measure(quick: bool) -> dict[str, Any]:
    """All figures, with progress on stderr."""
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation import speed, speed_layer
    from lplr.parallel import n_threads

    # Rows, columns, rounds, and roughly the seconds of a round.
    cases = [(10000, 784, 10, 0.8), (8192, 4096, 4, 3.5)]
    if quick:
        cases = [(1000, 784, 2, 0.5)]
    count = n_threads()
    report: dict[str, Any] = {"threads": count, "rank": _RANK, "factorizations": []}
    total = sum(rounds * cost + 6.0 for _, _, rounds, cost in cases)
    with (
        Progress(total + (34.0 if quick else 97.0)) as progress,
        watch_compilation(progress),
    ):
        for n, d, rounds, cost in cases:
            with progress.step(f"{n} x {d}: time", rounds * cost), speed.threads(count):
                found = speed.compare(speed.matrix(n, d), _RANK, rounds)
            with progress.step(f"{n} x {d}: memory", 6.0):
                memory = {m: speed.peak_memory(m, n, d, _RANK) for m in ("lplr", "feedback")}
            report["factorizations"].append(
                {"shape": [n, d], "rounds": rounds, "runs": found, "memory": memory}
            )
        with progress.step("decoding", 4.0):
            report["decoding"] = speed.decoding_speed(rounds)
        with progress.step("kernels and packed products", 6.0):
            size = 1024 if quick else 4096
            report["kernels"] = {"size": size, **speed_layer.kernels(size, rounds)}
            report["products"] = speed_layer.products(size, 5 * rounds, tuple({1, count}))
        with progress.step("layers", 20.0):
            report["layers"] = speed_layer.decompositions(1 if quick else 2)
        if not quick:
            with progress.step("a layer of 4096 x 4096", 45.0), speed.threads(count):
                report["large layer"] = speed_layer.large_layer(4096, 4096, 128)
        with progress.step("imports", 4.0):
            report["imports"] = speed.import_times(rounds)
        if not quick:
            with progress.step("compilation", 18.0):
                report["cold start"] = speed.cold_start()
    return report


def print_report(report: dict[str, Any]) -> None:
    """The figures as tables."""
    from lplr.cli.tables import columns, table

    print(
        f"rank {report['rank']}, {report['threads']} threads, float32, kernels compiled, best of "
        f"{' and '.join(str(entry['rounds']) for entry in report['factorizations'])} rounds\n"
    )
    rows, sizes = [], []
    for entry in report["factorizations"]:
        shape = f"{entry['shape'][0]} x {entry['shape'][1]}"
        runs = entry["runs"]
        for name, run in runs.items():
            against = [run["seconds"] / runs[k]["seconds"] for k in _AGAINST]
            error = "-" if run["error"] is None else f"{run['error']:.4f}"
            rows.append(
                [shape, name, f"{1e3 * run['seconds']:.1f} ms", error]
                + [f"{ratio:.2f}" for ratio in against]
            )
        for method, memory in entry["memory"].items():
            budget = memory["input"] + 4 * memory["factors"]
            sizes.append(
                [shape, method]
                + [f"{memory[k] / 1e6:.1f} MB" for k in ("input", "factors", "extra")]
                + [f"{memory['extra'] / budget:.2f}"]
            )
    print(table(("matrix", "what", "time", "error", *(f"/ {k}" for k in _AGAINST)), rows, left=2))
    print("\npeak memory beyond the input\n")
    head = ("matrix", "method", "input", "factors", "extra", "/ (input + 4 factors)")
    print(table(head, sizes, left=2))
    print("\nunpack and dequantize, one core\n")
    rows = [
        [name, f"{found['entries_per_second'] / 1e6:.0f} M/s", f"{found['error']:.4f}"]
        for name, found in report["decoding"].items()
    ]
    print(table(("code", "entries", "error"), rows))
    _print_layers(report)
    seconds = [(f"{k}, fresh process", v) for k, v in report["imports"].items()]
    seconds += [(f"{k}, no kernel compiled", v) for k, v in report.get("cold start", {}).items()]
    print("\n" + columns([(name, f"{value:.3g} s") for name, value in seconds]))


def _print_layers(report: dict[str, Any]) -> None:
    from lplr.cli.tables import columns, in_seconds, table

    found = report["kernels"]
    print(f"\nkernels, one core; the transforms of {found['size']} x {found['size']} float32\n")
    lines = [("nearest points of the 2-bit lattice", f"{found['nearest'] / 1e6:.0f} M weights/s")]
    for name in ("rows", "columns"):
        ratio = found[name] / found["copy"]
        lines.append((f"Hadamard of its {name}", f"{1e3 * found[name]:.1f} ms, {ratio:.2f} copies"))
    print(columns(lines))
    print("\n2-bit packed against dense float32 products\n")
    rows = [
        [
            str(row["threads"]),
            str(row["columns"]),
            *(f"{1e3 * row[k]:.2f} ms" for k in ("packed", "dense")),
            f"{row['packed'] / row['dense']:.2f}",
            f"{row['error']:.4f}",
        ]
        for row in report["products"]
    ]
    print(table(("threads", "columns", "packed", "dense", "ratio", "error"), rows, left=0))
    print("\nCALDERA, rank 64, Q 2 bits, factors 4 bits, kernels compiled\n")
    rows = [
        [
            name,
            " x ".join(map(str, layer["shape"])),
            in_seconds(layer["seconds"]),
            f"{layer['error']:.4f}",
            in_seconds(layer["faithful_iteration"]),
            f"{layer['faithful_error']:.4f}",
        ]
        for name, layer in report["layers"].items()
    ]
    head = ("layer", "shape", "default", "error", "one faithful iteration", "error")
    print(table(head, rows, left=2))
    if "large layer" in report:
        large = report["large layer"]
        ratio = large["extra"] / (6 * large["weights"] + 3 * large["hessian"])
        print(
            f"\n4096 x 4096, rank 128: {in_seconds(large['seconds'])}, "
            f"error {large['error']:.4f}; {large['extra'] / 1e6:.0f} MB\nbeyond W and H, "
            f"{ratio:.2f} of 6 W in float32 plus 3 H in float64"
        )


_AGAINST = ("randomized_svd", "two products")
