"""Multiple choice against brute force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Bytes, llama
from test_models_scores import log_softmax, logits

from lplr.exceptions import InputError
from lplr.models.evaluation import forward
from lplr.models.evaluation.choices import Question, answer, read_questions

NETWORK = llama(vocab_size=256)
QUESTIONS = [
    Question("The sky is", ("blue", "a kind of fish", "é"), 0),
    Question("One and one are", ("two", "eleven"), 0),
    Question("Salt is", ("wet", "salty", "round", "blue and very, very long"), 1),
    Question("A line that ends in a space ", ("yes", "no"), 1),
]


def brute_force(question: str, choice: str) -> float:
    """``log p(choice | question)``, a token at a time."""
    context = list(question.rstrip().encode())
    tokens = list(f"{question} {choice}".encode())
    return sum(
        log_softmax(logits(NETWORK, np.array(tokens[:place]))[-1])[tokens[place]]
        for place in range(len(context), len(tokens))
    )


@pytest.mark.parametrize("tokens", [1024, 40])
def test_log_likelihoods_and_accuracies(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_TOKENS", tokens)
    found = answer(NETWORK, Bytes(), QUESTIONS)
    right = []
    for q, got in zip(QUESTIONS, found.log_likelihoods, strict=True):
        expected = np.array([brute_force(q.question, choice) for choice in q.choices])
        # Sums of up to 25 logarithms, each with an error of about 1e-6.
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        normed = expected / [len(choice) for choice in q.choices]
        right.append([expected.argmax() == q.answer, normed.argmax() == q.answer])
    means = np.mean(right, axis=0)
    assert (found.by_sum.value, found.by_length.value) == tuple(means)
    errors = np.std(right, axis=0, ddof=1) / 2
    assert (found.by_sum.standard_error, found.by_length.standard_error) == pytest.approx(errors)
    assert (found.right[0] != found.right[1]).any()  # the length does decide


def test_questions_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    lines = [
        {"question": "1 + 1 =", "choices": ["2", "3"], "answer": "3", "id": 7},
        {"question": "The sky is\u2028", "choices": ["blue", "red", "é"], "answer": 2},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")
    assert read_questions(path) == [
        Question("1 + 1 =", ("2", "3"), 1),
        Question("The sky is\u2028", ("blue", "red", "é"), 2),
    ]


GOOD = {"question": "a", "choices": ["b", "c"], "answer": 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3 is no JSON"),
        ("[]", "line 3 is no object"),
        (json.dumps({**GOOD, "question": " "}), "line 3: question must be a text"),
        (json.dumps({**GOOD, "choices": ["b"]}), "line 3: choices must be two texts or more"),
        (json.dumps({**GOOD, "choices": ["b", ""]}), "line 3: choices"),
        (json.dumps({**GOOD, "answer": "d"}), "line 3: answer 'd' must be one of the choices"),
        (json.dumps({**GOOD, "answer": 2}), "line 3: answer must be .* 0 to 1, found 2"),
        (json.dumps({**GOOD, "answer": True}), "line 3: answer must be .* found True"),
        (json.dumps({"question": "a", "choices": ["b", "c"]}), "line 3: answer .* found None"),
    ],
)
def test_lines_that_cannot_be_used(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_questions(path)


class Nothing(Bytes):
    def encode(self, text: str) -> list[int]:
        return []


@pytest.mark.parametrize(
    ("tokenizer", "questions", "message"),
    [
        (Bytes(), [], "questions: there is none"),
        (Nothing(), QUESTIONS, "has 0 tokens"),
    ],
)
def test_questions_that_cannot_be_asked(tokenizer: Any, questions: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        answer(NETWORK, tokenizer, questions)


def test_a_tokenizer_of_another_network() -> None:
    with pytest.raises(InputError, match="and the vocabulary has 150.*is the tokenizer its"):
        answer(llama(), Bytes(), [Question("é", ("b", "c"), 0)])
