"""Second moments of the gradients at the outputs of linear layers: how much is felt of an error.

A change E of a linear layer ``y = W x`` changes what the network predicts by about

    KL = 1/2 tr(G E H E^T)

a token, H and G being second moments of its inputs x and of the gradients delta of the loss by y.
This is the Fisher matrix of the layer with its two sides apart, as in K-FAC (Martens and Grosse,
arXiv 1503.05671), if the loss is that of labels drawn from the network's own predictions: then its
second derivative is that of KL(original, compressed). The labels of the data would give another.

* By token (GuidedQuant, Kim and others, arXiv 2505.07004, weighs H so): with T tokens,
  ``G = 1/T sum_t delta_t delta_t^T`` and ``H = sum_t w_t x_t x_t^T / sum_t w_t``, where
  ``w_t = |delta_t|^2``. The weights are kept and not H, so that H can be formed behind layers that
  are compressed already.
* By sequence (sketch B of YAQA, Tseng and others, arXiv 2505.22988): with the gradient of the
  weight in a sequence, ``M = sum_t delta_t x_t^T``, ``H = 1/T sum M^T M`` over tr(G), and
  ``G = 1/T sum M M^T`` over the sequences. It sees that tokens of a sequence are not independent,
  needs more sequences, and knows the original inputs alone.

One pass serves all layers. A batch of sequences goes forward, and its hidden states before all
blocks are kept; then it goes back, one block at a time, which is computed anew.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.matrices.errors import ratio_of_norms, two_sided_square
from lplr.models.block import Block, Context
from lplr.models.checkpoint import Checkpoint, open_checkpoint
from lplr.models.costs import BATCH, BATCH_NBYTES, KEPT_NBYTES, layers_of, sequence_nbytes
from lplr.models.families import Family, family_of
from lplr.models.losses import sampled_loss
from lplr.models.moments_file import OutputMoments, shapes_of, write_moments
from lplr.models.moments_job import MomentsJob
from lplr.models.network import Network
from lplr.models.output import new_path
from lplr.models.request import check_enough, check_predicts, check_tensors
from lplr.models.texts import PADDING, fingerprint, shortest_first, token_windows
from lplr.parallel import reproducible, run_blocks
from lplr.progress import Progress, counter, tracked, until
from lplr.provenance import versions
from lplr.validation import check_choice, check_flag, check_integer

__all__ = ["ESTIMATORS", "felt", "form_moments", "output_moments"]

ESTIMATORS = {"token": ("token",), "sequence": ("sequence",), "both": ("token", "sequence")}
_HEAD = 8  # work of a batch in the head, in units of a block's on the way forward
_TILE = 512  # rows and columns of a part of a second moment that is formed at once


def output_moments(
    checkpoint: Any,
    tokens: Any,
    out: str | os.PathLike[str],
    *,
    estimator: str = "token",
    rng: int = 0,
    overwrite: bool = False,
    progress: Progress = False,
) -> OutputMoments:
    """Second moments of the gradients at the outputs of all linear layers, as a file.

    One pass forward and one back over the tokens, with labels drawn from the network's own
    predictions. What is finished is kept in ``out.job``: the same call, after an interrupt or a
    kill, goes on from there and ends with the same bytes.

    Parameters
    ----------
    checkpoint : str, path or Checkpoint
        A network that predicts tokens; see `open_checkpoint`.
    tokens : str, path or array_like of int, of shape (sequences, tokens)
        Token ids, or a file of them, see `lplr.models.texts.token_windows`; -1 is padding. The
        same ones as for `lplr.models.compress`.
    out : str or path
        The ``.safetensors`` file to write.
    estimator : {"token", "sequence", "both"}
        What is summed, see Notes.
    rng : int
        Seed of the labels.
    overwrite : bool
        Whether an existing file is replaced, once the new one is complete.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    OutputMoments
        The open file, for ``output_moments`` of `lplr.models.compress`.

    Raises
    ------
    InputError
        If an argument is outside what is offered, the network is an encoder, ``out`` exists,
        another process makes it, ``out.job`` is of another call, or a gradient is not finite, or
        is zero everywhere at the outputs of a layer.
    StorageError
        If there is no space; what is finished stays.

    Warns
    -----
    DampingWarning
        If there are fewer tokens than outputs of a layer.

    Notes
    -----
    A change E of a layer of weights W changes the predictions by about ``1/2 tr(G E H E^T)`` nats
    a token. By token, G is the mean of ``delta delta^T``, delta being the gradient of the loss by
    an output, and H the mean of ``x x^T``, weighed by ``|delta|^2``; only these weights are kept.
    By sequence, G and H are sums of ``M M^T`` and ``M^T M``, M being the gradient by W in a
    sequence (sketch B of YAQA, Tseng and others, arXiv 2505.22988). It costs about twice as much,
    and `lplr.models.compress` then takes H as it is in the original network.

    On disk it takes twice, in memory once for a block, the space of what is summed: ``4 n^2``
    bytes for a layer of n outputs, and by sequence ``4 n^2 + 4 d^2``.

    Examples
    --------
    >>> import lplr
    >>> moments = lplr.models.output_moments(
    ...     "SmolLM2-135M", "tokens.npy", "moments.safetensors"
    ... )  # doctest: +SKIP
    >>> summary = lplr.models.compress(
    ...     "SmolLM2-135M", "small", bits_per_weight=2, calibration="tokens.npy",
    ...     output_moments="moments.safetensors",
    ... )  # doctest: +SKIP
    """
    check_choice(estimator, "estimator", tuple(ESTIMATORS))
    seed = check_integer(rng, "rng", 0)
    replaced = check_flag(overwrite, "overwrite") and os.path.isfile(out)
    target = Path(os.path.abspath(out)) if replaced else new_path(out)
    if target.suffix != ".safetensors":
        raise InputError(f"out: the name must end in .safetensors, found {str(target)!r}")
    with tracked(progress, "reading"), reproducible():
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = open_checkpoint(checkpoint)
        family = family_of(checkpoint.config)
        check_predicts(family)
        ids = shortest_first(token_windows(tokens, vocabulary=family.vocabulary))
        check_enough(ids, family, outputs=True)
        with until(0.02, "checking the tensors"):
            check_tensors(checkpoint, family)
        with until(1.0, "output moments"):
            return form_moments(
                checkpoint, family, ids, target, ESTIMATORS[estimator], seed, overwrite
            )


def form_moments(
    checkpoint: Checkpoint,
    family: Family,
    ids: np.ndarray,
    out: Path,
    estimators: tuple[str, ...],
    seed: int,
    overwrite: bool = False,
) -> OutputMoments:
    """What `output_moments` returns, of arguments that are checked."""
    facts = {
        "estimators": list(estimators),
        "rng": seed,
        "checkpoint": checkpoint.digest(),
        "calibration": fingerprint(ids),
        "versions": versions(),
    }
    shapes = [
        {
            name: shape
            for layer, of in family.linears(i).items()
            for name, shape in shapes_of(layer, of, estimators, ids.shape).items()
        }
        for i in range(family.n_blocks)
    ]
    sums = [{n: s for n, s in of.items() if not _is_weights(n)} for of in shapes]
    rows = {n: k for k, n in enumerate(n for of in shapes for n in of if _is_weights(n))}
    with MomentsJob(out, facts, sums, (len(rows), *ids.shape)) as job:
        _Pass(Network(family, checkpoint), ids, seed, estimators, job, rows).run()
        count = int((ids != PADDING).sum())
        blocks = {name: i for i, of in enumerate(shapes) for name in of}

        def read(name: str) -> np.ndarray:
            if name in rows:
                found = job.weights[rows[name]]
            else:
                found = job.sums(blocks[name])[name] / np.float32(count)
            _check(name, found)
            return found

        facts |= {"loss": job.loss / count}
        every = {name: shape for of in shapes for name, shape in of.items()}
        found = write_moments(out, facts, every, read, overwrite)
        job.discard()
    return found


def felt(G: np.ndarray, W: np.ndarray, coded: np.ndarray, H: np.ndarray) -> dict[str, float]:
    """What an error of a layer makes in the predictions, as the two second moments say.

    ``two_sided_error`` is relative, as ``sqrt(tr(G E H E^T) / tr(G W H W^T))``, E being the error
    W less what is coded; ``predicted_kl`` is ``1/2 tr(G E H E^T)``, in nats a token.
    """
    G64, W64 = G.astype(np.float64), W.astype(np.float64)
    error, whole = (two_sided_square(A, H, G64) for A in (W64 - coded, W64))
    return {"two_sided_error": ratio_of_norms(error, whole), "predicted_kl": error / 2}


def _is_weights(name: str) -> bool:
    return name.endswith(".weights")


def _check(name: str, found: np.ndarray) -> None:
    layer = name.rsplit(".", 2)[0]
    if not np.isfinite(found).all():
        raise InputError(
            f"tokens: the gradients at the outputs of {layer} are not finite; the network "
            "overflows on these tokens"
        )
    if not found.any():
        raise InputError(
            f"tokens: the gradients at the outputs of {layer} are all zero: nothing that it "
            "computes is felt; leave the output moments out, or the layer"
        )


class _Pass:
    """The passes of all batches, from where the last call ended."""

    def __init__(
        self,
        network: Network,
        ids: np.ndarray,
        seed: int,
        estimators: tuple[str, ...],
        job: MomentsJob,
        rows: dict[str, int],
    ) -> None:
        self.network, self.ids, self.seed = network, ids, seed
        self.estimators, self.job, self.rows = estimators, job, rows
        self.lengths = (ids != PADDING).sum(axis=1)
        each = sequence_nbytes(network.family, ids.shape[1], "sequence" in estimators)
        self.size = int(min(BATCH, max(1, BATCH_NBYTES // each)))
        self.blocks: dict[int, Block] = {}  # where they are kept: some formats take long to read
        self.room: dict[str, np.ndarray] = {}
        shapes = [shape for _, shape in layers_of(network.family).values()]
        self.keeps = 4 * sum(n * d for n, d in shapes) <= KEPT_NBYTES

    def run(self) -> None:
        """Do it."""
        starts = range(0, len(self.ids), self.size)
        family = self.network.family
        self.count = counter(len(starts) * (3 * family.n_blocks + _HEAD))
        self.count(self.job.batches * (3 * family.n_blocks + _HEAD))
        for start in starts[self.job.batches :]:
            self.job.finish_batch(self._batch(slice(start, start + self.size)))

    def _batch(self, part: slice) -> float:
        """Some sequences forward and back; the sum of their losses."""
        ids = self.ids[part, : self.lengths[part].max()]
        mask = ids != PADDING
        states = [self.network.embed(np.where(mask, ids, 0))]
        for i in range(self.network.family.n_blocks):
            states.append(self._forward(i, states[-1]))
        loss, dh = self._head(states.pop(), mask, part.start)
        for i in reversed(range(self.network.family.n_blocks)):
            self._back(i, states.pop(), dh, mask, part)
        return loss

    def _block(self, i: int) -> Block:
        block = self.blocks.get(i) or self.network.block(i).decoded()
        if self.keeps:
            self.blocks[i] = block
        return block

    def _room(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array to fill; one of a name and shape serves all blocks, which is quicker."""
        found = self.room.get(name)
        if found is None or found.shape != shape:
            found = self.room[name] = np.empty(shape, np.float32)
        return found

    def _forward(self, i: int, h: np.ndarray) -> np.ndarray:
        """Hidden states after block i."""
        block = self._block(i)
        after = np.empty_like(h)

        def forward(start: int, stop: int) -> None:
            after[start:stop] = block(h[start:stop])
            self.count((stop - start) / len(h))

        run_blocks(forward, len(h), 1)
        return after

    def _head(self, h: np.ndarray, mask: np.ndarray, first: int) -> tuple[float, np.ndarray]:
        """The sum of the losses of labels drawn for all tokens, and its gradient by h."""
        dh = np.zeros_like(h)
        losses = np.zeros(len(h))

        def head(start: int, stop: int) -> None:
            count = int(mask[start].sum())
            uniform = np.random.default_rng([self.seed, first + start]).random(count)

            def loss(logits: np.ndarray, part: slice) -> tuple[float, np.ndarray]:
                return sampled_loss(logits, uniform[part])[:2]

            found = self.network.head_back(h[start, :count], loss)
            losses[start], dh[start, :count] = found[:2]
            if not np.isfinite(losses[start]):
                raise InputError("tokens: the predictions are not finite; check the checkpoint")
            self.count(_HEAD / len(h))

        self.network.head(h[:1, :1])  # reads its weights, once for all threads
        run_blocks(head, len(h), 1)
        return float(losses.sum()), dh

    def _back(self, i: int, h: np.ndarray, dh: np.ndarray, mask: np.ndarray, part: slice) -> None:
        """Back through block i, in place, and what it adds to the sums."""
        family = self.network.family
        block = self._block(i)
        at = family.prefix(i)
        shapes = {name.removeprefix(at): shape for name, shape in family.linears(i).items()}
        size = len(h)
        deltas = {name: self._room(name, (*mask.shape, n)) for name, (n, _) in shapes.items()}
        products = {}
        if "sequence" in self.estimators:
            products = {name: self._room(f"{name} M", (size, *of)) for name, of in shapes.items()}

        def back(start: int, stop: int) -> None:
            def see(name: str, u: np.ndarray, dy: np.ndarray) -> None:
                deltas[name][start] = dy[0]
                if products:
                    np.matmul(dy[0].T, u[0], out=products[name][start])

            dh[start:stop], _ = block.backward(h[start:stop], dh[start:stop], Context(), see)
            self.count(2 / size)

        run_blocks(back, size, 1)
        parts: dict[str, list[np.ndarray]] = {}  # of each sum, A whose A^T A are added
        for name, delta in deltas.items():
            if "token" in self.estimators:
                parts[f"{at}{name}.token.G"] = [delta.reshape(-1, delta.shape[-1])]
                weights = self.job.weights[self.rows[f"{at}{name}.token.weights"], part]
                weights[:, : mask.shape[1]] = np.einsum("...i,...i->...", delta, delta)
        for name, M in products.items():
            parts[f"{at}{name}.sequence.G"] = [each.T for each in M]
            parts[f"{at}{name}.sequence.H"] = [M.reshape(-1, M.shape[-1])]
        before, after = self.job.sums(i), self.job.sums(i, new=True)
        tiles = [(name, *tile) for name, total in before.items() for tile in _tiles(len(total))]

        def add(start: int, stop: int) -> None:
            for name, rows, columns in tiles[start:stop]:
                found = before[name][rows, columns].copy()
                for A in parts[name]:
                    found += A[:, rows].T @ A[:, columns]
                after[name][rows, columns] = found
                after[name][columns, rows] = found.T

        run_blocks(add, len(tiles), 1)


def _tiles(n: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the parts of a symmetric matrix, on the diagonal and below it."""
    edges = np.linspace(0, n, -(-n // _TILE) + 1).astype(int).tolist()
    parts = [slice(*edge) for edge in pairwise(edges)]
    return [(rows, columns) for k, rows in enumerate(parts) for columns in parts[: k + 1]]
