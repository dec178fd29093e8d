"""Tables as files: what is written comes back, damage is refused, no spreadsheet runs a cell."""

from __future__ import annotations

import csv
import io
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lplr
from lplr.exceptions import CorruptFileError, InputError, StorageError, UnsafeFileError
from lplr.storage import atomic, container, hdf5
from lplr.storage.table import read_table, write_table

ROWS: list[dict[str, Any]] = [
    {"name": 'é, “quoted” "q"\r\nnext', "count": 1, "error": 0.1, "ok": True, "all-missing": None},
    {"name": "", "count": -(2**63), "error": float("nan"), "ok": None},
    {"name": "=HYPERLINK(1)", "count": 2**63 - 1, "error": None, "ok": False},
    {"name": None, "error": float("-inf")},
    {"name": "1e5", "error": 5e-324},
    {},
]
SUFFIXES = ("h5", "hdf5", "csv")


def plain(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows by their repr: NaN equals itself, and 1, 1.0 and True differ; None is absent."""
    return [{k: repr(v) for k, v in row.items() if v is not None} for row in rows]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    before = [dict(row) for row in ROWS]
    write_table(path, ROWS, attrs={"seed": 0, "é": [1.5, None]})
    rows, attrs = read_table(path)
    assert plain(rows) == plain(ROWS) == plain(before)
    assert [list(row) for row in rows] == [list(ROWS[0])] * len(ROWS)
    assert all(row["all-missing"] is None for row in rows)
    assert attrs == ({} if suffix == "csv" else {"seed": 0, "é": [1.5, None]})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_tables(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    write_table(path, [])
    assert read_table(path) == ([], {})
    write_table(path, [{"a": None}, {"a": None}], overwrite=True)
    assert read_table(path)[0] == [{"a": None}, {"a": None}]
    with pytest.raises(InputError, match="no row has a column"):
        write_table(path, [{}], overwrite=True)


_CELLS = {
    "str": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.sampled_from(["=1", "'", "''=", "-5", "1.", "+inf", "NaN", "True", "\ufeff", "\r", "1_0"]),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "bool": st.booleans(),
}


@st.composite
def tables(draw: Any) -> list[dict[str, Any]]:
    names = draw(st.lists(st.from_regex(r"_[a-zA-Z0-9_-]{0,4}", fullmatch=True), unique=True))
    kinds = {name: st.none() | _CELLS[draw(st.sampled_from(sorted(_CELLS)))] for name in names}
    return draw(st.lists(st.fixed_dictionaries(kinds), max_size=5)) if names else []


@settings(max_examples=60)
@given(rows=tables())
def test_any_table_comes_back(rows: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("tables")
    for suffix in ("h5", "csv"):
        write_table(folder / f"t.{suffix}", rows)
        assert plain(read_table(folder / f"t.{suffix}")[0]) == plain(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numpy_scalars_and_mixed_numbers(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    row = {"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True), "d": np.str_("x"), "e": 1}
    write_table(path, [row, {"e": 0.5}])
    found = read_table(path)[0]
    assert plain(found[:1]) == plain(
        [{"a": float(np.float32(0.1)), "b": 3, "c": True, "d": "x", "e": 1.0}]
    )
    assert repr(found[1]["e"]) == "0.5"


def test_h5py_opens_it_as_it_is(tmp_path: Path) -> None:
    write_table(tmp_path / "t.h5", ROWS, attrs={"seed": 0})
    with h5py.File(tmp_path / "t.h5") as file:
        assert file["name"].asstr()[0] == ROWS[0]["name"]
        assert file["count"][:3].tolist() == [row["count"] for row in ROWS[:3]]
        assert file["error"].dtype == np.float64
        assert file["error"][0] == 0.1
        assert file["missing/ok"][:].tolist() == [0, 1, 0, 1, 1, 1]
        assert file.attrs["rows"] == len(ROWS)
        assert file.attrs["attrs"] == b'{"seed":0}'


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_table(tmp_path / name, ROWS, attrs={"b": 1, "a": 2})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_csv_is_rfc_4180(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"a": 'x,"y"\r\n', "b": 0.1 + 0.2, "c": True}, {"b": None}])
    assert (tmp_path / "t.csv").read_bytes() == (
        b'a,b,c\r\n"x,""y""\r\n",0.30000000000000004,true\r\n,,\r\n'
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_spreadsheet_runs_nothing(start: str, tmp_path: Path) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    write_table(tmp_path / "t.csv", [{"note": text}])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        cell = list(csv.reader(file))[1][0]
    assert cell == f"'{text}"
    assert read_table(tmp_path / "t.csv")[0] == [{"note": text}]


def test_numbers_stay_numbers_in_csv(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"x": -1.5, "n": -3}])
    assert (tmp_path / "t.csv").read_text() == "x,n\n-1.5,-3\n"


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"a": "x"}, {"a": 1}], "mixes int and str"),
        ([{"a": True}, {"a": 1}], "mixes bool and int"),
        ([{"a": 2**53 + 1}, {"a": 0.5}], "beyond 2"),
        ([{"a": 2**63}], "64 bits"),
        ([{"a": [1]}], "holds list"),
        ([{"a": "x\0"}], "NUL"),
        ([{"a": "\ud800"}], "not valid text"),
        ([{"a": "x" * 40000}], "characters"),
        ([{"a b": 1}], "name a column"),
        ([{"../a": 1}], "name a column"),
        ([{"missing": 1}], "name a column"),
        ([{1: 1}], "name a column"),
        ([1], "must be a dict"),
        ({"a": 1}, "list of dicts"),
    ],
)
@pytest.mark.parametrize("suffix", ["h5", "csv"])
def test_bad_rows(rows: Any, match: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        write_table(tmp_path / f"t.{suffix}", rows)
    assert not os.listdir(tmp_path)


def test_bad_paths_and_attrs(tmp_path: Path) -> None:
    for path in (tmp_path / "t.xlsx", tmp_path / "t", 3):
        with pytest.raises(InputError, match="path"):
            write_table(path, [])  # type: ignore[arg-type]
        with pytest.raises(InputError, match="path"):
            read_table(path)  # type: ignore[arg-type]
    for suffix in ("h5", "csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_table(tmp_path / f"none.{suffix}")
        for attrs in ({"x": float("nan")}, {"x": object()}, {"x": "y" * 70000}, [1]):
            with pytest.raises(InputError, match="attrs"):
                write_table(tmp_path / f"t.{suffix}", [], attrs=attrs)  # type: ignore[arg-type]
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", ["h5", "csv"])
def test_the_old_file_or_the_new_one(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"t.{suffix}"
    write_table(path, [{"a": 1}])
    old = path.read_bytes()
    with pytest.raises(InputError, match="overwrite"):
        write_table(path, [{"a": 2}])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_compare", full)
    with pytest.raises(StorageError, match="No space"):
        write_table(path, [{"a": 2}], overwrite=True)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]
    monkeypatch.undo()
    write_table(path, [{"a": 2}], overwrite=True)
    assert read_table(path)[0] == [{"a": 2}]


def test_any_damage_of_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_table(path, ROWS)
    good = path.read_bytes()
    rand = random.Random(0)
    for _ in range(200):
        at = rand.randrange(len(good))
        bad = bytearray(good)
        bad[at] ^= 1 << rand.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(CorruptFileError):
            read_table(path)
    for length in (0, 7, 511, 512, 700, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(CorruptFileError):
            read_table(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a,b\r\n1,2",  # truncated in a cell or behind it: nobody can tell
        b"a,b\r\n1\r\n",
        b"a,b\r\n1,2,3\r\n",
        b"a,a\r\n1,2\r\n",
        b'a\r\n"x\r\n',
        b'a\r\n"x"y\r\n',
        b"a\r\n\xff\r\n",
        b"a\r\nx\r\n1\r\n",
        b"a b\r\n1\r\n",
        b"a\r\n99999999999999999999\r\n9\r\ntrue\r\n",
        b"\x89HDF\r\n\x1a\n",
    ],
)
def test_csv_that_is_no_table(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(CorruptFileError, match=r"t\.csv"):
        read_table(tmp_path / "t.csv")


def test_csv_of_other_programs(tmp_path: Path) -> None:
    """A byte order mark, bare line feeds, upper case, and numbers in other notations."""
    (tmp_path / "t.csv").write_bytes("\ufeffa,b,c\n1E3,TRUE,+7\n.5,False,\n".encode())
    assert plain(read_table(tmp_path / "t.csv")[0]) == plain(
        [{"a": 1000.0, "b": True, "c": 7}, {"a": 0.5, "b": False}]
    )


def _edited(path: Path, edit: Callable[[hdf5.Node], object]) -> None:
    """The table of ``path``, changed, under a digest that is right."""
    root = container.read_tree(path, lambda node: node)
    edit(root)
    container.write_tree(path, root, overwrite=True)


@pytest.mark.parametrize(
    "edit",
    [
        lambda root: root.attributes.update({"encoding-version": 2}),
        lambda root: root.attributes.update(rows=5),
        lambda root: root.attributes.update(rows=-1),
        lambda root: root.attributes.update(rows=1.0),
        lambda root: root.attributes.update(columns=b"{}"),
        lambda root: root.attributes.update(columns=b"["),
        lambda root: root.attributes.update(columns=b'{"a":"int","b":"int","c":"bool"}'),
        lambda root: root.attributes.update(columns=b'{"a":"str","b":["x"],"c":"bool"}'),
        lambda root: root.attributes.pop("columns"),
        lambda root: root.arrays.pop("a"),
        lambda root: root.arrays.update(a=np.array([b"\xff", b"x"])),
        lambda root: root.arrays.update(a=np.array([[b"x"], [b"x"]])),
        lambda root: root.arrays.update(b=np.zeros(2, np.int32)),
        lambda root: root.arrays.update(c=np.array([0, 2], np.uint8)),
        lambda root: root.groups.pop("missing"),
        lambda root: root.groups["missing"].attributes.update(rows=3),
        lambda root: root.groups["missing"].arrays.update(b=np.array([0, 2], np.uint8)),
        lambda root: root.groups["missing"].attributes.update({"encoding-type": b"quantized"}),
        lambda root: root.groups["missing"].groups.update(x=hdf5.Node()),
        lambda root: (root.arrays.clear(), root.attributes.update(columns=b"{}", rows=2**30)),
    ],
)
def test_forged_tables(edit: Callable[[hdf5.Node], object], tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_table(path, [{"a": "x", "b": 1, "c": True}, {"a": "y"}])
    _edited(path, lambda root: None)
    assert len(read_table(path)[0]) == 2
    _edited(path, edit)
    with pytest.raises(CorruptFileError):
        read_table(path)


def test_tables_and_artefacts_are_told_apart(tmp_path: Path) -> None:
    write_table(tmp_path / "t.h5", ROWS, attrs={"seed": 0})
    with pytest.raises(CorruptFileError, match="read_table"):
        lplr.load(tmp_path / "t.h5")
    lplr.save(tmp_path / "q.h5", lplr.quantize(np.eye(4), bits=2))
    with pytest.raises(CorruptFileError, match="lplr.load"):
        read_table(tmp_path / "q.h5")
    found = container.inspect(tmp_path / "t.h5")
    assert found["attrs"] == {"seed": 0}
    assert found["groups"]["/"]["datasets"]["error"]["shape"] == [len(ROWS)]


def test_artefacts_hold_no_text(tmp_path: Path) -> None:
    """Only tables may: what a factor does not need, a forged one shall not have either."""
    path = tmp_path / "q.h5"
    lplr.save(path, lplr.quantize(np.eye(4), bits=2))
    _edited(path, lambda root: root.arrays.update(note=np.array([b"x"])))
    with pytest.raises(UnsafeFileError, match="type"):
        lplr.load(path)


def test_numpy_reads_the_csv(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"a": 1, "b": 0.5}, {"a": 2, "b": math.pi}])
    text = io.StringIO((tmp_path / "t.csv").read_text())
    assert np.loadtxt(text, delimiter=",", skiprows=1).tolist() == [[1, 0.5], [2, math.pi]]
