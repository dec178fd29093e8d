"""Embeddings of two encoders, and the neighbours among them, against plain loops."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from networks import Bytes, bert, llama, nudged

from lplr.exceptions import InputError
from lplr.models.evaluation import forward
from lplr.models.evaluation.encoders import (
    compare_encoders,
    embed_texts,
    read_labelled,
    score_encoder,
)

ORIGINAL = bert()
COMPRESSED = nudged(ORIGINAL, 0.05)
RNG = np.random.default_rng(7)
TEXTS = ["".join(RNG.choice(list("abcdef "), size)) for size in RNG.integers(1, 30, 60)]
LABELS = [str(label) for label in RNG.choice(["x", "y", "z"], 60)]


def embedding(network: object, text: str) -> np.ndarray:
    """Of one text alone; a text that is too long loses what is before its last token."""
    tokens = list(text.encode())
    if len(tokens) > 24:
        tokens = [*tokens[:23], tokens[-1]]
    return network.embeddings(np.array([tokens]))[0].astype(np.float64)  # type: ignore[attr-defined]


def test_embeddings_are_those_of_single_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.array([embedding(ORIGINAL, text) for text in TEXTS])
    found = embed_texts(ORIGINAL, TEXTS, tokenizer=Bytes())
    np.testing.assert_allclose(found, expected, atol=2e-6)  # float32, of length one
    monkeypatch.setattr(forward, "_TOKENS", 50)
    monkeypatch.setattr(forward, "_STATES", 4 * 32 * 60)
    np.testing.assert_allclose(embed_texts(ORIGINAL, TEXTS, tokenizer=Bytes()), expected, atol=2e-6)


def test_texts_are_cut_where_the_sentence_encoder_says() -> None:
    short = bert(max_seq_length=8)
    cut = [text if len(text) <= 8 else text[:7] + text[-1] for text in TEXTS]
    found = embed_texts(short, TEXTS, tokenizer=Bytes())
    np.testing.assert_array_equal(found, embed_texts(ORIGINAL, cut, tokenizer=Bytes()))
    protocol = score_encoder(short, Bytes(), TEXTS, LABELS).protocol
    assert f"{sum(len(text) > 8 for text in TEXTS)} of which were cut" in protocol


def test_scores_are_those_of_plain_loops() -> None:
    found = compare_encoders(ORIGINAL, COMPRESSED, Bytes(), TEXTS, LABELS)
    both = [np.array([embedding(n, text) for text in TEXTS]) for n in (ORIGINAL, COMPRESSED)]
    cosines = (both[0] * both[1]).sum(axis=1)
    nearest = [np.argsort(-x[48:] @ x[:48].T, axis=1, kind="stable") for x in both]
    kept = [len({*a[:10]} & {*b[:10]}) / 10 for a, b in zip(*nearest, strict=True)]
    right = []
    for order in nearest:
        votes = [Counter(sorted(LABELS[i] for i in row[:11])) for row in order]
        right.append([v.most_common(1)[0][0] == y for v, y in zip(votes, LABELS[48:], strict=True)])
    assert found.cosine is not None
    assert found.recall is not None
    assert found.change is not None
    assert found.original_accuracy is not None
    assert found.accuracy is not None
    assert found.cosine.value == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found.recall.value == pytest.approx(np.mean(kept))
    assert found.recall.standard_error == pytest.approx(np.std(kept, ddof=1) / np.sqrt(12))
    assert [found.original_accuracy.value, found.accuracy.value] == [np.mean(r) for r in right]
    paired = np.std(np.subtract(*np.array(right, float)), ddof=1) / np.sqrt(12)
    assert found.change.standard_error == pytest.approx(paired)
    assert 0.3 < found.recall.value < 1  # the networks do differ
    assert (found.texts, found.queries) == (60, 12)
    assert found.cut == sum(len(text) > 24 for text in TEXTS) > 0
    alone = score_encoder(COMPRESSED, Bytes(), TEXTS, LABELS)
    assert alone.accuracy == found.accuracy
    assert alone.recall is None


def test_texts_of_files(tmp_path: Path) -> None:
    tsv, lines, plain = (tmp_path / name for name in ("a.tsv", "b.jsonl", "c.txt"))
    tsv.write_text("a cat\tanimals\r\n\na rose\tplants")
    rows = [{"text": "two\nlines", "label": 3}, {"text": "é", "label": "x", "id": 1}]
    lines.write_text("\n".join(map(json.dumps, rows)))
    plain.write_text("one\ntwo\n")
    assert read_labelled(tsv) == (["a cat", "a rose"], ["animals", "plants"])
    assert read_labelled(lines) == (["two\nlines", "é"], ["3", "x"])
    assert read_labelled(plain) == (["one", "two"], None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "a\tb\nc", "line 2 has no label, and others have"),
        ("a.tsv", "a\tb\tc", "line 1: must be a text, or a text, one tab"),
        ("a.tsv", "a\t", "line 1: must be"),
        ("a.tsv", "a\tb\n\tc", "line 2: must be"),
        ("a.jsonl", "{}", "line 1: must be an object with a text"),
        ("a.jsonl", "x", "line 1 is no JSON"),
        ("a.jsonl", '{"text": "a", "label": 0.5}', "line 1: label must be"),
        ("a.jsonl", " ", "is empty"),
    ],
)
def test_files_that_cannot_be_used(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_labelled(tmp_path / name)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="there are 49; give at least 50"):
        compare_encoders(ORIGINAL, COMPRESSED, Bytes(), TEXTS[:49])
    with pytest.raises(InputError, match="there are 59 for 60 texts"):
        compare_encoders(ORIGINAL, COMPRESSED, Bytes(), TEXTS, LABELS[:59])
    with pytest.raises(InputError, match="labels: all are 'x'"):
        compare_encoders(ORIGINAL, COMPRESSED, Bytes(), TEXTS, ["x"] * 60)
    with pytest.raises(InputError, match="predicts tokens and is no encoder"):
        compare_encoders(ORIGINAL, llama(vocab_size=256), Bytes(), TEXTS)
    with pytest.raises(InputError, match="model: predicts tokens"):
        embed_texts(llama(vocab_size=256), TEXTS, tokenizer=Bytes())
    with pytest.raises(InputError, match="the vocabulary has 100.*is the tokenizer its"):
        embed_texts(bert(vocab_size=100), TEXTS, tokenizer=Bytes())
