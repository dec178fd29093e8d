"""The report of a benchmark: what it says, and that the page is sound whatever the names are."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bench_rows import METHODS, SETS, attrs, limit, pictures, row, table

from lplr.evaluation.metrics import metric
from lplr.evaluation.report import write_report
from lplr.evaluation.report.headline import headline
from lplr.evaluation.report.results import gather
from lplr.exceptions import InputError, StorageError

_VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """A page as its tags, ids and tables; any tag out of place is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "script" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag]


def write(folder: Path, rows: list[dict[str, Any]], about: Any = None, **options: Any) -> str:
    path = folder / "report.html"
    write_report(path, rows, attrs() if about is None else about, overwrite=True, **options)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("report"), table(), pictures=pictures())


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_no_id_occurs_twice_and_every_reference_has_its_target(source: str, page: Page) -> None:
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids)) > 100
    used = re.findall(r'href="#([^"]+)"', source) + re.findall(r"url\(#([^)]+)\)", source)
    assert len(used) > 100
    assert set(used) <= set(ids)


def test_nothing_is_loaded_from_anywhere(source: str, page: Page) -> None:
    for name in ("src", "href", "xlink:href", "action", "poster", "srcset", "data"):
        for _, found in page.tags:
            assert (found.get(name) or "#").startswith(("#", "data:"))
    assert "@import" not in source
    assert not re.findall(r"url\((?!#)", source)
    # Names of namespaces are no addresses to load from; there is no other.
    assert set(re.findall(r'https?://[^"\s<]+', source)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    policy = page.all("meta")[1]["content"] or ""
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy
    assert len(page.all("script")) == 1


def test_it_can_be_read_with_a_screen_reader(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert all(found["aria-label"] for found in page.all("svg"))
    assert all(found["alt"] for found in page.all("img"))
    assert all(found.get("scope") in ("col", "row") for found in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 3
    chart = page.all("svg")[0]["aria-label"] or ""
    assert "the default, feedback: " in chart
    assert f"limit: {limit(0.5):.4f} at 0.5 bits" in chart


def test_every_result_is_in_a_table(page: Page) -> None:
    results = gather(table(), "feedback")
    for entry in results.entries:
        rows = [r for r in page.rows if r[0] == entry.method and r[1] == f"{entry.budget:g}"]
        assert any(f"{entry.mean:.4f}" in text for r in rows for text in r), entry
    for name in SETS:
        assert ["naive", name, "0.5", "skipped", "fewer bits than one per entry"] in page.rows


def test_tables_come_sorted(page: Page) -> None:
    start = next(i for i, r in enumerate(page.rows) if r[:3] == ["method", "bits", "stored bits"])
    budgets = []
    for r in page.rows[start + 1 :]:
        if r[0] == "method":
            break
        budgets.append(float(r[1]))
    assert budgets == sorted(budgets)
    assert {"0.5", "1", "2", "4", "32"} == {f"{b:g}" for b in budgets}


def test_charts_show_every_method_the_limit_and_bands(source: str) -> None:
    charts = re.findall(r"<svg .*?</svg>", source, flags=re.DOTALL)
    # Error, two protocols and time of the one data set; error and time of the other.
    assert len(charts) == 6
    for chart in charts:
        shown = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
        for method in METHODS:
            label = "GaussianRandom… float16" if "Gaussian" in method else method
            assert label in shown
        assert "style" not in re.findall(r"<(\w+)", chart)
    assert "limit" in charts[0]
    assert "uncompressed" in charts[1]
    assert "FillBetweenPolyCollection" in charts[0] or "PolyCollection" in charts[0]
    assert "seconds to compress" in charts[3]


def test_formulas_stand_next_to_the_numbers(source: str) -> None:
    assert "‖A − B‖<sub>F</sub> / ‖A‖<sub>F</sub>" in source
    assert metric("accuracy").formula in source


def test_images_stand_side_by_side(page: Page) -> None:
    shown = page.all("img")
    assert [image["alt"] for image in shown] == ["layer: original", "layer: feedback, 1 bit"]
    assert all((image["src"] or "").startswith("data:image/png;base64,iVBOR") for image in shown)


def test_machine_and_versions(page: Page) -> None:
    for text in ("a processor <of some kind>", "numpy", "2.4.0"):
        assert text in page.text


def test_names_are_text_whatever_they_contain(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&amp;</title><img src=x onerror=alert(2)>"
    rows = [
        r | {"dataset": evil + r["dataset"], "shape": evil, "note": evil, "protocol": evil}
        for r in table((0,))
        if r["method"] in ("feedback", "naive", "PQ", "uncompressed") and r["budget"] < 2
    ]
    rows = [r | {"method": evil} if r["method"] == "PQ" else r for r in rows]
    rows += [r | {"metric": evil} for r in rows if r["status"] == "ok"]
    about = {"default": "feedback", evil: {evil: [evil]}}
    shown = {evil + "layer": [p for p in pictures()["layer"]]}
    page = Page(write(tmp_path, rows, about, pictures=shown))
    assert len(page.all("script")) == 1
    assert not any("onerror" in found for _, found in page.tags)
    assert evil in page.text
    assert page.text.count(evil) > 10


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    import matplotlib as mpl

    rows = table((0,))[:40]
    first = write(tmp_path, rows)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert write(tmp_path, rows) == first
    assert mpl.rcParams["svg.fonttype"] == "path"
    assert not re.search(r"\d{4}-\d\d-\d\d", first)


def said(rows: list[dict[str, Any]]) -> list[str]:
    plain = row(method="uncompressed", family="reference", metric="accuracy", value=0.98)
    text = headline(gather([plain, *rows], "feedback"))
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in text]


def pair(error: float, accuracy: float | None = None, **known: Any) -> list[dict[str, Any]]:
    rows = [row(**known, value=error)]
    if accuracy is not None:
        rows.append(row(**known, value=accuracy, metric="accuracy", protocol="stored database"))
    return rows


PQ = {"method": "PQ", "family": "faiss"}


def test_headline_where_the_default_wins() -> None:
    first, second, third = said([*pair(0.128, 0.975), *pair(0.2, 0.96, **PQ)])
    assert first.startswith("In none of 1 case (a data set at a budget) is a baseline better than")
    assert second == (
        "At 1 bit per entry feedback leaves 0.64 times the relative error of the best baseline at "
        "equal stored bits, 12.8 % against 20.0 % (PQ) on digits."
    )
    assert third == (
        "Its nearest-neighbour accuracy there (stored database) is 97.5 % against 96.0 % (PQ) on "
        "digits, uncompressed 98.0 %."
    )


def test_headline_names_a_baseline_that_wins() -> None:
    rows = [*pair(0.128, 0.9500), *pair(0.12, 0.9502, **PQ)]
    rows += [*pair(0.3, budget=4.0, dataset="layer"), *pair(0.2, budget=4.0, dataset="layer", **PQ)]
    assert said(rows)[0] == (
        "In 2 of 2 cases (a data set at a budget) a baseline is better than the default, feedback: "
        "PQ on digits at 1 bit (error 12.0 %, default 12.8 %; accuracy 95.02 %, default 95.00 %), "
        "PQ on layer at 4 bits (error 20.0 %, default 30.0 %)."
    )


@pytest.mark.parametrize(("error", "accuracy"), [(0.12, 0.95), (0.12, 0.94), (0.13, 0.97)])
def test_with_labels_a_baseline_must_win_both(error: float, accuracy: float) -> None:
    rows = [*pair(0.128, 0.95), *pair(error, accuracy, **PQ)]
    assert said(rows)[0].startswith("In none of 1 case")


def test_one_protocol_is_enough_to_lose() -> None:
    rows = [*pair(0.128, 0.95), *pair(0.12, 0.94, **PQ)]
    other = {"metric": "accuracy", "protocol": "projected queries"}
    rows += [row(value=0.95, **other), row(value=0.96, **other, **PQ)]
    assert "PQ on digits at 1 bit" in said(rows)[0]


def test_the_error_under_the_hessian_decides_where_there_is_one() -> None:
    under = {"metric": "relative error under H", "dataset": "layer"}
    rows = [*pair(0.3, dataset="layer"), *pair(0.2, dataset="layer", **PQ)]
    rows += [row(value=0.1, **under), row(value=0.15, **under, **PQ)]
    assert said(rows)[0].startswith("In none of 1 case")


def test_means_are_over_seeds() -> None:
    values = {"feedback": (0.1, 0.3), "PQ": (0.19, 0.19)}
    rows = [row(value=v, seed=i) for i, v in enumerate(values["feedback"])]
    rows += [row(value=v, seed=i, **PQ) for i, v in enumerate(values["PQ"])]
    results = gather(rows, "feedback")
    mine, rival = results.entries
    assert (mine.mean, len(mine.values), rival.mean) == (pytest.approx(0.2), 2, 0.19)
    assert mine.spread == pytest.approx(0.02**0.5)
    assert "PQ on digits" in said(rows)[0]


def test_many_losses_are_counted() -> None:
    rows = []
    for i in range(7):
        rows += [*pair(0.2, dataset=f"set {i}"), *pair(0.1, dataset=f"set {i}", **PQ)]
    first = said(rows)[0]
    assert first.startswith("In 7 of 7 cases")
    assert first.endswith(", and 3 more, listed below.")


def test_losses_are_on_top_of_the_page(tmp_path: Path) -> None:
    rows = [r for r in table((0,)) if r["method"] in ("feedback", "naive")]
    source = write(tmp_path, [*rows, *pair(0.001, 0.999, **PQ)])
    page = Page(source)
    assert '<p class="lead lost">In 1 of 6 cases' in source
    assert page.text.index("In 1 of 6 cases") < page.text.index("Default against baselines")
    assert "Where a baseline is better" in page.text
    lost = [r for r in page.rows if r[0] == "digits" and r[-1].startswith("baseline")]
    assert len(lost) == 2


def test_the_finding_of_the_paper(page: Page) -> None:
    rows = [r for r in page.rows if r[-1] == "for default"]
    assert [r[0] for r in rows] == ["digits", "digits", "digits", "layer"]
    assert all(r[-2] == "3" and "±" in r[2] for r in rows)


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert said([row()])[0].startswith("Nothing to compare")
    assert "Nothing to compare" in Page(write(tmp_path, [row()])).text


def test_what_is_missing_is_said_on_top(page: Page) -> None:
    assert "2 results of 1 method are missing: why." in page.text
    assert page.text.index("are missing") < page.text.index("Default against baselines")


def test_a_metric_that_is_missing(tmp_path: Path) -> None:
    rows = [row(), row(metric="ssim", value=None, status="skipped", note="needs scikit-image")]
    page = Page(write(tmp_path, rows))
    assert ["feedback: ssim", "digits", "1", "skipped", "needs scikit-image"] in page.rows


def test_all_skipped(tmp_path: Path) -> None:
    skipped = row(status="skipped", note="needs faiss", metric=None, value=None)
    assert ["feedback", "digits", "1", "skipped", "needs faiss"] in Page(
        write(tmp_path, [skipped])
    ).rows


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan"), 1e-300])
def test_extreme_values(tmp_path: Path, value: float) -> None:
    rows = [row(value=0.2), row(value=0.1, budget=2.0), row(value=value, **PQ)]
    rows += [row(value=value, metric="psnr", budget=b) for b in (1.0, 2.0)]
    Page(write(tmp_path, rows))


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "empty"),
        ([{"dataset": "a"}], "'method'"),
        ([row(value=None)], "'value'"),
        ([row(), row(metric=None)], "row 1 has no 'metric'"),
        ([row(value="x")], "'value' of row 0 must be a number"),
        ([row() | {"budget": "x"}], "'budget'"),
    ],
)
def test_refusals(tmp_path: Path, rows: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(InputError, match=f"^rows: .*{named}"):
        write(tmp_path, rows)
    assert not list(tmp_path.iterdir())


def test_a_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(InputError, match="overwrite"):
        write_report(path, [row()], attrs())
    assert path.read_text() == "mine"
    with pytest.raises(StorageError):
        write_report(tmp_path / "no" / "report.html", [row()], attrs())
