"""Compiling kernels: whatever Numba's cache does, and without compilation."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import fresh
import numba
import numpy as np
import pytest

import lplr.kernels.jit
from lplr.cli.main import main
from lplr.exceptions import LplrWarning
from lplr.kernels.project_trellis import multiply

SCRIPT = """
import os, resource
import numpy as np
if "FILE_SIZE" in os.environ:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["FILE_SIZE"]),) * 2)
from lplr.kernels.scalar import round_levels, round_uniform
x, codes = np.float32([-1, 0.1, 2]), np.empty((2, 3), np.uint8)
round_levels(x, np.float32([0, 1, 3]), codes[0])
round_uniform(x, np.float32([]), 3, codes[1])
print(codes.tolist())
"""
KERNEL = """
from lplr.kernels.jit import kernel
@kernel
def double(x):
    return x + x
"""
WARNING = "LplrWarning: the cache of compiled kernels in {} cannot be used ("


def compute(warnings: int, **environment: str | Path | None) -> str:
    """Run the script; what it wrote to stderr."""
    environment["NUMBA_CACHE_LOCATOR_CLASSES"] = None
    found = fresh.run("-W", "always", "-c", SCRIPT, **environment)
    assert found.stdout == "[[0, 1, 2], [0, 2, 3]]\n"
    assert found.stderr.count("the cache of compiled kernels") == warnings, found.stderr
    return found.stderr


def cut(size: int, pattern: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.write_bytes(path.read_bytes()[:size])

    return damage


def block(folder: Path) -> None:
    """Like files of another user: they can be neither read nor written."""
    for path in folder.glob("*.nbi"):
        path.unlink()
        path.mkdir()


def doubled(source: Path, folder: Path, patch: pytest.MonkeyPatch) -> int:
    """Import a kernel anew and call it; how often the cache in a folder gave it."""
    patch.setattr(numba.config, "CACHE_DIR", str(folder))
    patch.setattr(lplr.kernels.jit, "troubles", [])  # as in a new process
    double = runpy.run_path(str(source))["double"]
    assert double(21) == 42
    return sum(double.stats.cache_hits.values())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a kernel and the cache of it."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "double.py").write_text(KERNEL)
    with pytest.MonkeyPatch.context() as patch:
        hits = [doubled(folder / "double.py", folder / "cache", patch) for _ in range(2)]
    assert hits == [0, 1]
    return folder


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        (cut(0, "*"), True),
        (cut(60, "*.nbi"), True),
        (cut(500, "*.nbc"), True),
        (block, False),
    ],
    ids=["emptied", "cut index", "cut data", "blocked"],
)
def test_damaged_cache(
    compiled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    mended: bool,
) -> None:
    source, cache = compiled / "double.py", tmp_path / "cache"
    (folder,) = shutil.copytree(compiled / "cache", cache).iterdir()
    damage(folder)
    with pytest.warns(LplrWarning) as warned:
        assert doubled(source, cache, monkeypatch) == 0
    assert len(warned) == 1
    assert WARNING.format(folder) in f"LplrWarning: {warned[0].message}"
    if mended:
        assert doubled(source, cache, monkeypatch) == 1
    else:
        with pytest.warns(LplrWarning):
            assert doubled(source, cache, monkeypatch) == 0


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does."""
    found = compute(1, NUMBA_CACHE_DIR=tmp_path, FILE_SIZE="1000")
    (folder,) = tmp_path.iterdir()
    assert WARNING.format(folder) in found
    compute(0, NUMBA_CACHE_DIR=tmp_path)


def test_no_folder_for_the_cache(tmp_path: Path) -> None:
    """A read-only installation for a user without a home."""
    source = Path(lplr.__file__).parent
    kernels = shutil.copytree(
        source / "kernels", tmp_path / "lplr/kernels", ignore=lambda *_: ["__pycache__"]
    )
    for name in ("__init__.py", "_version.py", "exceptions.py"):
        shutil.copy(source / name, tmp_path / "lplr")
    (kernels / "__pycache__").touch()
    (tmp_path / "here").mkdir()
    environment = {"PYTHONPATH": tmp_path, "HOME": "~", "XDG_CACHE_HOME": None}
    found = compute(1, cwd=tmp_path / "here", NUMBA_CACHE_DIR=None, **environment)
    assert WARNING.format(kernels / "__pycache__") in found
    compute(1, cwd=tmp_path / "here", NUMBA_CACHE_DIR="~/cache", **environment)
    assert list((tmp_path / "here").iterdir()) == []


def test_cache_notices_a_change_in_the_instructions_of_another_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locator = multiply._cache._impl.locator
    before = locator.get_source_stamp()
    monkeypatch.setattr(lplr.kernels.jit, "_contents", lambda path: f"changed {Path(path).stem}")
    files = ["project_tile", "trellis_vectors"]
    assert locator.get_source_stamp() == (before[0], *(f"changed {name}" for name in files))


def test_doctor_says_how_to_mend_the_cache(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lplr.kernels.jit, "troubles", [("/cache", "EOFError: Ran out of input")])
    assert main(["doctor"]) == 3
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("failed")]
    for part in ("kernel cache", "/cache", "Ran out of input", "NUMBA_CACHE_DIR", "*.nbi"):
        assert part in line


def test_plain_python_gives_what_compiled_kernels_give(tmp_path: Path) -> None:
    """Every kernel, with its intrinsics, integer arithmetic and read-only arrays."""
    program = Path(__file__).with_name("plain_kernels.py")
    found = []
    for switch in "01":
        path = tmp_path / f"{switch}.npz"
        fresh.run("-W", "error", program, path, NUMBA_DISABLE_JIT=switch, LPLR_NUM_THREADS="1")
        with np.load(path) as arrays:
            found.append(dict(arrays))
    compiled, plain = found
    assert plain.pop("idle").tolist() == []
    assert len(compiled.pop("idle")) > 30  # as Python, that is
    assert plain.keys() == compiled.keys()
    for name, expected in compiled.items():
        # Compiled products fuse multiplications with additions: 2.4e-7 apart at most when this
        # was written, of which ten times is allowed. All the rest is equal.
        bound = 2.4e-6 * np.abs(expected).max() if "product" in name else 0
        assert np.abs(plain[name].astype(float) - expected).max() <= bound, name
