"""Networks on their way through one block, side by side, over all sequences of a calibration set.

Sums over tokens are formed in lanes: chunk c of the sequences belongs to lane c modulo `LANES`,
each lane adds its chunks in order, and lanes are added in order, so that the sums have the same
bits at any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from lplr.models.block import Block, Context, Stage
from lplr.parallel import run_blocks
from lplr.progress import counter

__all__ = ["LANES", "See", "Walk"]

See: TypeAlias = Callable[[int, int, slice, list[np.ndarray]], None]

LANES = 8
_TOKENS = 2048  # of a chunk: large enough for matrix products, small enough for the cache
_STEPS = 32767  # of the 16-bit numbers that a stage leaves for the next


class Walk:
    """Blocks that are gone through stage by stage, each with hidden states of its own.

    Parameters
    ----------
    blocks : sequence of Block
        Of the same stages; their linear layers may be replaced once the stage is over.
    states : sequence of ndarray of shape (sequences, tokens, width), float32
        Hidden states before the block, one array for each block; changed in place.
    mask : ndarray of shape (sequences, tokens), bool, optional
        Which tokens are no padding.
    """

    def __init__(
        self, blocks: Sequence[Block], states: Sequence[np.ndarray], mask: np.ndarray | None = None
    ) -> None:
        self.blocks, self.states, self.mask = blocks, states, mask
        self._before: Stage | None = None
        self._left: list[_Rows] | None = None
        sequences, tokens = states[0].shape[:2]
        self._size = max(1, _TOKENS // tokens)
        self.chunks = -(-sequences // self._size)
        self._lengths = None if mask is None else tokens - mask[:, ::-1].argmax(axis=1)

    def inputs(self, stage: Stage, see: See | None) -> None:
        """Finish the stage before; show the inputs of this one.

        ``see(lane, chunk, sequences, inputs)`` is called for each chunk of sequences; the inputs
        are (sequences, tokens, columns), one array for each block, as long as the longest of them.
        """
        self._go(stage, see)
        self._before = stage

    def finish(self) -> None:
        """Finish the last stage: ``states`` are those after the block."""
        self._go(None, None)

    def _go(self, stage: Stage | None, see: See | None) -> None:
        if self._before is None and see is None:
            return
        left = self._room()
        count = counter(self.chunks)

        def lane(start: int, stop: int) -> None:
            for chunk in range(start, self.chunks, LANES):
                part = slice(chunk * self._size, (chunk + 1) * self._size)
                found = [self._chunk(k, stage, part, left) for k in range(len(self.blocks))]
                if stage is not None and see is not None:
                    see(start, chunk, part, [x for x in found if x is not None])
                count(1)

        run_blocks(lane, LANES, 1)
        self._left = left

    def _chunk(
        self, k: int, stage: Stage | None, part: slice, left: list[_Rows] | None
    ) -> np.ndarray | None:
        """Finish the stage before for some sequences of one network; the inputs of this stage."""
        longest = None if self._lengths is None else self._lengths[part].max()
        at = part, slice(longest)
        h = self.states[k][at]
        x = None if self._left is None else self._left[k].get(at)
        if self._before is not None:
            mask = None if self.mask is None else self.mask[at]
            h, x = self.blocks[k].step(self._before, h, x, Context(mask=mask))
            self.states[k][at] = h
            if left is not None and x is not None:
                left[k].put(at, x)
        return None if stage is None else stage.inputs(h, x)

    def _room(self) -> list[_Rows] | None:
        """Room for what the stage before leaves, if it leaves something."""
        if self._before is None:
            return None
        one = slice(0, 1), slice(0, 1)
        x = None if self._left is None else self._left[0].get(one)
        _, x = self.blocks[0].step(self._before, self.states[0][one], x, Context())
        if x is None:
            return None
        shape = (*self.states[0].shape[:2], x.shape[-1])
        return [_Rows(shape) for _ in self.blocks]


class _Rows:
    """What a stage leaves: 16 bits an entry, relative to the largest of the token.

    Half of the memory of float32; the error is at most 1/65534 of the largest entry.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.values = np.empty(shape, np.int16)
        self.scale = np.empty((*shape[:-1], 1), np.float32)

    def put(self, at: tuple[slice, slice], x: np.ndarray) -> None:
        scale = np.maximum(x.max(axis=-1, keepdims=True), -x.min(axis=-1, keepdims=True))
        scale[scale == 0] = 1
        scale /= _STEPS
        self.scale[at] = scale
        steps = x / scale
        self.values[at] = np.rint(steps, out=steps)

    def get(self, at: tuple[slice, slice]) -> np.ndarray:
        return self.values[at] * self.scale[at]
