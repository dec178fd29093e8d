"""Text that a network goes on with: token after token, over a cache of keys and values."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.block import Block, Context, KeyValues
from lplr.models.network import Network, check_network
from lplr.parallel import reproducible, single_threaded
from lplr.validation.arguments import check_integer, check_real, check_rng
from lplr.validation.matrices import as_array

__all__ = ["draw", "generate"]


def generate(
    network: Network,
    ids: Any,
    *,
    max_tokens: int = 256,
    temperature: float | None = None,
    top_p: float | None = None,
    rng: int | np.random.Generator | None = None,
    stop: Collection[int] = (),
) -> Iterator[int]:
    """Go on from some tokens; each new one is there as soon as it is found.

    The given tokens pass through the network at once, then each new token alone: every block keeps
    its keys and values.

    Parameters
    ----------
    network : Network
        Of a family that predicts the next token.
    ids : array_like of int, shape (tokens,)
        What to go on from; at least one token.
    max_tokens : int
        How many new tokens at most. A network with learned positions ends at its last one.
    temperature : float, optional
        The logits are divided by it. 0 takes the most probable token, always; it is the default
        where ``top_p`` is not given either, else the default is 1.
    top_p : float, optional
        Draw from the most probable tokens, as few as have this probability together, in (0, 1]; by
        default from all.
    rng : int, Generator or None
        For the draws.
    stop : collection of int
        Tokens that end the text; the one that comes is the last that is yielded.

    Yields
    ------
    int
        The next token.

    Raises
    ------
    InputError
        If the network is an encoder; if there are no ids, or they are outside the vocabulary or
        fill all positions; if an option is out of range.

    Notes
    -----
    Drawing from the most probable tokens is nucleus sampling (Holtzman et al., ICLR 2020).

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.models.families import family_of
    >>> from lplr.models.network import Network
    >>> family = family_of({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
    ...                     "n_positions": 16, "vocab_size": 50})
    >>> ones = {name: np.ones(shape, np.float32) for name, shape in family.tensors().items()}
    >>> list(lplr.models.generate(Network(family, ones), [3, 1, 4], max_tokens=2))
    [0, 0]
    """
    given = _check_ids(network, ids)
    max_tokens = check_integer(max_tokens, "max_tokens", 1)
    if temperature is None:
        temperature = 0.0 if top_p is None else 1.0
    temperature = check_real(temperature, "temperature", strict=False)
    top_p = check_real(1.0 if top_p is None else top_p, "top_p")
    if top_p > 1:
        raise InputError(f"top_p: must be a probability, at most 1, found {top_p:g}")
    rng = check_rng(rng)
    longest = network.family.max_tokens
    if longest is not None:
        if len(given) >= longest:
            raise InputError(
                f"ids: {len(given)} tokens leave no place for a new one; the network has "
                f"{longest} positions"
            )
        max_tokens = min(max_tokens, longest - len(given))
    last = _check_stop(stop)
    blocks = [network.block(i) for i in range(network.family.n_blocks)]
    return _tokens(network, blocks, given, max_tokens, temperature, top_p, rng, last)


def _check_stop(stop: Any) -> frozenset[int]:
    try:
        return frozenset(stop)
    except TypeError:
        raise InputError(f"stop: must be several token ids, found {stop!r}") from None


def _check_ids(network: Network, ids: Any) -> np.ndarray:
    if not check_network(network).family.causal:
        raise InputError("network: is an encoder, which predicts no next token")
    found = as_array(ids, "ids")
    if found.size == 0:
        raise InputError("ids: is empty; give at least one token to go on from")
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InputError(
            f"ids: must be whole numbers of shape (tokens,), found {found.dtype} of shape "
            f"{found.shape}"
        )
    last = network.family.vocabulary - 1
    outside = found[(found < 0) | (found > last)]
    if outside.size:
        raise InputError(f"ids: has {outside[0]}; the vocabulary of the network is 0 to {last}")
    return found.astype(np.int64)


def _tokens(
    network: Network,
    blocks: list[Block],
    given: np.ndarray,
    max_tokens: int,
    temperature: float,
    top_p: float,
    rng: np.random.Generator,
    stop: frozenset[int],
) -> Iterator[int]:
    caches = [KeyValues() for _ in blocks]
    new, start = given, 0
    for _ in range(max_tokens):
        logits = _logits(network, blocks, caches, new, start)
        start += len(new)
        token = draw(logits, temperature, top_p, rng)
        yield token
        if token in stop:
            return
        new = np.array([token])


def _logits(
    network: Network, blocks: list[Block], caches: list[KeyValues], new: np.ndarray, start: int
) -> np.ndarray:
    """Logits after the last of the new tokens, the first of which has the position ``start``."""
    # Products with one vector are over before a second thread has woken up: on one thread a token
    # takes two thirds of the time that it takes on two. Only the head is worth a thread.
    with single_threaded() if len(new) == 1 else reproducible():
        h = network.embed(new[None], Context(start))
        for block, cache in zip(blocks, caches, strict=True):
            h = block(h, Context(start, cache=cache))
    with reproducible():
        return network.head(h[:, -1:])[0, 0]


def draw(logits: np.ndarray, temperature: float, top_p: float, rng: np.random.Generator) -> int:
    """A token of the least set of the most probable ones that has the probability ``top_p``.

    The most probable token, where the temperature is 0.
    """
    if temperature == 0:
        return int(logits.argmax())
    x = logits.astype(np.float64)
    p = np.exp((x - x.max()) / temperature)
    p /= p.sum()
    # All tokens below (1 - top_p) / n have less than 1 - top_p together: the set needs none.
    tokens = np.flatnonzero(p >= (1 - top_p) / len(p))
    tokens = tokens[np.argsort(-p[tokens], kind="stable")]
    reached = np.cumsum(p[tokens])
    last = min(int(np.searchsorted(reached, top_p)), len(tokens) - 1)
    return int(tokens[np.searchsorted(reached[:last], rng.random() * reached[last], side="right")])
