"""The page of a network in a real browser, and its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find

from lplr.evaluation.report import llama_cpp
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


def parts() -> dict[str, Any]:
    """What the two blocks and the two kinds of layers do alone."""
    first, second = ({"value": 0.1 * i, "standard_error": 0.01 * i} for i in (1, 2))
    return {
        "source": "text.txt",
        "protocol": "2 windows of parts",
        "errors": [0.2, 0.3],
        "whole": {"value": 0.6, "standard_error": None},
        "outside": {"value": 0.0, "standard_error": float("nan")},  # of one window
        "blocks": [first, second],
        "kinds": {"self_attn.q_proj": second, "mlp.up_proj": first},
    }


def adaptation() -> dict[str, Any]:
    """As `lplr.models.adapt` describes it."""
    return {
        "loss": "kl",
        "rank": 16,
        "steps": 20,
        "batch": 8,
        "trained": ["factors", "norms"],
        "stopped": "all steps were taken",
        "changed": True,
        "history": [[0, 0.8], [10, 0.7], [20, 0.5]],
        "held_out_loss": {
            "sequences": 3, "tokens": 90, "before": 0.9, "start": 0.8, "trained": 0.5,
            "stored": 0.55,
        },
        "layers_bits_per_weight": {"before": 1.75, "trained": 3.0, "stored": 2.0},
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    others = [
        described("compress", 3.0, 0.2),
        described("quantize", 3.1, 2.5),
        described(None, 2.3, 1.4, "another"),
    ]
    own = described("compress", 2.0, 0.6)
    own["settings"]["adaptations"] = [adaptation()]
    others[0]["settings"]["output_moments"] = {"sha256": "ab"}
    for layer in own["layers"]:
        layer |= {"predicted_kl": 0.07, "two_sided_error": 0.2}
    others[0]["settings"]["error_after_blocks"] = [0.4, 0.5]
    write_network_page(path, own | {"sensitivity": parts()}, others)
    return path


def test_it_says_what_was_measured(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "KL, nats 0.6000 ± 0.0600, perplexity 30.00 ± 3.00, same likeliest token 50.0" in text
    assert "<b>" not in text  # what comes from files is escaped
    assert "another-2.3: 1.4000 at 2.3 bits" in text
    assert ">perplexity</dt>" in text
    assert ">kNN accuracy</dt>" not in text  # words of what was measured alone
    assert "Error by kind and block, 0.100 to 0.200" in text
    assert "two-sided: 0.2000 at 3 bits" in text  # errors were weighed by output moments
    assert "adapted: 0.6000 at 2 bits" in text
    assert "plain rounding: 2.5000 at 3.1 bits" in text


def test_it_says_where_the_error_enters(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    said = "0.3000 in the sum over blocks, the most in block 1, 0.2000. One kind of layer alone"
    assert said in text
    assert "the most in self_attn.q_proj, 0.2000. The second moments predict 0.2800 for all" in text
    assert ">block 1</th>" in text
    assert "2 windows of parts" in text
    assert ">predicted KL</dt>" in text


def test_it_says_what_adaptation_gained_and_cost(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "corrections of rank 16, norms; 20 of 20 steps of 8 sequences. All steps were" in text
    assert 'data-v="0.55">0.5500</td><td class="n" data-v="2.0">2.0000</td>' in text
    assert 'data-v="0.25">+0.2500</td>' in text
    assert "0.8000 after 0 steps; 0.7000 after 10 steps; 0.5000 after 20 steps" in text


def test_figures_of_llama_cpp_are_for_its_network_and_text_alone(tmp_path: Path) -> None:
    checkpoint, tokens = llama_cpp._CHECKPOINT, next(iter(llama_cpp._TEXTS))
    for known in ((checkpoint, tokens), (checkpoint, "ab"), ("ab", tokens)):
        run = described("compress", 2.0, 0.6)
        run["settings"]["checkpoint"] = known[0]
        run["results"][0]["tokens"] = {"shape": [24, 512], "sha256": known[1]}
        write_network_page(tmp_path / "page.html", run, overwrite=True)
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert ("llama.cpp" in text) == (known == (checkpoint, tokens))
        assert (">IQ3_<wbr>XXS</th>" in text) == (known == (checkpoint, tokens))


@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_and_sorts(page: Path, width: int, tmp_path: Path) -> None:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path / "profile") as browser:
        browser.open(page, width)
        assert browser.run("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        assert not [event for event in browser.events if event.get("method") in kinds]
        layers = "[...document.querySelectorAll('table.sortable')].at(-1)"
        browser.run(f"{layers}.tHead.rows[0].cells[4].querySelector('button').click()")
        errors = browser.run(f"[...{layers}.tBodies[0].rows].map(r => r.cells[4].textContent)")
        assert errors == ["0.1000", "0.1000", "0.2000", "0.2000"]
        scale = """[...document.querySelectorAll("svg text")].every(e => {
            const svg = e.ownerSVGElement, size = parseFloat(getComputedStyle(e).fontSize);
            return size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width >= 9.5;
        })"""
        assert browser.run(scale)
