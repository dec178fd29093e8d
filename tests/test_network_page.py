"""The page of a network in a real browser, and its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find

from lplr.evaluation.report.network import write_network_page

PROGRAM = find()


def described(method: str | None, bits: float, kl: float, name: str = "") -> dict[str, Any]:
    """What was measured of a network of two blocks, one more inexact than the other."""
    numbers = {"kl": kl, "perplexity": 30.0, "agreement": 0.5}
    total = {"weights": 1000, "nbytes": int(125 * bits), "bits_per_weight": bits}
    kinds = ("self_attn.q_proj", "mlp.up_proj")
    return {
        "model": f"models/{name or method}-{bits}",
        "original": "models/original",
        "network": {"model_type": "llama", "blocks": 2, "width": 8, "vocabulary": 9},
        "method": method,
        "totals": {"layers": total, "whole": total},
        "settings": {"method": method, "note": "<b>"},
        "layers": [
            {
                "name": f"model.layers.{block}.{kind}",
                "shape": [10, 25],
                "nbytes": 100 + block,
                "bits_per_entry": bits + block,
                "rank": 0,
                "code": "Q uniform",
                "relative_error": 0.1 + 0.1 * block,
            }
            for block in range(2)
            for kind in kinds
        ],
        "results": [
            {
                "kind": "predictions",
                "source": "text.txt",
                "protocol": "2 windows",
                "numbers": {
                    key: {"value": value, "standard_error": value / 10}
                    for key, value in numbers.items()
                },
            }
        ],
    }


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    others = [
        described("compress", 3.0, 0.2),
        described("quantize", 3.1, 2.5),
        described(None, 2.3, 1.4, "another"),
    ]
    write_network_page(path, described("compress", 2.0, 0.6), others)
    return path


def test_it_says_what_was_measured(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "KL, nats 0.6000 ± 0.0600, perplexity 30.00 ± 3.00, same likeliest token 50.0" in text
    assert "<b>" not in text  # what comes from files is escaped
    assert "another-2.3: 1.4000 at 2.3 bits" in text
    assert ">perplexity</dt>" in text
    assert ">kNN accuracy</dt>" not in text  # words of what was measured alone
    assert "Error by kind and block, 0.100 to 0.200" in text


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_and_sorts(page: Path, width: int, tmp_path: Path) -> None:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path / "profile") as browser:
        browser.open(page, width)
        assert browser.run("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        assert not [event for event in browser.events if event.get("method") in kinds]
        layers = "document.querySelectorAll('table.sortable')[1]"
        browser.run(f"{layers}.tHead.rows[0].cells[4].querySelector('button').click()")
        errors = browser.run(f"[...{layers}.tBodies[0].rows].map(r => r.cells[4].textContent)")
        assert errors == ["0.1000", "0.1000", "0.2000", "0.2000"]
        scale = """[...document.querySelectorAll("svg text")].every(e => {
            const svg = e.ownerSVGElement, size = parseFloat(getComputedStyle(e).fontSize);
            return size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width >= 9.5;
        })"""
        assert browser.run(scale)
