"""``lplr doctor``: whether the installation works, checked one part after the other."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lplr.cli.options import add_command, add_json, print_json

__all__ = ["add_parser", "run"]

_PACKAGES = ("numpy", "scipy", "numba", "h5py", "sklearn", "matplotlib", "threadpoolctl")


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser = add_command(
        subparsers,
        common,
        "doctor",
        "check the installation",
        "lplr doctor",
        "Versions, threads, kernels and their cache, data, and a small matrix compressed, saved, "
        "loaded and compared. Exit code 3 if a check fails.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from lplr.cli.progress import Progress, watch_compilation

    results = []
    with Progress() as progress:
        for name, check in _CHECKS.items():
            try:
                with watch_compilation(progress):
                    detail = check()
                status = "note" if isinstance(detail, _Note) else "ok"
            except Exception as error:  # whatever is wrong with a part, the others are checked
                status, detail = "failed", f"{type(error).__name__}: {error}"
            results.append({"check": name, "status": status, "detail": " ".join(detail.split())})
    failed = sum(result["status"] == "failed" for result in results)
    if args.json:
        print_json({"checks": results, "failed": failed})
    else:
        width = max(map(len, _CHECKS))
        for result in results:
            print(f"{result['status']:6}  {result['check']:{width}}  {result['detail']}")
        print("\nall is well" if not failed else f"\n{failed} of {len(results)} checks failed")
    return 3 if failed else 0


class _Note(str):
    """What is worth knowing and no failure."""


def _python() -> str:
    import platform
    import sys

    return f"{platform.python_version()} at {sys.executable}, {platform.platform()}"


def _versions() -> str:
    from importlib import import_module

    import h5py

    import lplr

    found = [f"lplr {lplr.__version__}"]
    found += [f"{name} {import_module(name).__version__}" for name in _PACKAGES]
    return ", ".join([*found, f"HDF5 {h5py.version.hdf5_version}"])


def _blas() -> str:
    import scipy.linalg  # noqa: F401  (loads the BLAS that SciPy brings)
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return _Note("not recognised; results are right, but their bits may vary with threads")
    return ", ".join(
        f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in pools
    )


def _threads() -> str:
    from lplr.parallel import n_threads

    found = [
        f"{name}={os.environ.get(name, '')}" for name in ("LPLR_NUM_THREADS", "OMP_NUM_THREADS")
    ]
    return f"{n_threads()} of {os.cpu_count()} cores; {', '.join(found)}"


def _kernels() -> str:
    import time
    from importlib import import_module
    from pkgutil import iter_modules

    import lplr.kernels

    start = time.perf_counter()
    names = [module.name for module in iter_modules(lplr.kernels.__path__)]
    for name in names:
        import_module(f"lplr.kernels.{name}")
    _round_trip()
    return f"{len(names)} modules ready in {time.perf_counter() - start:.1f} s"


def _cache() -> str:
    from lplr.kernels import bitpack, jit

    if jit.disabled:
        return _Note("NUMBA_DISABLE_JIT: kernels run as plain Python, many times slower; unset it")
    if jit.troubles:  # of the kernels that the checks before this one loaded
        folder, reason = jit.troubles[0]
        raise RuntimeError(
            f"{folder} cannot be used ({reason}); results are right, but kernels are compiled "
            "anew; delete the files *.nbi and *.nbc in it, free space, make it writable, or set "
            "NUMBA_CACHE_DIR to the full path of a folder that is"
        )
    folder = Path(bitpack.unpack.stats.cache_path)
    return f"{folder}, {sum(1 for _ in folder.glob('*.nbc'))} compiled functions"


def _data() -> str:
    from lplr import datasets

    shapes = {name: datasets.layer(name).W.shape for name in datasets.layer_names()}
    shapes["text_embeddings"] = datasets.text_embeddings().embeddings.shape
    shapes["fashion_mnist"] = datasets.fashion_mnist(subset="small").images.shape
    return ", ".join(f"{name} {n} x {d}" for name, (n, d) in shapes.items())


def _fashion() -> str:
    from lplr import datasets
    from lplr.exceptions import InputError

    try:
        datasets.fashion_mnist(n=1, subset="full")
    except InputError:
        return _Note(
            "all of Fashion-MNIST is not installed; the demo uses the 6000 images that are part "
            "of this package (Debian package dataset-fashion-mnist, or LPLR_FASHION_MNIST)"
        )
    return "all 60000 images are installed"


def _self_test() -> str:
    errors = [f"{name} {error:.3f}" for name, error in _round_trip().items()]
    return "compressed, saved, loaded and equal; errors: " + ", ".join(errors)


def _round_trip() -> dict[str, float]:
    """Each method on a small matrix, through a file and back; its error."""
    import numpy as np

    import lplr
    from lplr.algorithms.factorize import METHODS
    from lplr.storage.temporary import temporary_folder

    A = lplr.datasets.synthetic(96, 64, "power", rng=0)
    made: dict[str, Any] = {m: lplr.factorize(A, rank=16, bits=4, method=m, rng=0) for m in METHODS}
    made["e8p"] = lplr.factorize(A, rank=16, bits=2, quantizer="e8p", rng=0)
    made["naive"] = lplr.quantize(A, bits=4)
    errors = {}
    with temporary_folder() as folder:
        for name, f in made.items():
            path = folder / f"{name}.h5"
            lplr.save(path, f)
            again = lplr.load(path)
            if not np.array_equal(again.to_dense(), f.to_dense()):
                raise RuntimeError(f"{name}: a saved file decodes to another matrix")
            errors[name] = again.relative_error(A)
    # A broken kernel leaves errors near 1; these methods leave below 0.5 here.
    wrong = [name for name, error in errors.items() if not error < 0.5]
    if wrong:
        raise RuntimeError(f"errors too large: {', '.join(wrong)}")
    return errors


_CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "versions": _versions,
    "BLAS": _blas,
    "threads": _threads,
    "kernels": _kernels,
    "kernel cache": _cache,
    "data": _data,
    "Fashion-MNIST": _fashion,
    "self-test": _self_test,
}
