"""The passes that form output moments: batches of sequences forward and back, and their sums.

A batch goes forward, and its hidden states before all blocks are kept; then it goes back, one block
at a time, which is computed anew. Sequences are computed side by side in threads, and what they add
to the sums is added in parts of matrices, each by one thread and over all tokens of the batch at
once, so that sums have the same bits at any number of threads.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lplr.exceptions import InputError
from lplr.models.block import Block, Context
from lplr.models.costs import BATCH, BATCH_NBYTES, KEPT_NBYTES, layers_of, sequence_nbytes
from lplr.models.losses import sampled_loss
from lplr.models.moments_job import MomentsJob
from lplr.models.network import Network
from lplr.models.texts import PADDING
from lplr.parallel import run_blocks
from lplr.progress import counter, parts

__all__ = ["Pass"]

_HEAD = 8  # work of a batch in the head, in units of a block's on the way forward
_TILE = 512  # rows and columns of a part of a second moment that is formed at once


class Pass:
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
        n = len(self.ids)
        batches = [slice(start, min(start + self.size, n)) for start in range(0, n, self.size)]

        def words(part: slice) -> str:
            return f"output moments, sequences {part.start + 1} to {part.stop} of {n}"

        for part in parts(batches[self.job.batches :], what=words):
            self.count = counter(3 * self.network.family.n_blocks + _HEAD)
            self.job.finish_batch(self._batch(part), part.stop)

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
        terms: dict[str, list[np.ndarray]] = {}  # of each sum, A whose A^T A are added
        for name, delta in deltas.items():
            if "token" in self.estimators:
                terms[f"{at}{name}.token.G"] = [delta.reshape(-1, delta.shape[-1])]
                weights = self.job.weights[self.rows[f"{at}{name}.token.weights"], part]
                weights[:, : mask.shape[1]] = np.einsum("...i,...i->...", delta, delta)
                weights[:, mask.shape[1] :] = 0  # where a job that was damaged has left anything
        for name, M in products.items():
            terms[f"{at}{name}.sequence.G"] = [each.T for each in M]
            terms[f"{at}{name}.sequence.H"] = [M.reshape(-1, M.shape[-1])]
        before, after = self.job.sums(i), self.job.sums(i, new=True)
        tiles = [(name, *tile) for name, total in before.items() for tile in _tiles(len(total))]

        def add(start: int, stop: int) -> None:
            for name, rows, columns in tiles[start:stop]:
                found = before[name][rows, columns].copy()
                for A in terms[name]:
                    found += A[:, rows].T @ A[:, columns]
                after[name][rows, columns] = found
                after[name][columns, rows] = found.T

        run_blocks(add, len(tiles), 1)


def _tiles(n: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the parts of a symmetric matrix, on the diagonal and below it."""
    edges = np.linspace(0, n, -(-n // _TILE) + 1).astype(int).tolist()
    spans = [slice(*edge) for edge in pairwise(edges)]
    return [(rows, columns) for k, rows in enumerate(spans) for columns in spans[: k + 1]]
