"""``lplr bench speed --compare``: times beside those of an earlier run of the same machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lplr.cli.main import main
from lplr.evaluation.speed_runs import speed_document

ROW = {"benchmark": "kernels", "matrix": "9 x 9", "threads": 1, "error": 0.25}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    rows = [{**ROW, "what": "copy", "seconds": 3.0}, {**ROW, "what": "new", "seconds": 1.0}]
    monkeypatch.setattr("lplr.cli.bench_speed.measure", lambda quick: rows)
    return rows


def earlier(path: Path, **changes: Any) -> str:
    found = speed_document([{**ROW, "what": "copy", "seconds": 2.0, **changes}])
    path.write_text(json.dumps(found))
    return str(path)


@pytest.mark.usefixtures("measured")
def test_ratios_to_an_earlier_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "speed.html"
    before = earlier(tmp_path / "before.json")
    assert main(["bench", "speed", "--compare", before, "--html", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(row["before"], row["change"]) for row in document["rows"]] == [
        (2.0, 1.5),
        (None, None),
    ]
    assert page.read_text().count("1.50") == 1
    # What it printed can be compared with in turn, and the same call is what a terminal shows.
    (tmp_path / "now.json").write_text(json.dumps(document))
    assert main(["bench", "speed", "--compare", str(tmp_path / "now.json")]) == 0
    shown = capsys.readouterr().out
    assert "1.00" in shown
    assert "before" in shown


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("[]", "not a JSON object"),
        ("{}", "is not what lplr bench speed --json prints"),
        ('{"machine": {}, "rows": [{}]}', "a row has no time"),
    ],
)
def test_files_that_are_no_run(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "before.json"
    if text is not None:
        path.write_text(text)
    assert main(["bench", "speed", "--compare", str(path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("measured")
def test_another_machine_or_size_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "before.json"
    assert main(["bench", "speed", "--compare", earlier(path, matrix="8 x 8")]) == 2
    assert "none of these measurements" in capsys.readouterr().err
    found = json.loads(path.read_text())
    found["machine"]["threads"] = 64
    path.write_text(json.dumps(found))
    assert main(["bench", "speed", "--compare", str(path)]) == 2
    assert "of threads 64" in capsys.readouterr().err
