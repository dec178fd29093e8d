"""The report of a benchmark: what it says, and that the page is sound whatever the names are."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bench_rows import METHODS, attrs, row, samples, table

from lplr.evaluation.metrics import metric
from lplr.evaluation.report import write_report
from lplr.evaluation.report.results import gather
from lplr.evaluation.styles import style_of
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
    return write(tmp_path_factory.mktemp("report"), table(), samples=samples())


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
    chart, *more = (found["aria-label"] or "" for found in page.all("svg"))
    assert chart.startswith("error, as a multiple of that of factorize, at 1 bit.")
    error = gather(table(), "feedback").pick(dataset="digits", method="naive", budget=4.0)[0]
    assert any(
        "naive rounding: 0.4" in text and f"{error.mean:.4f} at 4 bits" in text for text in more
    )


def test_every_result_is_in_a_table(page: Page) -> None:
    results = gather(table(), "feedback")
    for entry in results.entries:
        label = style_of(entry.method).label
        rows = [r for r in page.rows if r[0] == label and r[1] == f"{entry.budget:g}"]
        share = entry.metric == "accuracy"
        value = f"{100 * entry.mean:.1f}" if share else f"{entry.mean:.4f}"
        assert any(value in text for r in rows for text in r), entry
    told = "naive rounding on digits and layer at 0.5 bits: fewer bits than one per entry"
    assert told in page.text
    assert "Not run: 2 (why)" in page.text


def test_tables_come_sorted(page: Page) -> None:
    start = next(i for i, r in enumerate(page.rows) if r[:3] == ["method", "bits", "stored bits"])
    budgets = []
    for r in page.rows[start + 1 :]:
        if r[0] == "method":
            break
        budgets.append(float(r[1]))
    assert budgets == sorted(budgets)
    assert {"0.5", "1", "2", "4", "32"} == {f"{b:g}" for b in budgets}


def test_a_chart_has_six_lines_at_most_and_all_of_their_names(source: str, page: Page) -> None:
    charts = re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)
    # The overview; error, two protocols and time of one data set; error and time of the other.
    assert len(charts) == 7
    best = ["feedback", "lplr-svd", "naive", "KMeans sub-vectors", "PQ"]
    for chart in charts[1:]:
        shown = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
        assert {style_of(method).label for method in best} <= set(shown)
        others = {style_of(method).label for method in METHODS.keys() - set(best)}
        assert not others & set(shown)
        assert "style" not in re.findall(r"<(\w+)", chart)
    assert "yardstick" in charts[1]
    assert "uncompressed" in charts[2]
    assert "FillBetweenPolyCollection" in charts[2] or "PolyCollection" in charts[2]
    assert "seconds to compress" in charts[4]


def test_formulas_stand_next_to_the_numbers(source: str) -> None:
    assert "‖A − B‖<sub>F</sub> / ‖A‖<sub>F</sub>" in source
    assert metric("accuracy").formula in source


def test_images_show_what_an_error_means_and_the_methods(page: Page) -> None:
    shown = page.all("img")
    assert [image["alt"] for image in shown] == [
        "layer, original",
        "layer, error 0.18",
        "layer, error 0.47 (naive rounding)",
        "layer, original",
        "layer, factorize (ours): 0.183",
        "layer, naive rounding: 0.467",
    ]
    assert all((image["src"] or "").startswith("data:image/png;base64,iVBOR") for image in shown)


def test_what_an_error_means(tmp_path: Path) -> None:
    known = [(0.5, 0.3, 0.7), (1.0, 0.13, 0.912), (2.0, 0.06, 0.96), (4.0, 0.02, 0.99)]
    rows = [
        row(budget=budget, metric=name, value=value)
        for budget, error, kept in known
        for name, value in (("relative error", error), ("recall@10", kept))
    ]
    rows.append(row(value=0.3, **PQ))
    page = Page(write(tmp_path, rows))
    assert "What an error of 0.13 means" in page.text
    assert "loses 1.7 % of the sum of squares" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "keeps 9.1 on digits (error 0.13)" in page.text
    assert "digits: 99.0\N{NO-BREAK SPACE}% at the least error" in " ".join(
        str(found["aria-label"]) for found in page.all("svg")
    )


def test_the_glossary_explains_the_words(page: Page) -> None:
    terms = page.text[page.text.index("Glossary") :]
    words = "relative error, stored bits per entry, rank, L R, Q + L R, kNN accuracy, "
    words += "standard error, no difference, Hessian, yardstick"
    for word in words.split(", "):
        assert word in terms


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
    rows += [r | {"metric": evil, "correct": None} for r in rows if r["status"] == "ok"]
    about = {"default": "feedback", evil: {evil: [evil]}}
    shown = {evil + "layer": [replace(s, method=evil) for s in samples()["layer"]]}
    page = Page(write(tmp_path, rows, about, samples=shown))
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


PQ = {"method": "PQ", "family": "faiss"}


def test_the_overview_has_five_lines_and_no_alarm(tmp_path: Path) -> None:
    rows = [r for r in table((0,)) if r["method"] in ("feedback", "naive", "uncompressed")]
    source = write(tmp_path, [*rows, row(value=0.001, **PQ)])
    page = Page(source)
    top = source[source.index('<div class="overview">') : source.index("<details>")]
    assert top.count("<dt>") == 5
    assert top.count("<svg") == 1
    assert 'class="bad"' not in top
    assert (
        "A method that is not ours is better in 1 of 9 comparisons: PQ on digits at 1 bit."
        in page.text
    )
    (lost,) = (r for r in page.rows if r[-1] == "worse")
    assert lost[:3] == ["digits", "1", "relative error"]


def test_the_finding_of_the_paper(page: Page) -> None:
    rows = {
        (r[0], r[1]): r
        for r in page.rows
        if len(r) == 9 and r[-1] in ("yes", "no", "no difference")
    }
    found = {key: r[-2:] for key, r in rows.items()}
    assert found == {
        ("digits", "relative error"): ["yes", "no"],
        ("digits", "accuracy, %"): ["yes", "no difference"],
        ("layer", "relative error"): ["yes", "no"],
    }


def test_one_method_has_one_table_of_matrices(tmp_path: Path) -> None:
    rows = [row(value=v, dataset=name) for name, v in (("a", 0.1), ("b", 0.3))]
    page = Page(write(tmp_path, rows))
    assert [r[0] for r in page.rows] == ["matrix", "a", "b"]


def test_a_line_that_leaves_its_chart_is_explained(tmp_path: Path) -> None:
    rows = [row(value=v, budget=b) for b, v in ((1.0, 0.2), (2.0, 0.1))]
    rows += [row(value=v, budget=b, **PQ) for b, v in ((1.0, 0.3), (2.0, 0.004))]
    assert ". Below the chart: PQ to 0.004 at 2 bits" in Page(write(tmp_path, rows)).text


def test_one_budget_has_no_lines_to_draw(tmp_path: Path) -> None:
    page = Page(write(tmp_path, [row(value=0.1), row(value=0.2, **PQ)]))
    labels = [str(found["aria-label"]) for found in page.all("svg")]
    assert [label.split(",")[0] for label in labels] == [
        "error", "relative error against time: feedback 0.1000 in 0.25 s; PQ 0.2000 in 0.25 s."
    ]  # fmt: skip
    assert ["factorize (ours)", "0.1000"] in page.rows


def test_a_metric_that_is_missing(tmp_path: Path) -> None:
    rows = [row(), row(metric="ssim", value=None, status="skipped", note="needs scikit-image")]
    assert "SSIM on digits at 1 bit: needs scikit-image" in Page(write(tmp_path, rows)).text


def test_all_skipped(tmp_path: Path) -> None:
    skipped = row(status="skipped", note="needs faiss", metric=None, value=None)
    assert (
        "factorize (ours) on digits at 1 bit: needs faiss" in Page(write(tmp_path, [skipped])).text
    )


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
