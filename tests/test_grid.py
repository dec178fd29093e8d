"""The grid, its table on disk, and how it goes on where it stopped."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lplr
from lplr import datasets
from lplr.evaluation import grid as grid_module
from lplr.evaluation.baselines import METHODS, Method
from lplr.evaluation.grid import COLUMNS, Grid, remaining, run_grid
from lplr.evaluation.measure import Evaluator
from lplr.evaluation.results_file import ResultsFile, describe
from lplr.evaluation.tasks import SUITES, Queries, Task, load_suite
from lplr.exceptions import CorruptFileError, InputError
from lplr.storage.table import read_table, write_table
from lplr.theory import rate_distortion_limit

NAMES = ["feedback", "naive", "TruncatedSVD int8"]


@pytest.fixture(scope="module")
def rows_task() -> Task:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 40))
    labels = rng.integers(0, 3, 150)
    A = (centres[labels] + 0.7 * rng.standard_normal((150, 40))).astype(np.float32)
    queries = Queries(labels[:120], A[120:], labels[120:], 5, "cosine")
    return Task("clusters", A[:120], queries=queries)


@pytest.fixture(scope="module")
def image_task() -> Task:
    return Task("phantom", datasets.shepp_logan(48).astype(np.float32), is_image=True)


def small(*tasks: Task, **changes: Any) -> Grid:
    known: dict[str, Any] = {"methods": NAMES, "budgets": [0.5, 1.0], "seeds": [0, 1]}
    return Grid(tasks, **{**known, **changes})


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs from run to run."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "peak_mb")} for row in rows]


# --- rows ------------------------------------------------------------------------------------


def test_one_row_a_value(rows_task: Task, image_task: Task) -> None:
    rows = run_grid(small(rows_task, image_task))
    assert all(tuple(row) == COLUMNS for row in rows)
    ok = [row for row in rows if row["status"] == "ok"]
    skipped = [row for row in rows if row["status"] == "skipped"]
    # Nothing fails, and all that is skipped is naive quantization at half a bit, once a task.
    assert len(ok) + len(skipped) == len(rows)
    reasons = [(r["dataset"], r["method"], r["budget"], r["metric"]) for r in skipped]
    known = ("ssim",) if not importlib.util.find_spec("skimage") else ()
    reasons = [reason for reason in reasons if reason[3] not in known]
    assert reasons == [("clusters", "naive", 0.5, None), ("phantom", "naive", 0.5, None)]
    assert all("whole bits" in r["note"] for r in skipped if r["metric"] is None)
    # Two seeds where there is something random, and all metrics for each.
    count: dict[tuple[str, str, float], list[str]] = {}
    for row in ok:
        count.setdefault((row["dataset"], row["method"], row["budget"]), []).append(row["metric"])
    knn = ["relative error", "accuracy", "recall@10", "cosine distortion"]
    assert count["clusters", "feedback", 1.0] == 2 * knn
    assert count["clusters", "naive", 1.0] == knn
    assert count["clusters", "uncompressed", 32.0] == ["accuracy", "recall@10"]
    assert set(count["phantom", "feedback", 0.5]) >= {"relative error", "psnr"}


def test_values_are_those_of_the_result(rows_task: Task) -> None:
    seen: dict[Any, Any] = {}
    grid = small(rows_task, budgets=[1.0])
    rows = run_grid(grid, see=lambda run, f: seen.__setitem__(run.key, f))
    for row in rows:
        if row["family"] == "reference" or row["metric"] != "relative error":
            continue
        f = seen[row["dataset"], row["method"], row["budget"], row["seed"]]
        assert row["value"] == f.relative_error(rows_task.A)
        assert (row["stored_bytes"], row["bits_per_entry"]) == (f.nbytes, f.bits_per_entry)
        assert row["shape"] == "120 x 40"
        assert row["seconds"] > 0
        assert row["peak_mb"] >= 0
    again = METHODS["feedback"].run(rows_task.A, 1.0, rng=1).relative_error(rows_task.A)
    assert again in [row["value"] for row in rows if row["seed"] == 1]


def test_what_stores_more_than_the_budget_says_so(rows_task: Task) -> None:
    rows = run_grid(small(rows_task, methods=["naive", "feedback"], budgets=[1.0], seeds=[0]))
    notes = {row["method"]: row["note"] for row in rows}
    # 8 bytes beside 600.
    assert notes["naive"] == "stores 1.3 % more than the budget"
    assert notes["feedback"] is None


def test_an_exact_image_has_no_psnr_but_a_note() -> None:
    task = Task("zeros and ones", np.eye(16, dtype=np.float32), is_image=True)
    rows = run_grid(small(task, methods=["naive"], budgets=[1.0], seeds=[0]))
    found = {row["metric"]: row for row in rows}
    assert found["relative error"]["value"] == 0
    assert (found["psnr"]["value"], found["psnr"]["status"]) == (None, "skipped")
    assert found["psnr"]["note"] == "is inf; the result is exact"


def test_layers_are_measured_under_their_hessian() -> None:
    W, H = datasets.layer("minilm_l2_query")[1:]
    task = Task("layer", W[:64, :96], hessian=H[:96, :96])
    rows = run_grid(small(task, methods=["compress", "naive"], budgets=[2.0], seeds=[0]))
    under = {r["method"]: r["value"] for r in rows if r["metric"] == "relative error under H"}
    # Only the first is told what H is.
    assert under["compress"] < 0.8 * under["naive"]


def test_matrices_are_read_one_at_a_time_and_what_cannot_run_says_why() -> None:
    def broken() -> Any:
        raise InputError("file: is damaged")

    arrays = {
        "bias": np.zeros(7), "nan": np.full((4, 4), np.nan), "text": np.array([["a", "b"]]),
        "tiny": np.eye(2), "zero": np.zeros((20, 30)), "half": np.eye(40, dtype=np.float16),
    }  # fmt: skip
    tasks = [Task(name, lambda A=A: A) for name, A in arrays.items()]
    grid = small(*tasks, Task("broken", broken), methods=["compress"], budgets=[2.0], seeds=[0])
    describe(grid, True, "compress")
    rows = {row["dataset"]: row for row in run_grid(grid)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "bias": "skipped", "nan": "failed", "text": "failed", "tiny": "skipped",
        "zero": "ok", "half": "ok", "broken": "failed",
    }  # fmt: skip
    assert rows["bias"]["note"] == "not a matrix: shape (7,)"
    assert rows["nan"]["note"].startswith("nan: has nan at (0, 0)")
    assert rows["broken"]["note"] == "file: is damaged"
    assert (rows["nan"]["shape"], rows["broken"]["shape"]) == ("4 x 4", "")  # what is known
    assert rows["zero"]["value"] == 0


def test_time_and_memory_are_those_of_the_compression(rows_task: Task) -> None:
    def compress(A: np.ndarray, bits: float, rng: int) -> Any:
        np.ones(10**7)  # 80 MB, gone again when the function returns
        return lplr.quantize(A, bits=4)

    def read() -> np.ndarray:
        np.ones(2 * 10**7)  # 160 MB that are not the compressor's
        return rows_task.A

    method = Method("own", "mine", compress, "codes")
    grid = Grid([Task("a", read), Task("b", read)], [method], [4.0], [0])
    # Twice: memory that the first one has freed counts for the second one as well.
    for row in run_grid(grid):
        assert row["seconds"] > 0
        if Path("/proc/self/clear_refs").exists():
            assert row["peak_mb"] == pytest.approx(80, abs=8)


def test_large_matrices_have_one_seed(rows_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "_LARGE", 1000)
    assert {run.seed for run in small(rows_task).runs()} == {0}


def test_a_method_that_breaks_leaves_a_row(
    rows_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(A: Any, bits: float, rng: int) -> Any:
        raise ZeroDivisionError("on purpose")

    method = replace(METHODS["naive"], run=broken)
    monkeypatch.setattr(grid_module, "METHODS", {**METHODS, "naive": method})
    rows = run_grid(small(rows_task, methods=["naive", "feedback"], budgets=[1.0], seeds=[0]))
    failed = [row for row in rows if row["status"] == "failed"]
    assert [(r["method"], r["note"]) for r in failed] == [
        ("naive", "ZeroDivisionError: on purpose")
    ]
    assert any(row["method"] == "feedback" and row["status"] == "ok" for row in rows)


def test_without_faiss_its_methods_are_named(
    rows_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("lplr.evaluation.measure.search_engine", lambda: "lplr")
    names = [name for name, method in METHODS.items() if method.family == "faiss"]
    rows = run_grid(small(rows_task, methods=names, budgets=[2.0], seeds=[0]))
    skipped = {row["method"]: row["note"] for row in rows if row["status"] == "skipped"}
    assert skipped.keys() == set(names)
    assert all("pip install 'lplr[bench]'" in note for note in skipped.values())


def test_rows_stored_as_zero_have_no_cosine() -> None:
    A = np.random.default_rng(0).standard_normal((60, 30)).astype(np.float32)
    A[0] *= 1e-4
    queries = Queries(np.arange(60) % 2, A[1:20], np.arange(1, 20) % 2, 3, "cosine")
    task = Task("short", A, queries=queries)
    q = lplr.quantize(A, bits=3, quantizer="lloyd-max")
    f = replace(q, scale=np.where(np.arange(60)[:, None] == 0, 0, q.scale).astype(np.float32))
    found = Evaluator(task).measure(replace(f, offset=None))
    notes = {m["metric"]: m["note"] for m in found if m["value"] is None}
    assert notes.keys() == {"accuracy", "recall@10", "cosine distortion"}
    assert all("zero" in str(note) for note in notes.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "methods: is empty"),
        ({"methods": ["none"]}, "methods: must be one of"),
        ({"budgets": [0.0]}, "budgets: must be"),
        ({"budgets": [float("nan")]}, "budgets"),
        ({"seeds": [-1]}, "seeds"),
        ({"tasks": []}, "tasks: is empty"),
    ],
)
def test_bad_grids(rows_task: Task, changes: dict[str, Any], message: str) -> None:
    known: dict[str, Any] = {
        "tasks": [rows_task], "methods": NAMES, "budgets": [1.0], "seeds": [0],
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        Grid(**{**known, **changes})


# --- resuming --------------------------------------------------------------------------------


class StopError(Exception):
    """Stands for an interrupt."""


def test_goes_on_where_it_stopped(rows_task: Task, tmp_path: Path) -> None:
    grid = small(rows_task)
    whole = run_grid(grid)
    seen: list[Any] = []

    def stop(run: Any, f: Any) -> None:
        seen.append(run.key)
        if len(seen) == 4:
            raise StopError

    attrs = describe(grid, True, "feedback")
    file = ResultsFile(tmp_path / "r.jsonl")
    with pytest.raises(StopError):
        run_grid(grid, file.resume(attrs), save=file.save, see=stop)
    again = ResultsFile(tmp_path / "r.csv")  # by its other name
    rows = again.resume(attrs)
    assert 0 < len(rows) < len(whole)
    assert 0 < remaining(grid, rows) < remaining(grid, [])
    later: list[Any] = []
    rows = run_grid(grid, rows, save=again.save, see=lambda run, f: later.append(run.key))
    assert comparable(rows) == comparable(whole)
    # Each once, but the one that was stopped.
    assert seen[:3] + later == [run.key for run in grid.runs() if run.key in {*seen, *later}]
    assert later[0] == seen[3]
    assert comparable(read_table(tmp_path / "r.jsonl")[0]) == comparable(whole)
    assert len(pd.read_csv(tmp_path / "r.csv")) == len(whole)


def test_progress_is_heard_and_may_end_it(rows_task: Task) -> None:
    grid = small(rows_task, seeds=[0])
    told: list[tuple[float, str]] = []
    run_grid(grid, progress=lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert {what for _, what in told} >= {"clusters: feedback, 1 bit", "clusters: naive, 1 bit"}
    saved: list[int] = []

    def stop(share: float, what: str) -> None:
        if share > 0.4:
            raise StopError

    # It reaches the caller, and does not end as a failure of the method that was being measured.
    with pytest.raises(StopError):
        run_grid(grid, progress=stop, save=lambda rows: saved.append(len(rows)))
    assert saved[-1] > 0


def test_singular_values_are_calculated_once(
    rows_task: Task, image_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = small(rows_task, image_task, methods=["naive"])
    known = describe(grid, True, "naive")
    monkeypatch.setattr("lplr.evaluation.results_file.singular_values", None)
    assert describe(grid, True, "naive", known=known) == known
    fewer = describe(small(rows_task, methods=["naive"], budgets=[1.0]), True, "naive", known=known)
    assert fewer["limits"] == {"clusters": {"1": known["limits"]["clusters"]["1"]}}
    other = replace(rows_task, A=rows_task.A + 1)
    with pytest.raises(TypeError):  # they are needed
        describe(small(other, methods=["naive"]), True, "naive", known=known)


def test_saves_while_it_runs(rows_task: Task) -> None:
    sizes: list[int] = []
    run_grid(small(rows_task), save=lambda rows: sizes.append(len(rows)), every=0.0)
    assert len(sizes) == len(small(rows_task).runs()) + 1
    assert sizes == sorted(sizes)


def test_more_budgets_and_data_join_a_table(
    rows_task: Task, image_task: Task, tmp_path: Path
) -> None:
    first = small(rows_task, budgets=[1.0], seeds=[0])
    file = ResultsFile(tmp_path / "r.jsonl")
    before = run_grid(first, file.resume(describe(first, True, "feedback")), save=file.save)
    second = small(image_task, budgets=[2.0], seeds=[0], methods=["naive"])
    file = ResultsFile(tmp_path / "r.jsonl")
    rows = file.resume(describe(second, True, "feedback"))
    rows = run_grid(second, rows, save=file.save)
    assert comparable(rows)[: len(before)] == comparable(before)
    assert {row["dataset"] for row in rows} == {"clusters", "phantom"}
    assert file.attrs["limits"].keys() == file.attrs["data"].keys() == {"clusters", "phantom"}
    assert file.attrs["stores"].keys() == set(NAMES)


def test_refuses_results_of_something_else(rows_task: Task, tmp_path: Path) -> None:
    grid = small(rows_task, methods=["naive"])
    attrs = describe(grid, True, "naive")
    path = tmp_path / "r.jsonl"
    file = ResultsFile(path)
    run_grid(grid, file.resume(attrs), save=file.save)
    content = path.read_bytes()

    def other(name: str, key: str, value: Any) -> dict[str, Any]:
        return {**attrs, name: {**attrs[name], key: value}}

    changed = {"shape": "1 x 1", "sha256": "0"}
    for bad, said in (
        (other("versions", "lplr", "9.9"), "other versions: lplr was .*, is '9.9'"),
        (other("settings", "quick", False), "other settings: quick was True, is False"),
        (other("machine", "processor", "abacus"), "other machine: processor was"),
        (
            other("data", "clusters", changed),
            "other data: clusters shape was '120 x 40', is '1 x 1'",
        ),
    ):
        with pytest.raises(InputError, match=f"{said}.*--restart"):
            ResultsFile(path).resume(bad)
    assert path.read_bytes() == content


def test_refuses_files_that_are_no_results(tmp_path: Path, rows_task: Task) -> None:
    attrs = describe(small(rows_task, methods=["naive"]), True, "naive")
    path = tmp_path / "r.jsonl"
    write_table(path, [{"a": 1}], attrs={"versions": {}})
    with pytest.raises(InputError, match="holds no results"):
        ResultsFile(path).resume(attrs)
    path.write_bytes(b"something else")
    with pytest.raises(CorruptFileError):
        ResultsFile(path).resume(attrs)
    with pytest.raises(InputError, match=r"\.jsonl or \.csv"):
        ResultsFile(tmp_path / "r.txt")
    (tmp_path / "mine.csv").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"mine\.csv: exists, and mine\.jsonl does not"):
        ResultsFile(tmp_path / "mine.jsonl").resume(attrs)


def test_one_at_a_time_measures_for_a_table(tmp_path: Path) -> None:
    (tmp_path / "other.csv").symlink_to(tmp_path / "r.csv")
    (tmp_path / "other.jsonl").symlink_to(tmp_path / "r.jsonl")
    with ResultsFile(tmp_path / "r.csv").alone():
        for name in ("r.jsonl", "other.jsonl"):
            with (
                pytest.raises(InputError, match=r"r\.jsonl: another process"),
                ResultsFile(tmp_path / name).alone(),
            ):
                pass
    assert not list(tmp_path.glob(".*"))


# --- tasks, limits -----------------------------------------------------------------


@pytest.mark.parametrize("what", SUITES)
def test_suites(what: str) -> None:
    tasks = load_suite(what, quick=True)
    assert len({task.name for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.A.dtype == np.float32
        assert task.A.flags.c_contiguous
        assert task.digest() == task.digest() != replace(task, A=task.A + 1).digest()
        if task.queries is not None:
            q = task.queries
            assert len(q.labels) == len(task.A)
            assert len(q.truth) == len(q.X)
            assert q.X.shape[1] == task.A.shape[1]
        if task.is_image:
            assert 0 <= task.A.min() < task.A.max() <= 1


def test_all_has_everything_once() -> None:
    parts = {t.name for what in SUITES[:-1] for t in load_suite(what, quick=True)}
    assert {task.name for task in load_suite("all", quick=True)} == parts
    with pytest.raises(InputError, match="what"):
        load_suite("none")


def test_limit_and_spectrum_are_those_of_the_singular_values(rows_task: Task) -> None:
    for A in (rows_task.A, np.ascontiguousarray(rows_task.A.T)):
        attrs = describe(small(Task("a", A), methods=["naive"]), True, "naive")
        s = np.linalg.svd(A.astype(np.float64), compute_uv=False)
        expected = rate_distortion_limit(s, A.shape, 1.0)
        assert attrs["limits"]["a"]["1"] == pytest.approx(expected, rel=1e-6)
        assert attrs["spectra"]["a"]["stable_rank"] == pytest.approx(sum(s**2) / s[0] ** 2)
