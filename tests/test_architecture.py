"""The map of the house: which room of the package may import from which, and how a call walks it.

A room is a folder or a file of the package. Imports run one way, from the rooms that users enter
down to the ones that know nothing of the others.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from itertools import groupby
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest

import lplr

PACKAGE = Path(lplr.__file__).parent

# Room: the rooms that it may import. No other import is allowed, not even inside a function.
HOUSE = {
    # --- what everything stands on ---
    "_version": "",
    "exceptions": "",
    "extras": "exceptions",
    "memory": "",
    "progress": "exceptions",
    "data": "",
    "kernels": "exceptions",
    "parallel": "exceptions",
    "processes": "exceptions parallel",
    "validation": "exceptions parallel",
    "provenance": "_version exceptions parallel progress validation",
    "cluster": "exceptions extras parallel provenance validation",
    # --- from numbers to packed matrices ---
    "inputs": "exceptions extras memory",
    "sources": "exceptions memory validation inputs",
    "linalg": "exceptions parallel progress validation kernels",
    "quantizers": "exceptions parallel validation kernels",
    "matrices": "exceptions memory parallel validation sources linalg quantizers",
    "storage": "exceptions memory progress matrices",
    "coding": "exceptions parallel progress validation kernels linalg quantizers matrices",
    "planning": "exceptions parallel progress validation linalg quantizers matrices coding",
    "streaming": (
        "exceptions parallel cluster memory progress validation kernels sources linalg quantizers "
        "matrices storage coding planning"
    ),
    "neighbours": "exceptions parallel progress validation kernels matrices streaming",
    "algorithms": (
        "_version exceptions parallel processes cluster progress validation provenance sources "
        "linalg quantizers matrices storage coding planning streaming"
    ),
    "estimator": (
        "exceptions parallel progress validation sources linalg matrices neighbours streaming "
        "algorithms"
    ),
    # --- data ---
    "datasets": "exceptions parallel validation linalg data",
    # --- the papers' statements, and comparisons ---
    "theory": (
        "exceptions parallel processes progress validation linalg quantizers storage inputs "
        "datasets"
    ),
    # --- whole networks ---
    "models": (
        "_version exceptions extras memory parallel processes validation provenance cluster "
        "progress kernels linalg quantizers matrices neighbours coding planning algorithms "
        "estimator storage inputs datasets"
    ),
    "lplr": (  # the public names
        "_version exceptions linalg matrices neighbours algorithms estimator storage datasets "
        "theory models"
    ),
    "evaluation": (
        "exceptions extras parallel processes validation progress kernels sources linalg "
        "quantizers matrices neighbours coding planning storage datasets theory lplr"
    ),
    # --- attempts to break the guarantees ---
    "selftest": (
        "exceptions extras parallel processes validation memory progress kernels linalg "
        "quantizers matrices coding streaming algorithms storage inputs sources datasets theory "
        "lplr evaluation models"
    ),
    # --- the command line ---
    "cli": (
        "exceptions parallel processes validation provenance cluster progress kernels linalg "
        "quantizers planning streaming algorithms storage inputs sources datasets theory lplr "
        "evaluation models selftest"
    ),
    "__main__": "cli",
}


def modules() -> dict[str, Path]:
    """The name and the file of each module; two folders of the package are links."""
    found = {}
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for path in (Path(folder, file) for file in files if file.endswith(".py")):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imported(module: str) -> Iterator[str]:
    """The modules that the text of one names in imports, wherever they stand, and in strings.

    A string that is the name of a module is for `importlib.import_module`.
    """
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: a relative import"
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            names = [name if name in MODULES else str(node.module) for name in whole]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            names = [node.value] if node.value in MODULES else []
        yield from (name for name in names if name in MODULES and name != module)


@cache
def imports() -> dict[str, set[str]]:
    return {module: set(imported(module)) for module in MODULES}


def test_every_room_is_on_the_map() -> None:
    assert {room(module) for module in MODULES} <= set(HOUSE)


def test_the_map_goes_one_way() -> None:
    """A circle would raise."""
    allowed = {name: rooms.split() for name, rooms in HOUSE.items()}
    assert {room for rooms in allowed.values() for room in rooms} <= set(HOUSE)
    order = list(TopologicalSorter(allowed).static_order())
    assert len(order) == len(HOUSE)


@pytest.mark.parametrize("name", HOUSE)
def test_a_room_imports_from_those_below_it_alone(name: str) -> None:
    wrong = {
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if room(module) == name != room(other) and room(other) not in HOUSE[name].split()
    }
    assert not wrong


@pytest.mark.parametrize("name", HOUSE)
def test_files_of_a_room_import_each_other_in_one_direction(name: str) -> None:
    """A circle would raise, and name its files."""
    files = [module for module in MODULES if room(module) == name]
    inside = {module: imports()[module] & set(files) for module in files}
    assert len(list(TopologicalSorter(inside).static_order())) == len(files)


@pytest.mark.parametrize("package", [lplr, lplr.models], ids=lambda package: package.__name__)
def test_no_module_takes_the_place_of_a_public_name(package: ModuleType) -> None:
    """Importing a module puts it into its package, there over a function of the same name."""
    hidden = [name for name in package.__all__ if f"{package.__name__}.{name}" in MODULES]
    assert all(isinstance(getattr(package, name), ModuleType) for name in hidden), hidden


# --- the walk of a call ----------------------------------------------------------------------

# These call back what stands above them: a block of work, or the function that is recorded.
CALL_BACK = ("parallel.py", "provenance.py", "progress/__init__.py")


def walks(**options: Any) -> set[tuple[str, ...]]:
    """The files of the package from `lplr.compress` down to each call inside, neighbours once."""
    A = lplr.datasets.synthetic(60, 40, "power", exponent=1.0, rng=0)
    lplr.compress(A, rng=0, **options)  # what is imported on first use
    stacks = set()

    def watch(frame: FrameType | None, event: str, _: object) -> None:
        files = []
        while event == "call" and frame is not None:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        stacks.add(tuple(reversed(files)))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        lplr.compress(A, rng=0, **options)
    finally:
        sys.setprofile(before)
    own = {str(path): str(path.relative_to(PACKAGE)) for path in MODULES.values()}
    inside = ([own[file] for file in stack if file in own] for stack in stacks)
    return {
        tuple(file for file, _ in groupby(file for file in stack if file not in CALL_BACK))
        for stack in inside
    }


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"bits_per_entry": 1}, "low-rank"),
        ({"bits_per_entry": 0.3, "hessian": np.linspace(1, 5, 40)}, "low-rank"),
        ({"bits_per_entry": 3, "effort": "best"}, "backbone + low-rank"),
    ],
)
def test_compress_enters_no_room_twice_on_the_way_down(
    options: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")  # all calls are in this thread
    found = walks(**options)
    assert len(found) > 50
    rooms = {room for walk in found for room in (file.split("/")[0] for file in walk)}
    assert {"algorithms", "planning", "coding", "matrices", "quantizers", "linalg"} <= rooms
    for walk in found:
        entered = [name for name, _ in groupby(file.split("/")[0] for file in walk)]
        assert len(set(entered)) == len(entered), walk
        # A packed matrix asks its parts through what all packed matrices share.
        shared = ("matrices/base.py", "matrices/decoded.py")
        files = [file for file in walk if file not in shared]
        assert len(set(files)) == len(files), walk
