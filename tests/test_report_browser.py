"""The report in a real browser: without errors, without the network, sortable, and no page that is
wider than its window."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_rows import attrs, samples, table
from browser import Browser, find

from lplr.evaluation.report import write_report

PROGRAM = find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="needs Chromium (Debian: apt-get install chromium)"
)
WIDTHS = (1280, 400)
OPEN = "for (const d of document.querySelectorAll('details')) d.open = true"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, table(), attrs(), samples())
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as running:
        yield running


def complaints(browser: Browser) -> list[dict[str, Any]]:
    """Exceptions, and what the console shows."""
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [event for event in browser.events if event.get("method") in kinds]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_window_and_is_without_errors(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    browser.open(report, width, dark=dark)
    browser.run(OPEN)
    assert browser.run("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert complaints(browser) == []
    assert browser.run("document.querySelectorAll('.charts svg').length") == 6
    # Every picture has a size and is decoded.
    assert browser.run("[...document.images].every(i => i.naturalWidth > 1 && i.width > 90)")
    assert browser.picture().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", WIDTHS)
def test_its_letters_can_be_read(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width)
    browser.run(OPEN)
    # Height of the letters on the screen: of all text, and of the charts, which are scaled.
    sizes = browser.run(
        """(() => {
        const size = e => parseFloat(getComputedStyle(e).fontSize);
        const scale = e => e.ownerSVGElement.getBoundingClientRect().width
            / e.ownerSVGElement.viewBox.baseVal.width;
        const html = [...document.querySelectorAll("p, li, td, th, figcaption, dd")].map(size);
        const svg = [...document.querySelectorAll("svg text")].map(e => size(e) * scale(e));
        return [Math.min(...html), Math.min(...svg)];
        })()"""
    )
    assert sizes[0] >= 13
    assert sizes[1] >= 9.5
    # No letter of a chart leaves its window.
    assert browser.run(
        """[...document.querySelectorAll("svg text")].every(e => {
        const box = e.getBoundingClientRect();
        return box.left >= 0 && box.right <= innerWidth;
        })"""
    )


def test_it_asks_the_network_for_nothing(browser: Browser, report: Path) -> None:
    browser.open(report, 1280)
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert report.as_uri() in asked
    assert all(url.startswith("data:") for url in asked if url != report.as_uri())


def column(browser: Browser, i: int) -> list[str]:
    """A column of the table of all results on digits."""
    return browser.run(f"[...{_TABLE}.tBodies[0].rows].map(row => row.cells[{i}].textContent)")


_TABLE = "document.querySelectorAll('section details table')[0]"


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_sort_on_click(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width)
    browser.run(f"{_TABLE}.closest('details').open = true")
    before = column(browser, 0)
    click(browser, 3)
    assert heads(browser, 3) == "ascending"
    errors = column(browser, 3)
    numbers = [float(text.split()[0]) for text in errors if text != "–"]
    assert numbers == sorted(numbers)
    # What has no error, the uncompressed data, comes last, in either direction.
    assert errors[-1] == "–"
    click(browser, 3)
    assert heads(browser, 3) == "descending"
    errors = column(browser, 3)
    assert [float(text.split()[0]) for text in errors if text != "–"] == numbers[::-1]
    assert errors[-1] == "–"
    click(browser, 0)
    assert [heads(browser, i) for i in (0, 3)] == ["ascending", None]
    names = column(browser, 0)
    assert sorted(names, key=str.lower) == names
    assert sorted(names) == sorted(before)
    assert complaints(browser) == []


def click(browser: Browser, i: int) -> None:
    """Click the head of a column with the mouse."""
    place = browser.run(
        f"""(() => {{
        const button = {_TABLE}.tHead.rows[0].cells[{i}].querySelector("button");
        button.scrollIntoView({{block: "center", inline: "center"}});
        const box = button.getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
        }})()"""
    )
    browser.click(*place)


def heads(browser: Browser, i: int) -> str | None:
    """How a column is sorted, as a screen reader is told."""
    return browser.run(f"{_TABLE}.tHead.rows[0].cells[{i}].getAttribute('aria-sort')")


def test_columns_sort_by_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report, 1280)
    browser.run(f"{_TABLE}.closest('details').open = true")
    browser.run(f"{_TABLE}.tHead.rows[0].cells[3].querySelector('button').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            text="\r",
            windowsVirtualKeyCode=13,
        )
    assert heads(browser, 3) == "ascending"


def test_it_can_be_read_without_scripts(browser: Browser, report: Path) -> None:
    browser.open(report, 1280, scripts=False)
    assert browser.run("document.querySelectorAll('th button').length") == 0
    assert "no method that is not ours is better" in browser.run("document.body.innerText")
    assert column(browser, 1)[0] == "0.5"


def test_it_prints(browser: Browser, report: Path) -> None:
    browser.open(report, 1280)
    data = browser.send("Page.printToPDF", printBackground=False)["data"]
    assert base64.b64decode(data).startswith(b"%PDF")
    browser.send("Emulation.setEmulatedMedia", media="print")
    # Paper cannot be unfolded: the tables are printed.
    height = browser.run(f"{_TABLE}.getBoundingClientRect().height")
    browser.send("Emulation.setEmulatedMedia", media="")
    assert height > 300
