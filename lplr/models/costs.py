"""What compressing a network would take: bytes of each layer, time, memory and disk."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lplr.models.families import Family
from lplr.models.methods import Method
from lplr.models.walk import LANES
from lplr.parallel import matmul, n_threads

__all__ = [
    "BATCH",
    "BATCH_NBYTES",
    "KEPT_NBYTES",
    "LayerPlan",
    "Plan",
    "layers_of",
    "plan_of",
    "sequence_nbytes",
]

# Seconds of a core of 2026 that a unit of `lplr.planning.work` takes, times products a second of
# it: coding is products, triangular solves and searches in equal parts, and follows their speed.
_CODING = 0.55 * 200e9
BATCH = 16  # sequences of which output moments are formed together, at most
BATCH_NBYTES = 8e8  # that their hidden states and gradients take, at most
KEPT_NBYTES = 6e8  # that all blocks take, at most, where they are kept in memory for it
_TWO_SIDED = 1.5  # time of coding under both second moments, over that under one
_OVERHEAD = 300e6  # bytes of interpreter, libraries and compiled kernels
_DISK = 3e8  # bytes a second that are written, synced and read back


@dataclass(frozen=True)
class LayerPlan:
    """A linear layer before it is coded.

    Parameters
    ----------
    name : str
        Of its module.
    block : int
    shape : (int, int)
        Outputs and inputs.
    nbytes : int
        That will be stored at most.
    seconds : float
        For its coding.
    """

    name: str
    block: int
    shape: tuple[int, int]
    nbytes: int
    seconds: float

    @property
    def weights(self) -> int:
        """Entries of the matrix."""
        return prod(self.shape)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over entries."""
        return 8 * self.nbytes / self.weights


@dataclass(frozen=True)
class Plan:
    """A compression before it is done.

    Parameters
    ----------
    layers : tuple of LayerPlan
        In the order in which they are coded.
    tokens : (int, int)
        Calibration sequences and tokens of each; (0, 0) where none are needed.
    kept_nbytes : int
        Of everything but the linear layers in the output.
    seconds : dict of str to float
        By kind of work.
    memory, disk : int
        Bytes at the peak; disk includes the output.
    """

    layers: tuple[LayerPlan, ...]
    tokens: tuple[int, int]
    kept_nbytes: int
    seconds: dict[str, float]
    memory: int
    disk: int

    def __repr__(self) -> str:
        seconds = sum(self.seconds.values())
        return (
            f"Plan({len(self.layers)} layers at {self.bits_per_weight:.3f} bits per weight: "
            f"{self.nbytes} bytes, and {self.kept_nbytes} kept; {seconds:.0f} s, "
            f"{self.memory} bytes of memory, {self.disk} of disk)"
        )

    def share(self, kind: str) -> float:
        """Of a kind of work in the time."""
        return self.seconds.get(kind, 0.0) / sum(self.seconds.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all linear layers."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of all linear layers over their weights."""
        return 8 * self.nbytes / sum(layer.weights for layer in self.layers)

    def describe(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "layers": [
                {
                    "name": layer.name,
                    "shape": list(layer.shape),
                    "nbytes": layer.nbytes,
                    "bits_per_weight": layer.bits_per_weight,
                    "seconds": layer.seconds,
                }
                for layer in self.layers
            ],
            "calibration": {"sequences": self.tokens[0], "tokens": self.tokens[1]},
            "nbytes": self.nbytes,
            "bits_per_weight": self.bits_per_weight,
            "kept_nbytes": self.kept_nbytes,
            "seconds": {**self.seconds, "all": sum(self.seconds.values())},
            "memory_nbytes": self.memory,
            "disk_nbytes": self.disk,
        }


def layers_of(family: Family) -> dict[str, tuple[int, tuple[int, int]]]:
    """Block and shape of every linear layer, by the name of its module."""
    return {
        name: (i, shape)
        for i in range(family.n_blocks)
        for name, shape in family.linears(i).items()
    }


def plan_of(
    family: Family,
    method: Method,
    tokens: tuple[int, int],
    kept_nbytes: int,
    states_on_disk: bool,
    *,
    weighed: bool = False,
    formed: bool = False,
) -> Plan:
    """The plan of a network by its configuration alone.

    Parameters
    ----------
    family : Family
    method : Method
    tokens : (int, int)
        Calibration sequences and tokens of each.
    kept_nbytes : int
        Bytes of the tensors that are kept.
    states_on_disk : bool
        Whether hidden states are mapped from a file.
    weighed : bool
        Whether tokens have weights, others for each layer.
    formed : bool
        Whether these weights are formed first.

    Returns
    -------
    Plan

    Raises
    ------
    BudgetError
        If the budget of a layer is too small; the message names the layer.
    """
    speed = _speed(n_threads())
    layers = tuple(
        LayerPlan(name, i, shape, method.nbytes(name, shape), method.work(shape) * _CODING / speed)
        for name, (i, shape) in layers_of(family).items()
    )
    tokens = tokens if method.calibrated else (0, 0)
    states = 2 * 4 * prod(tokens) * family.width
    coding = sum(layer.seconds for layer in layers)
    seconds = {"coding": coding * _TWO_SIDED if weighed else coding}
    if method.calibrated:
        seconds |= {
            "forward passes": 2 * _forward(family, layers, tokens) / speed,
            "second moments": _moments(family, layers, prod(tokens), weighed) / speed,
            "hidden states": family.n_blocks * states / _DISK,
        }
    disk = sum(layer.nbytes for layer in layers) + kept_nbytes + (2 + states_on_disk) * states
    memory = _memory(family, layers, tokens, weighed) + (0 if states_on_disk else states)
    if formed:
        squares = sum(n * n for n, _ in (layer.shape for layer in layers))
        # Three passes, of which the second is the first anew; gradients of inputs cost what the
        # outputs cost; a sum is symmetric; and the head, whose errors go back to its inputs.
        head = 2 * 3 * family.vocabulary * family.width * prod(tokens)
        work = 3 * _forward(family, layers, tokens) + head + squares * prod(tokens)
        seconds["output moments"] = work / speed
        disk += 3 * 4 * squares + 2 * 4 * len(layers) * prod(tokens)
        memory = max(memory, _forming(family, layers, tokens))
    return Plan(layers, tokens, kept_nbytes, seconds, int(memory), int(disk))


def _forward(family: Family, layers: tuple[LayerPlan, ...], tokens: tuple[int, int]) -> float:
    """Operations of one pass of all sequences through all blocks."""
    sequences, length = tokens
    linear = 2 * sum(layer.weights for layer in layers)
    attention = 4 * length * family.width * family.n_blocks  # about, where heads have other widths
    return float(sequences * length * (linear + attention))


def _moments(family: Family, layers: tuple[LayerPlan, ...], tokens: int, weighed: bool) -> float:
    """Operations for second moments, for errors of outputs, and for solving with both."""
    shapes = {layer.name: layer.shape for layer in layers}
    stages = [
        [shapes[name] for name in s] for i in range(family.n_blocks) for s in family.stages(i)
    ]
    # Half of a product: it is symmetric. With weights, of each layer and not of each stage.
    sums = sum(d * d * (1 + len(more) if weighed else 1) for (_, d), *more in stages)
    errors = sum(2 * n * d for (n, d), *more in stages if not more)
    solves = sum(8 * d * d * (n + d / 12) for n, d in shapes.values())  # twice, in float64
    return float(tokens * (sums + errors) + solves)


def sequence_nbytes(family: Family, tokens: int, products: bool = False) -> int:
    """Bytes of a sequence while output moments are formed: states, gradients, and products."""
    shapes = family.linears(0).values()
    entries = tokens * (family.width * (family.n_blocks + 1) + sum(n for n, _ in shapes))
    return 4 * (entries + products * sum(n * d for n, d in shapes))


def _forming(family: Family, layers: tuple[LayerPlan, ...], tokens: tuple[int, int]) -> float:
    """Bytes at the peak while output moments are formed."""
    batch = min(BATCH, tokens[0]) * sequence_nbytes(family, tokens[1])
    blocks = 4 * sum(layer.weights for layer in layers)
    embedding = 4 * family.vocabulary * family.width
    return _OVERHEAD + min(batch, BATCH_NBYTES) + min(blocks, KEPT_NBYTES) + embedding


def _memory(
    family: Family, layers: tuple[LayerPlan, ...], tokens: tuple[int, int], weighed: bool
) -> float:
    """Bytes at the peak beside the hidden states."""
    block = sum(layer.weights for layer in layers if layer.block == 0)
    widest = max(layer.shape[1] for layer in layers)
    largest = max(layer.weights for layer in layers)
    coding = 40 * largest + 6 * 8 * widest * widest
    sums = 8 * LANES * widest * widest * (1 + weighed)
    between = 2 * 2 * prod(tokens) * widest  # what a stage leaves for the next, 16 bits an entry
    embedding = 4 * family.vocabulary * family.width
    return _OVERHEAD + 2 * 4 * block + max(coding, sums) + between + embedding


@functools.cache
def _speed(threads: int) -> float:
    """Operations a second of products of float32 matrices on all threads, measured for 0.2 s."""
    a = np.ones((1024 * threads, 1024), np.float32)
    b = np.ones((1024, 1024), np.float32)
    matmul(a, b)
    start, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < 0.2:
        matmul(a, b)
        done += 1
    return done * 2 * len(a) * 1024 * 1024 / elapsed
