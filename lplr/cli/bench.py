"""``lplr bench``: speed and memory on this machine, each figure with the error that it buys."""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_parser", "run"]

_RANK = 90


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "bench",
        "measure speed and memory on this machine",
        "lplr bench speed\nLPLR_NUM_THREADS=1 lplr bench speed --json",
    )
    kinds = parser.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
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
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.evaluation import speed
    from lplr.parallel import n_threads

    # Rows, columns, rounds, and roughly the seconds of a round.
    cases = [(10000, 784, 20, 0.8), (8192, 4096, 7, 3.5)]
    if args.quick:
        cases = [(1000, 784, 2, 0.5)]
    count = n_threads()
    report: dict[str, Any] = {"threads": count, "rank": _RANK, "factorizations": []}
    total = sum(rounds * cost + 6.0 for _, _, rounds, cost in cases)
    with (
        Progress(total + (8.0 if args.quick else 26.0)) as progress,
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
        with progress.step("imports", 4.0):
            report["imports"] = speed.import_times(rounds)
        if not args.quick:
            with progress.step("compilation", 18.0):
                report["cold start"] = speed.cold_start()
    if args.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
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
    seconds = [(f"{k}, fresh process", v) for k, v in report["imports"].items()]
    seconds += [(f"{k}, no kernel compiled", v) for k, v in report.get("cold start", {}).items()]
    print("\n" + columns([(name, f"{value:.3g} s") for name, value in seconds]))


_AGAINST = ("randomized_svd", "two products")
