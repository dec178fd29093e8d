"""A network: a family and its tensors, of which any linear layer may be a packed matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import BadIndexError, InputError
from lplr.models.block import Block, Context, Gains
from lplr.models.families.base import Family, Loss
from lplr.parallel import run_blocks
from lplr.validation.matrices import as_array

__all__ = ["Network", "check_network"]


class Network:
    """A network that predicts, from tensors that are arrays or packed matrices.

    Sequences are computed side by side in threads, each of them alone: what comes out for one has
    the same bits whatever else is asked for, at any number of threads.

    Parameters
    ----------
    family : Family
    tensors : mapping of str to array or packed matrix
        By their names on disk; those of a block are read when it is asked for, and the others,
        as the embeddings of tokens, once. Packed matrices are (outputs, inputs) in all families.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.models.families import family_of
    >>> from lplr.models.network import Network
    >>> family = family_of({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
    ...                     "n_positions": 16, "vocab_size": 50})
    >>> ones = {name: np.ones(shape, np.float32) for name, shape in family.tensors().items()}
    >>> Network(family, ones).logits(np.array([[3, 1, 4]])).shape
    (1, 3, 50)
    """

    def __init__(self, family: Family, tensors: Mapping[str, Any]) -> None:
        self.family, self.tensors = family, tensors
        self._outside = _Kept(tensors)  # tensors that belong to no block

    def __repr__(self) -> str:
        family = self.family
        return (
            f"Network({type(family).__name__}: {family.n_blocks} blocks of width {family.width}, "
            f"{family.vocabulary} tokens)"
        )

    def block(self, i: int) -> Block:
        """One block, whose tensors are read now.

        Parameters
        ----------
        i : int

        Returns
        -------
        Block

        Raises
        ------
        BadIndexError
            If there is none of this number.
        """
        if not 0 <= i < self.family.n_blocks:
            raise BadIndexError(
                f"i: there is no block {i}; they are 0 to {self.family.n_blocks - 1}"
            )
        return self.family.block(self.tensors, i)

    def embed(self, ids: np.ndarray, context: Context | None = None) -> np.ndarray:
        """Hidden states before the first block.

        Parameters
        ----------
        ids : ndarray of shape (sequences, tokens), int
        context : Context, optional
            Says at which position they begin; by default at the first one.

        Returns
        -------
        ndarray of shape (sequences, tokens, width), float32

        Raises
        ------
        InputError
            If ``ids`` are not whole numbers within the vocabulary, or reach past the last position
            that the network has learned.
        """
        context = context or Context()
        ids = self._checked(ids, context.start)
        return self.family.embed(self._outside, ids, context)

    def head(self, h: np.ndarray) -> np.ndarray:
        """What the hidden states after the last block say.

        Parameters
        ----------
        h : ndarray of shape (sequences, tokens, width), float32

        Returns
        -------
        ndarray of shape (sequences, tokens, vocabulary), float32
            Logits; of an encoder its last hidden states.
        """
        return self.family.head(self._outside, h)

    def head_back(self, h: np.ndarray, loss: Loss) -> tuple[float, np.ndarray, Gains]:
        """A loss of the last hidden states of a sequence, and the way back to them.

        Parameters
        ----------
        h : ndarray of shape (tokens, width), float32
        loss : callable
            As in `Family.head_back`.

        Returns
        -------
        loss : float
            The sum over the tokens.
        dh : ndarray of shape (tokens, width), float32
        gains : dict of str to ndarray
            Gradients of the tensors of the last norm, by name.
        """
        return self.family.head_back(self._outside, h, loss)

    def hidden(self, ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Hidden states after the last block.

        The packed layers of one block at a time are decoded, since each serves all sequences.

        Parameters
        ----------
        ids : ndarray of shape (sequences, tokens), int
        mask : ndarray of shape (sequences, tokens), bool or 0 and 1, optional
            Which tokens are no padding; by default all.

        Returns
        -------
        ndarray of shape (sequences, tokens, width), float32

        Raises
        ------
        InputError
            If a token is outside the vocabulary, the message names the first; if a sequence is
            longer than the positions that the network has learned; if the mask is none of ids.
        """
        h = self.embed(ids)
        mask = self._checked_mask(mask, h)
        for i in range(self.family.n_blocks):
            block = self.block(i).decoded()

            def forward(start: int, stop: int, block: Block = block) -> None:
                seen = None if mask is None else mask[start:stop]
                h[start:stop] = block(h[start:stop], Context(mask=seen))

            run_blocks(forward, len(h), 1)
        return h

    def logits(self, ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """What the network predicts after each token: logits of the next one.

        Parameters
        ----------
        ids : ndarray of shape (sequences, tokens), int
        mask : ndarray of shape (sequences, tokens), bool or 0 and 1, optional
            Which tokens are no padding; by default all.

        Returns
        -------
        ndarray of shape (sequences, tokens, vocabulary), float32

        Raises
        ------
        InputError
            As by `hidden`, or if the network is an encoder.
        """
        if not self.family.causal:
            raise InputError("an encoder predicts no tokens; ask for its hidden states, embeddings")
        h = self.hidden(ids, mask)
        out = np.empty((*h.shape[:2], self.family.vocabulary), np.float32)

        def predict(start: int, stop: int) -> None:
            out[start:stop] = self.head(h[start:stop])

        run_blocks(predict, len(h), 1)
        return out

    def embeddings(self, ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """One vector for each text, pooled and normalised as the encoder's configuration says.

        Parameters
        ----------
        ids : ndarray of shape (texts, tokens), int
        mask : ndarray of shape (texts, tokens), bool or 0 and 1, optional
            Which tokens are no padding; by default all.

        Returns
        -------
        ndarray of shape (texts, width), float32

        Raises
        ------
        InputError
            As by `hidden`, or if the network is no encoder.
        """
        if self.family.causal:
            raise InputError(
                "only an encoder has embeddings of texts; this network predicts tokens"
            )
        h = self.hidden(ids, mask)
        mask = self._checked_mask(mask, h)
        return self.family.pool(h, np.ones(h.shape[:2], bool) if mask is None else mask)

    def _checked(self, ids: Any, start: int) -> np.ndarray:
        ids = as_array(ids, "ids")
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
            raise InputError(
                "ids: must be whole numbers of shape (sequences, tokens), found "
                f"{ids.dtype} of shape {ids.shape}"
            )
        size, longest = self.family.vocabulary, self.family.max_tokens
        wrong = (ids < 0) | (ids >= size)
        if wrong.any():
            sequence, token = np.argwhere(wrong)[0].tolist()
            raise InputError(
                f"ids: has token {ids[sequence, token]} at ({sequence}, {token}), and the "
                f"vocabulary has {size}: 0 to {size - 1}; use ids of this network's tokenizer"
            )
        if longest is not None and start + ids.shape[1] > longest:
            raise InputError(
                f"ids: reaches position {start + ids.shape[1]}, and this network has learned "
                f"{longest}; use shorter sequences"
            )
        return ids

    @staticmethod
    def _checked_mask(mask: Any, h: np.ndarray) -> np.ndarray | None:
        if mask is None:
            return None
        mask = as_array(mask, "mask")
        if mask.shape != h.shape[:2] or not np.isin(mask, (0, 1)).all():
            raise InputError(
                f"mask: must be true or false, or 1 or 0, for each token of ids, {h.shape[:2]}; "
                f"found {mask.dtype} of shape {mask.shape}"
            )
        return mask.astype(bool)


def check_network(network: Any, name: str = "network") -> Network:
    """The network; InputError, under this name, if it is anything else, such as a path."""
    if not isinstance(network, Network):
        raise InputError(
            f"{name}: must be a network, as lplr.models.load and open_network open one; found a "
            f"{type(network).__name__}"
        )
    return network


class _Kept(dict[str, Any]):
    """Tensors that are read once."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        self.tensors = tensors

    def __missing__(self, name: str) -> Any:
        return self.setdefault(name, self.tensors[name])
