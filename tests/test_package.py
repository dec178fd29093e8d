"""The package as a whole: wheel, metadata, import cost, data folder, docstrings."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lplr

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
PUBLIC_MODULES = (
    "lplr",
    "lplr.datasets",
    "lplr.exceptions",
    "lplr.inputs",
    "lplr.models",
    "lplr.theory",
    "lplr.theory.bounds",
)


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=os.environ | env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- wheel -----------------------------------------------------------------------------------


def _copy_sources(to: Path) -> None:
    """What git tracks of the package, so that the build leaves nothing in the checkout."""
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "build", "dist", "demo")
    shutil.copytree(ROOT, to, symlinks=True, ignore=skip)


def test_wheel(tmp_path: Path) -> None:
    # By way of the source distribution, as a package index would get it; offline.
    _copy_sources(tmp_path / "source")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, tmp_path / "source")
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(installed)

    assert {name.split("/")[0] for name in names} == {"lplr", f"lplr-{lplr.__version__}.dist-info"}
    folders = [path.resolve() for path in (ROOT / "lplr", ROOT / "kernels", DATA)]
    expected = {"lplr/py.typed"}
    for folder in folders:
        prefix = "lplr" if folder.name == "lplr" else f"lplr/{folder.name}"
        for path in [*folder.rglob("*.py"), *folder.rglob("quantizers/*.npz")]:
            expected.add(f"{prefix}/{path.relative_to(folder).as_posix()}")
    expected |= {f"lplr/data/{path.name}" for path in DATA.iterdir() if path.is_file()}
    assert {name for name in names if name.startswith("lplr/")} == expected

    # Imported from where it was unpacked, far from the checkout; data and kernels are found.
    script = (
        "import json, lplr, lplr.kernels, lplr.datasets as d\n"
        "shapes = [d.layer(name).W.shape for name in d.layer_names()]\n"
        "shapes += [d.fashion_mnist('test', subset='small').images.shape]\n"
        "shapes += [d.text_embeddings().embeddings.shape]\n"
        "print(json.dumps([lplr.__file__, lplr.kernels.__file__, shapes]))"
    )
    found = json.loads(run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=str(installed)))
    assert found[0] == str(installed / "lplr" / "__init__.py")
    assert found[1] == str(installed / "lplr" / "kernels" / "__init__.py")
    assert found[2] == [[384, 384], [384, 1536], [1536, 576], [1000, 784], [4224, 384]]

    dist_info = installed / f"lplr-{lplr.__version__}.dist-info"
    metadata = Parser().parsestr((dist_info / "METADATA").read_text(encoding="utf-8"))
    _check_metadata(metadata)
    entry_points = (dist_info / "entry_points.txt").read_text()
    assert "lplr = lplr.__main__:main" in entry_points


def _check_metadata(metadata: Message) -> None:
    assert metadata["Name"] == "lplr"
    assert metadata["Version"] == lplr.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause AND Apache-2.0 AND MIT"
    requirements = metadata.get_all("Requires-Dist", [])
    assert all(re.fullmatch(r'[\w.-]+>=[\w.]+(; extra == "\w+")?', r) for r in requirements)
    core = {re.split(">=", r)[0] for r in requirements if "extra" not in r}
    assert core == {
        "h5py", "joblib", "matplotlib", "numba", "numpy", "scikit-learn", "scipy", "threadpoolctl",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["data", "kernels"])
def test_symlinks_serve_a_bare_checkout(name: str) -> None:
    assert os.readlink(ROOT / "lplr" / name) == f"../{name}"
    place = importlib.import_module(f"lplr.{name}").__file__
    assert place is not None
    assert Path(place).resolve() == ROOT / name / "__init__.py"


# --- import cost -----------------------------------------------------------------------------


def test_import_is_light() -> None:
    script = "import sys, lplr; print(*{name.partition('.')[0] for name in sys.modules})"
    heavy = {"numpy", "scipy", "numba", "matplotlib", "sklearn", "h5py", "joblib"}
    assert heavy.isdisjoint(run(sys.executable, "-c", script).split())


# --- citation, data --------------------------------------------------------------------------


def test_citation() -> None:
    run(Path(sys.executable).with_name("cffconvert"), "--validate")
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {lplr.__version__}\n" in text
    assert "arXiv:2310.11028" in text
    assert "arXiv:2405.18886" in text


def test_data_folder_is_described() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)
    digests = {name: digest for digest, name in lines}
    files = {path for path in DATA.iterdir() if path.is_file()}
    for path in files - {DATA / "README.md"}:
        assert f"`{path.name}`" in readme
    arrays = {path for path in files if path.suffix == ".npz"}
    assert digests.keys() == {path.name for path in arrays}
    for path in arrays:
        content = path.read_bytes()
        assert digests[path.name] == hashlib.sha256(content).hexdigest()
        assert f"| {len(content)} |" in readme
    assert sum(path.stat().st_size for path in files) < 12e6


# --- docstrings ------------------------------------------------------------------------------


def _module_names() -> list[str]:
    """Every module but the kernels, whose contract is theirs, and the data folder's."""
    folder = ROOT / "lplr"
    paths = (path.relative_to(ROOT) for path in folder.rglob("*.py"))
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return sorted(n for n in names if not n.startswith(("lplr.kernels", "lplr.data.")))


def _callables(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes of a module's ``__all__``, and the public methods of the classes."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not callable(value):
            continue
        yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                function = getattr(member, "__func__", member)
                if not attribute.startswith("_") and inspect.isfunction(function):
                    yield f"{module.__name__}.{name}.{attribute}", function


def _parameters_in_docstring(value: Any) -> list[str] | None:
    """Names in the section Parameters or None without one."""
    doc = inspect.cleandoc(value.__doc__ or "")
    section = re.search(r"^Parameters\n-{10}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", doc, re.M | re.S)
    if section is None:
        return None
    heads = re.findall(r"^(\S[^:\n]*)(?: :.*)?$", section[1], re.M)
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def _parameters_in_signature(value: Any) -> list[str]:
    names = inspect.signature(value).parameters
    is_method = inspect.isfunction(value) and "." in value.__qualname__
    return [name for name in names if not (is_method and name in ("self", "cls"))]


def _is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


@pytest.mark.parametrize("module", _module_names())
def test_documented_parameters_are_the_signature(module: str) -> None:
    for name, value in _callables(importlib.import_module(module)):
        documented = _parameters_in_docstring(value)
        if documented is not None:
            assert documented == _parameters_in_signature(value), name


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_public_objects_are_documented(module: str) -> None:
    for name, value in _callables(importlib.import_module(module)):
        doc = inspect.cleandoc(value.__doc__ or "")
        assert doc, name
        if _is_error(value):
            continue
        if _parameters_in_signature(value):
            assert _parameters_in_docstring(value) is not None, name
        if "." not in value.__qualname__:
            assert "\nExamples\n--------\n" in doc, name
            assert ">>> " in doc, name


def test_public_names_resolve_and_are_listed() -> None:
    for name in getattr(lplr, "__all__", ()):
        assert getattr(lplr, name) is not None
        assert name in dir(lplr)
