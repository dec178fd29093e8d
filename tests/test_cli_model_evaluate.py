"""``lplr model evaluate`` on tiny networks: what it prints, its page, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import refused, report
from packed_models import FIXTURES, compressed

import lplr.models
from lplr.cli.main import main
from lplr.models.evaluation.encoders import embed_texts
from lplr.models.evaluation.scores import compare
from lplr.models.opening import open_network
from lplr.models.texts import token_windows

IDS = np.random.default_rng(0).integers(0, 90, (4, 16)).astype(np.uint16)


def checkpoint(kind: str, folder: Path) -> Path:
    """A checkpoint with a tokenizer of single letters."""
    shutil.copytree(FIXTURES / kind, folder)
    letters = " abcdefghijklmnopqrstuvwxyz"
    vocab = {letter: i for i, letter in enumerate(letters)}
    model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": None}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, two compressed networks, tokens, texts and questions."""
    path = tmp_path_factory.mktemp("models")
    source = checkpoint("llama", path / "source")
    compressed(source, path / "small", bits=3)
    compressed(source, path / "smaller", bits=2)
    np.savez(path / "t.npz", same=IDS, long=IDS.ravel())
    (path / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 2)
    question = {"question": "the sky is", "choices": ["blue", "a fish"], "answer": "blue"}
    (path / "q.jsonl").write_text((json.dumps(question) + "\n") * 3)
    return path


def command(folder: Path, *args: str | Path) -> list[str | Path]:
    return ["model", "evaluate", folder / "small", "--original", folder / "source", *args]


def test_numbers_of_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = [f"{folder}/t.npz:same", f"{folder}/t.npz:long"]
    found = report(capsys, *command(folder, "--tokens", *tokens, "--length", "20"))
    assert [result["source"] for result in found["results"]] == ["t.npz:same", "t.npz:long"]
    networks = open_network(folder / "source"), open_network(folder / "small")
    for result, name in zip(found["results"], tokens, strict=True):
        scores = compare(*networks, token_windows(name, length=20))
        assert scores.kl is not None
        assert result["numbers"]["kl"]["value"] == scores.kl.value
        assert result["protocol"] == scores.protocol
    manifest = json.loads((folder / "small" / "model.json").read_text())["model"]
    assert found["totals"] == manifest["totals"]
    assert found["layers"] == manifest["layers"]


def test_texts_and_choices(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tokenizers")
    args = ("--texts", folder / "text.txt", "--choices", folder / "q.jsonl", "--length", "8")
    assert main([*map(str, command(folder, *args))]) == 0
    out = capsys.readouterr().out
    assert re.search(r"text\.txt +\d\.\d+ ± \d\.\d+ ", out)
    assert "11 windows of 8 tokens, nothing put before them" in out
    assert re.search(r"q\.jsonl +\d+\.0 % ", out)
    assert "3 questions without examples" in out


def test_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tokenizers")
    source, small = checkpoint("bert", tmp_path / "source"), tmp_path / "small"
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    lines = [f"{a} {b}\t{len(a)}" for a in words for b in words]
    (tmp_path / "texts.tsv").write_text("\n".join(lines))
    texts = ("--texts", tmp_path / "texts.tsv")
    told = report(capsys, "model", "calibrate", source, "-o", tmp_path / "H.npz", *texts)
    assert told["sequences"] == 81
    assert told["tokens"] == sum(len(line.partition("\t")[0]) for line in lines)  # no padding
    command = ("model", "compress", source, "-o", small, *texts, "--method", "caldera")
    report(capsys, *command, "--rank", "2")
    embedded = embed_texts(small, ["the lazy dog", "a fox"])
    alone = lplr.models.load(small).embeddings(np.array([[1, 0, 6, 15, 24]]))
    np.testing.assert_allclose(embedded[1:], alone, atol=1e-5)
    both = ("model", "evaluate", small, "--original", source)
    found = report(capsys, *both, *texts)["results"][0]
    assert found["kind"] == "embeddings"
    assert found["protocol"].startswith("texts 65 to 81 look for their neighbours")
    assert 0.1 < found["numbers"]["recall"]["value"] < 1
    assert found["numbers"]["cosine"]["value"] < 0.9999
    (tmp_path / "plain.txt").write_text("a\nb")
    message = refused(capsys, "model", "evaluate", small, "--texts", tmp_path / "plain.txt")
    assert "has no labels; give --original" in message
    np.save(tmp_path / "t.npy", IDS)
    assert "is an encoder" in refused(capsys, *both, "--tokens", tmp_path / "t.npy")


def test_a_page_with_other_networks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("--tokens", f"{folder}/t.npz:same")
    args = [*map(str, command(folder, *tokens))]
    other = [arg.replace("small", "smaller") for arg in args]
    (folder / "other.json").write_text(json.dumps(report(capsys, *other)))
    page = folder / "page.html"
    with_other = ["--html", str(page), "--with", str(folder / "other.json")]
    assert main([*args, *with_other]) == 0
    capsys.readouterr()
    text = page.read_text()
    assert text.count("<svg") == 2  # divergence and bits; all layers have the same error
    assert "Error of all layers: 0.250" in text
    assert "smaller" in text
    assert "model.<wbr>layers.1.<wbr>mlp.<wbr>down_proj" in text
    assert "exists; pass --overwrite" in refused(capsys, *args, *with_other)


def test_where_the_error_enters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("--tokens", f"{folder}/t.npz:same")
    args = [*map(str, command(folder, *tokens, "--sensitivity", "2"))]
    found = report(capsys, *args)["sensitivity"]
    networks = open_network(folder / "source"), open_network(folder / "small")
    measured = lplr.models.sensitivity(*networks, IDS[:2])
    assert found["source"] == "t.npz:same"
    assert found["errors"] == list(measured.errors)
    assert found["kinds"]["mlp.up_proj"]["value"] == measured.kinds["mlp.up_proj"].value
    assert main([*args, "--html", str(folder / "where.html")]) == 0
    out = capsys.readouterr().out
    for name, number in (("everything", measured.whole), ("1", measured.blocks[1])):
        assert re.search(rf"^{name} +{number.value:.4f} ± ", out, re.MULTILINE)
    assert ">Where the error enters</h2>" in (folder / "where.html").read_text()
    small = command(folder)[2]
    for wrong, said in (
        ((*tokens, "--sensitivity", "0"), "at least one window, found 0"),
        (("--choices", folder / "q.jsonl", "--sensitivity", "1"), "give --tokens or --texts too"),
    ):
        assert said in refused(capsys, *command(folder, *wrong))
    alone = ("model", "evaluate", small, *tokens, "--sensitivity", "1")
    assert "give --original too" in refused(capsys, *alone)


def test_without_an_original_there_is_perplexity(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(
        capsys, "model", "evaluate", folder / "source", "--tokens", f"{folder}/t.npz:same"
    )
    assert list(found["results"][0]["numbers"]) == ["perplexity"]
    assert found["method"] is None
    assert found["totals"]["whole"]["bits_per_weight"] == 16  # bfloat16


def test_what_it_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give texts, --tokens or --choices" in refused(capsys, *command(folder))
    np.save(folder / "wrong.npy", np.full((2, 4), 96))
    message = refused(capsys, *command(folder, "--tokens", folder / "wrong.npy"))
    assert "token 96 at (0, 0), and the vocabulary has 96" in message
    message = refused(capsys, *command(folder, "--tokens", f"{folder}/t.npz:long"))
    assert "t.npz:long: has 64 tokens, and one window takes 512" in message
    tokens = ("--tokens", f"{folder}/t.npz:same")
    (folder / "no.json").write_text("{}")
    args = command(folder, *tokens, "--with", folder / "no.json")
    assert "other networks are shown on a page; give --html" in refused(capsys, *args)
    message = refused(capsys, *args, "--html", folder / "new.html")
    assert "no.json: is nothing that lplr model evaluate --json prints" in message
    assert not (folder / "new.html").exists()
    message = refused(capsys, *command(folder, *tokens, "--html", folder / "page.txt"))
    assert "ends in .html" in message
