"""A number that tells whether a block of rows is what it was, faster than any product with it."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import numpy as np

__all__ = ["fingerprint"]

_WORDS = 4096  # that are summed up together


@cache
def _weights() -> np.ndarray:
    """Odd numbers: their products with a word differ wherever the word does."""
    return np.random.Philox(key=0).random_raw(_WORDS) | np.uint64(1)


def fingerprint(block: np.ndarray) -> int:
    """64 bits that another block has by chance once in 2**63 or so.

    Words of 8 bytes times odd weights are summed up modulo 2**64, 4096 at a time, which any change
    of one word changes (multilinear hashing); BLAKE2 takes the sums.

    Parameters
    ----------
    block : ndarray, C-contiguous

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.streaming.fingerprint import fingerprint
    >>> fingerprint(np.eye(3)) == fingerprint(np.eye(3)) != fingerprint(np.ones((3, 3)))
    True
    """
    from lplr.kernels.hashing import weighted_sums

    octets = block.reshape(-1).view(np.uint8)
    words = octets[: len(octets) // 8 * 8].view(np.uint64)
    whole = len(words) // _WORDS * _WORDS
    sums = np.empty(whole // _WORDS, np.uint64)
    weighted_sums(words[:whole], _weights(), sums)
    rest = words[whole:] * _weights()[: len(words) - whole]
    state = blake2b(sums.tobytes(), digest_size=8)
    state.update(rest.tobytes())
    state.update(octets[8 * len(words) :].tobytes())
    return int.from_bytes(state.digest(), "little")
