"""Perplexity, divergence and agreement against plain loops in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from networks import Bytes, llama, nudged

from lplr.exceptions import InputError
from lplr.models.evaluation import forward, losses
from lplr.models.evaluation.choices import Question, answer
from lplr.models.evaluation.encoders import score_encoder
from lplr.models.evaluation.estimate import Estimate, mean_of, ratio_of
from lplr.models.evaluation.forward import batches, hidden_states
from lplr.models.evaluation.losses import mean_kl
from lplr.models.evaluation.scores import compare, score
from lplr.models.generation import generate
from lplr.models.network import Network
from lplr.models.texts import padded_texts
from lplr.models.tokenizer import open_tokenizer

ORIGINAL = llama()
COMPRESSED = nudged(ORIGINAL, 0.03)
IDS = np.random.default_rng(5).integers(0, 150, (5, 20))


def logits(network: Network, row: np.ndarray) -> np.ndarray:
    """Of one sequence, all blocks one after the other."""
    h = network.embed(row[None])
    for i in range(network.family.n_blocks):
        h = network.block(i)(h)
    return network.head(h)[0].astype(np.float64)


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - z.max() - np.log(np.exp(z - z.max()).sum())


def naive(ids: np.ndarray) -> Iterator[list[tuple[float, float, float, bool]]]:
    """Of each sequence, for each predicted token: both losses, divergence, agreement."""
    for padded in ids:
        row = padded[padded >= 0]
        both = logits(ORIGINAL, row), logits(COMPRESSED, row)
        found = []
        for place in range(len(row) - 1):
            p, q = (log_softmax(z[place]) for z in both)
            kl = sum(np.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
            found.append((-p[row[place + 1]], -q[row[place + 1]], kl, p.argmax() == q.argmax()))
        yield found


def se(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


# Logits of size 10 have float32 errors of about 1e-6 each; the divergence is second order in the
# differences of logits, but is computed from their first order.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def test_scores_are_those_of_plain_loops() -> None:
    found = compare(ORIGINAL, COMPRESSED, IDS)
    expected = np.array(list(naive(IDS)))  # windows, tokens, 4
    mean, by_window = expected.mean(axis=(0, 1)), expected.mean(axis=1)
    errors = [se(by_window[:, i]) for i in range(4)]
    assert found.original_perplexity is not None
    assert found.kl is not None
    assert found.agreement is not None
    values = [found.original_perplexity, found.perplexity, found.kl, found.agreement]
    wanted = [np.exp(mean[0]), np.exp(mean[1]), mean[2], mean[3]]
    np.testing.assert_allclose([v.value for v in values], wanted, **CLOSE)
    errors[0] *= np.exp(mean[0])
    errors[1] *= np.exp(mean[1])
    np.testing.assert_allclose([v.standard_error for v in values], errors, rtol=1e-3)
    assert 0.5 < mean[3] < 1  # the networks do differ
    assert mean[2] > 0.01
    assert (found.windows, found.length, found.tokens) == (5, 20, 95)
    alone = score(COMPRESSED, IDS)
    assert alone.perplexity == found.perplexity
    assert alone.kl is None


def test_padding_counts_for_nothing() -> None:
    ids = IDS.copy()
    ids[1, 7:], ids[3, 2:] = -1, -1
    found = compare(ORIGINAL, COMPRESSED, ids)
    rows = list(naive(ids))
    kl = np.concatenate([[token[2] for token in row] for row in rows])
    assert found.tokens == len(kl) == 3 * 19 + 6 + 1
    assert found.kl is not None
    np.testing.assert_allclose(found.kl.value, kl.mean(), **CLOSE)
    assert "up to 20 tokens" in found.protocol


def test_the_same_bits_in_pieces_and_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of sequences; threads. Rows of logits are products, whose bits depend on the piece."""
    expected = compare(ORIGINAL, COMPRESSED, IDS)
    monkeypatch.setenv("LPLR_NUM_THREADS", "3")
    monkeypatch.setattr(forward, "_TOKENS", 20)
    threads = compare(ORIGINAL, COMPRESSED, IDS)
    monkeypatch.setenv("LPLR_NUM_THREADS", "1")
    assert compare(ORIGINAL, COMPRESSED, IDS) == threads
    monkeypatch.setattr(forward, "_STATES", 2 * 4 * 20 * 32)  # two sequences at a time
    monkeypatch.setattr(losses, "_LOGITS", 7 * 4 * 150)  # seven rows at a time
    pieces = compare(ORIGINAL, COMPRESSED, IDS)
    for found in (threads, pieces):
        assert found.kl is not None
        assert expected.kl is not None
        np.testing.assert_allclose(found.kl.value, expected.kl.value, **CLOSE)


def test_mean_kl_of_states_is_that_of_the_networks() -> None:
    [group] = batches(IDS, 32)
    states = [hidden_states(network, group)[0][:, :-1] for network in (ORIGINAL, COMPRESSED)]
    found = compare(ORIGINAL, COMPRESSED, IDS).kl
    assert found is not None
    got = mean_kl(*states, ORIGINAL, COMPRESSED)
    np.testing.assert_allclose(got, found.value, **CLOSE)
    assert mean_kl(states[0], states[0], ORIGINAL, ORIGINAL) == 0


def test_what_cannot_be_compared_is_refused() -> None:
    wrong = IDS.copy()
    wrong[2, 3] = 150
    with pytest.raises(InputError, match=r"token 150 at \(2, 3\).*0 to 149"):
        compare(ORIGINAL, COMPRESSED, wrong)
    with pytest.raises(InputError, match="vocabulary of 151 tokens, the original one of 150"):
        compare(ORIGINAL, llama(vocab_size=151), IDS)
    broken = dict(COMPRESSED.tensors)
    broken["model.norm.weight"] = np.full(32, np.nan, np.float32)
    with pytest.raises(InputError, match="compressed: its logits are not finite in sequence 0"):
        compare(ORIGINAL, Network(ORIGINAL.family, broken), IDS)


def test_a_standard_error_covers_as_often_as_it_says() -> None:
    """Of a ratio, with sequences of different lengths whose tokens depend on each other.

    Within two standard errors in 95 % of 2000 samples, to 3 standard deviations of that share
    (1.5 %), and to 1 % that 40 sequences are few.
    """
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        counts = rng.integers(1, 30, 40)
        totals = counts * (1.0 + 0.3 * rng.standard_normal(40))  # all tokens of one share it
        found = ratio_of(totals, counts)
        inside += abs(found.value - 1.0) < 2 * found.standard_error
    assert abs(inside / 2000 - 0.95) < 0.025


def test_one_sample_has_no_standard_error() -> None:
    assert np.isnan(mean_of([2.0]).standard_error)
    assert Estimate(0.0, 0.5).exp() == Estimate(1.0, 0.5)


def test_tokens_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", IDS)
    assert score(ORIGINAL, tmp_path / "ids.npy") == score(ORIGINAL, IDS)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: score("model", IDS), "network: must be a network.*found a str"),
        (lambda: compare("model", ORIGINAL, IDS), "original: must be a network"),
        (lambda: compare(ORIGINAL, None, IDS), "compressed: must be a network.*NoneType"),
        (lambda: generate(Path("model"), [1]), "network: must be a network.*lplr.models.load"),
        (lambda: generate(ORIGINAL, [1], stop=5), "stop: must be several token ids, found 5"),
        (lambda: score_encoder("model", Bytes(), ["a"] * 50, list("ab") * 25), "must be a network"),
        (lambda: padded_texts("abc", Bytes()), "texts: must be several texts"),
        (lambda: answer("model", Bytes(), [Question("a", ("b", "c"), 0)]), "must be a network"),
        (lambda: open_tokenizer("model"), "checkpoint: must be a checkpoint.*network.tensors"),
    ],
)
def test_what_stands_for_a_network_and_is_none(call: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()
