"""Multiple choice: which continuation of a question does the network find likeliest?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lplr.exceptions import InputError
from lplr.models.evaluation.estimate import Estimate, Measured, mean_of
from lplr.models.evaluation.lines import lines_of, of_json
from lplr.models.evaluation.losses import token_losses
from lplr.models.network import Network, check_network
from lplr.models.texts import PADDING, Tokenizer, check_ids
from lplr.progress import Progress, tracked

__all__ = ["Answers", "Question", "answer", "read_questions"]


@dataclass(frozen=True)
class Question:
    """A question, its possible continuations, and which of them is right.

    Parameters
    ----------
    question : str
    choices : tuple of str
    answer : int

    Examples
    --------
    >>> from lplr.models.evaluation.choices import Question
    >>> Question("Two and two are", ("three", "four"), 1).choices[1]
    'four'
    """

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Answers(Measured):
    """What a network answered.

    Parameters
    ----------
    by_sum : Estimate
        Share of the questions whose likeliest choice, by the sum of the log-likelihoods of its
        tokens, is the right one.
    by_length : Estimate
        The same for that sum divided by the number of characters of the choice.
    log_likelihoods : tuple of ndarray
        Of each question, the sums of its choices.
    right : ndarray of shape (2, questions), bool
        Whether the choice is the right one, by sum and by length.

    Notes
    -----
    These are ``acc`` and ``acc_norm`` of lm-evaluation-harness [1]_, which divides by the length of
    the text and not by a number of tokens, so that networks with different tokenizers can be
    compared. One space joins a question and a choice; the tokens of a choice are those of the
    joined text after as many as the question, without spaces at its end, has alone. Of equally
    likely choices, the first counts.

    References
    ----------
    .. [1] Gao et al., "A framework for few-shot language model evaluation", Zenodo, 2021.

    Examples
    --------
    >>> from lplr.models.evaluation.choices import Answers
    >>> from lplr.models.evaluation.estimate import Estimate
    >>> Answers(Estimate(0.5, 0.1), Estimate(0.6, 0.1), (), None).protocol[:39]
    '0 questions without examples; log-likel'
    """

    by_sum: Estimate
    by_length: Estimate
    log_likelihoods: tuple[np.ndarray, ...]
    right: np.ndarray

    @property
    def protocol(self) -> str:
        """How the numbers were measured, in a line."""
        return (
            f"{len(self.log_likelihoods)} questions without examples; log-likelihood of each "
            "choice after the question and a space, as it is (by sum) or divided by the "
            "characters of the choice (by length); ± is the standard error over questions"
        )


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Questions from a file of JSON lines.

    Parameters
    ----------
    path : str or path-like
        Each line an object with ``question`` (a text), ``choices`` (two texts or more) and
        ``answer`` (the number of the right one, from 0, or its text). Empty lines are skipped.

    Returns
    -------
    list of Question

    Raises
    ------
    InputError
        If the file cannot be read or a line is none of these; the message has its number.

    Examples
    --------
    >>> import os, tempfile
    >>> from lplr.models.evaluation.choices import read_questions
    >>> path = os.path.join(tempfile.mkdtemp(), "a.jsonl")
    >>> with open(path, "w") as file:
    ...     _ = file.write('{"question": "1 + 1 =", "choices": ["2", "3"], "answer": "2"}')
    >>> read_questions(path)
    [Question(question='1 + 1 =', choices=('2', '3'), answer=0)]
    """
    return [_question(where, line) for where, line in lines_of(path)]


def _question(where: str, line: str) -> Question:
    found = of_json(where, line)
    if not isinstance(found, dict):
        raise InputError(f"{where} is no object with question, choices and answer")
    question, choices, right = (found.get(key) for key in ("question", "choices", "answer"))
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"{where}: question must be a text, found {question!r}")
    if (
        not isinstance(choices, list)
        or len(choices) < 2
        or not all(isinstance(choice, str) and choice for choice in choices)
    ):
        raise InputError(f"{where}: choices must be two texts or more, found {choices!r}")
    if isinstance(right, str):
        if choices.count(right) != 1:
            raise InputError(f"{where}: answer {right!r} must be one of the choices {choices}")
        right = choices.index(right)
    if type(right) is not int or not 0 <= right < len(choices):
        raise InputError(
            f"{where}: answer must be one of the choices or its number, 0 to {len(choices) - 1}, "
            f"found {right!r}"
        )
    return Question(question, tuple(choices), right)


def answer(
    network: Network,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    progress: Progress = False,
) -> Answers:
    """Let a network choose.

    Parameters
    ----------
    network : Network
        One that predicts the next token.
    tokenizer : Tokenizer
    questions : sequence of Question
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    Answers

    Raises
    ------
    InputError
        If there is no question, the tokenizer has no token for one, or gives tokens that the
        network does not know.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.evaluation.choices import Question, answer
    >>> from lplr.models.families.llama import Llama
    >>> from lplr.models.network import Network
    >>> family = Llama({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8,
    ...     "vocab_size": 128, "intermediate_size": 8, "num_attention_heads": 2})
    >>> tensors = {name: np.zeros(shape, np.float32) for name, shape in family.tensors().items()}
    >>> class Bytes:
    ...     vocabulary_size = 128
    ...     def encode(self, text):
    ...         return list(text.encode())
    >>> found = answer(Network(family, tensors), Bytes(), [Question("1 + 1 =", ("two", "2"), 1)])
    >>> found.by_sum.value, found.log_likelihoods[0].round(2)
    (1.0, array([-19.41,  -9.7 ]))
    """
    if not questions:
        raise InputError("questions: there is none; give at least one")
    pairs = [_pair(tokenizer, q, choice) for q in questions for choice in q.choices]
    with tracked(progress, "multiple choice"):
        sums = _log_likelihoods(network, pairs)
    lengths = np.array([len(choice) for q in questions for choice in q.choices])
    ends = np.cumsum([len(q.choices) for q in questions])[:-1]
    each = np.split(sums, ends)
    normed = np.split(sums / lengths, ends)
    chosen = [[int(x.argmax()) for x in found] for found in (each, normed)]
    right = np.array(chosen) == [q.answer for q in questions]
    return Answers(mean_of(right[0]), mean_of(right[1]), tuple(each), right)


def _pair(tokenizer: Tokenizer, question: Question, choice: str) -> tuple[list[int], int]:
    """Tokens of a question and a choice, and how many of them are the question's."""
    text = question.question
    context = list(tokenizer.encode(text.rstrip()))
    whole = list(tokenizer.encode(f"{text} {choice}"))
    if not 0 < len(context) < len(whole):
        raise InputError(
            f"questions: {text[-40:]!r} has {len(context)} tokens, and with {choice[:40]!r} after "
            f"it {len(whole)}; each must have at least one"
        )
    return whole, len(context)


def _log_likelihoods(network: Network, pairs: Sequence[tuple[list[int], int]]) -> np.ndarray:
    """The sum of the log-likelihoods of what follows each context."""
    ids = np.full((len(pairs), max(len(tokens) for tokens, _ in pairs)), PADDING)
    asked = np.zeros((len(ids), ids.shape[1] - 1), bool)
    for row, (tokens, context) in enumerate(pairs):
        ids[row, : len(tokens)] = tokens
        asked[row, context - 1 : len(tokens) - 1] = True
    vocabulary = check_network(network).family.vocabulary
    ids = check_ids(ids, vocabulary=vocabulary, name="questions", hint="is the tokenizer its?")
    losses = token_losses([network], ids, asked)[0]
    return -np.bincount(np.nonzero(asked)[0], losses, minlength=len(ids))
