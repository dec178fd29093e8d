"""Tables as files: what is written comes back, pandas reads it, no spreadsheet runs a cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lplr
from lplr.exceptions import CorruptFileError, InputError, StorageError
from lplr.selftest.forge import forge
from lplr.storage import atomic
from lplr.storage.table import meta_path, read_table, write_table

ROWS: list[dict[str, Any]] = [
    {"name": 'é, “quoted” "q"\r\nnext\u2028', "count": 1, "error": 0.1 + 0.2, "ok": True},
    {"name": "", "count": -(2**63), "error": float("inf"), "ok": None},
    {"name": None, "error": float("-inf")},
    {},
]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    attrs = {"seed": 0, "é": [1.5, None]}
    write_table(path, ROWS, attrs=attrs)
    assert read_table(path) == (ROWS, attrs)
    assert sorted(os.listdir(tmp_path)) == ["t.jsonl", "t.meta.json"]
    write_table(path, [], overwrite=True)
    assert read_table(path) == ([], attrs)


_CELLS = st.none() | st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False)


@given(st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _CELLS)))
def test_any_table_comes_back(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("table") / "t.jsonl"
    write_table(path, rows)
    assert repr(read_table(path)[0]) == repr(rows)


def test_pandas_reads_both(tmp_path: Path) -> None:
    for suffix in ("jsonl", "csv"):
        write_table(tmp_path / f"t.{suffix}", ROWS[:3])
    lines = pd.read_json(tmp_path / "t.jsonl", lines=True)
    table = pd.read_csv(tmp_path / "t.csv")
    for frame in (lines, table):
        assert list(frame.columns) == ["name", "count", "error", "ok"]
        # Releases of pandas before 3.1 may miss the last binary digit.
        assert frame["error"].tolist() == pytest.approx([r["error"] for r in ROWS[:3]], rel=5e-16)
        assert frame["name"][0].startswith("é, “quoted”")
    assert np.isnan(lines["count"][2])


def test_numpy_scalars(tmp_path: Path) -> None:
    row = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.str_("x")}
    write_table(tmp_path / "t.jsonl", [row])
    assert (tmp_path / "t.jsonl").read_text() == '{"a": 0.5, "b": 3, "c": true, "d": "x"}\n'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_spreadsheet_runs_nothing(start: str, tmp_path: Path) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    write_table(tmp_path / "t.csv", [{"note": text, "x": -1.5}])
    cells = pd.read_csv(tmp_path / "t.csv").iloc[0].tolist()
    assert cells == [f"'{text}", -1.5]  # and numbers stay numbers


@pytest.mark.parametrize(
    "rows", [[{"a": [1]}], [{1: 1}], [1], [{"a": 1j}], [{"a": np.zeros(2)}], [{"a": b"x"}]]
)
def test_bad_rows(rows: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^rows\[0\]"):
        write_table(tmp_path / "t.jsonl", rows)
    assert not os.listdir(tmp_path)


def test_bad_paths_and_attrs(tmp_path: Path) -> None:
    for path in (tmp_path / "t.xlsx", tmp_path / "t", 3):
        with pytest.raises(InputError, match="path"):
            write_table(path, [])  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no such file") as caught:
        read_table(tmp_path / "none.jsonl")
    assert isinstance(caught.value, InputError)
    with pytest.raises(InputError, match=r"only \.jsonl"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="HDF5 are no longer read"):
        read_table(tmp_path / "old.h5")
    with pytest.raises(InputError, match="attrs"):
        write_table(tmp_path / "t.jsonl", [], attrs={"x": object()})
    assert not os.listdir(tmp_path)


def test_the_old_files_or_the_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.jsonl"
    write_table(path, [{"a": 1}], attrs={"seed": 0})
    for missing in (path, meta_path(path)):  # either file is a reason to refuse
        kept = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file != missing}
        missing.rename(tmp_path.parent / "aside")
        with pytest.raises(FileExistsError, match="overwrite"):
            write_table(path, [{"a": 2}], attrs={"seed": 1})
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept
        (tmp_path.parent / "aside").rename(missing)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_compare", full)
    with pytest.raises(StorageError, match="No space"):
        write_table(path, [{"a": 2}], attrs={"seed": 1}, overwrite=True)
    assert read_table(path) == ([{"a": 1}], {"seed": 0})


@pytest.mark.parametrize(
    "text", [b'{"a": 1}\n{"a"', b'{"a": 1}\n{"a"\n', b"[1]\n", b"\xff\n", b"\x89HDF\r\n\x1a\n"]
)
def test_damage(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(text)
    with pytest.raises(CorruptFileError, match=r"t\.jsonl"):
        read_table(tmp_path / "t.jsonl")


def test_tables_of_the_first_version_are_refused(tmp_path: Path) -> None:
    path = forge(tmp_path, lambda file: file.attrs.modify("encoding-type", np.bytes_("table")))
    with pytest.raises(CorruptFileError, match=r"table of results of lplr 0\.1"):
        lplr.load(path)
