"""Ways to code one linear layer of a network: what each stores, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lplr.exceptions import BudgetError, InputError
from lplr.matrices.base import PackedMatrix
from lplr.planning.codebooks import EFFORTS
from lplr.planning.sizes import budget_nbytes, least_nbytes
from lplr.planning.work import compression_work
from lplr.progress import Progress
from lplr.validation.arguments import check_budget, check_choice, check_integer

__all__ = ["METHODS", "Method", "method_of"]

METHODS = ("compress", "caldera", "quantize")

# What a method takes beside a budget, with its default.
_OPTIONS: dict[str, dict[str, Any]] = {
    "compress": {"effort": "default"},
    "caldera": {"rank": 64, "q_bits": 2, "factor_bits": 4, "mode": "default", "quantizer": None},
    "quantize": {},
}
_BY_ROW = "row"  # what shares a scale where entries are rounded as they are
# Time of each, as a multiple of that of `lplr.compress`: measured on matrices of 576 x 576 and
# 1536 x 576 at two bits, which gave 0.007 to 0.008, 1.1 and 0.95, 23 and 32.
_TIME = {"quantize": 0.008, "default": 1.0, "faithful": 27.0}


@dataclass(frozen=True)
class Method:
    """A function of the package, its options, and the budget of each layer.

    Parameters
    ----------
    name : {"compress", "caldera", "quantize"}
    options : dict
        All that the function takes beside matrix, Hessian, budget and seed.
    bits : float, mapping of str to float, or None
        Bits per weight at most: of every layer, or of each by its name.
    seed : int
    """

    name: str
    options: dict[str, Any]
    bits: float | Mapping[str, float] | None
    seed: int

    @property
    def calibrated(self) -> bool:
        """Whether it looks at the inputs of a layer."""
        return self.name != "quantize"

    def budget(self, layer: str) -> float | None:
        """Bits per weight of a layer at most; None where the options alone decide."""
        return self.bits[layer] if isinstance(self.bits, Mapping) else self.bits

    def nbytes(self, layer: str, shape: tuple[int, int]) -> int:
        """Bytes that a layer takes at most.

        Raises
        ------
        BudgetError
            If its budget is too small; the message names the layer.
        """
        budget = self.budget(layer)
        most = np.inf if budget is None else budget_nbytes(budget, shape)
        if self.name == "compress":
            least, nbytes = least_nbytes(shape), most
        elif self.name == "caldera":
            least = nbytes = self._caldera_nbytes(shape)
        else:
            least, nbytes = self._rounded(shape, 1), self._rounded(shape, self._width(shape, most))
        if least > most:
            n, d = shape
            enough = 1.001 * 8 * least / (n * d)
            raise BudgetError(
                f"bits_per_weight: {budget:g} is too little for {layer}, {n} x {d}, by the method "
                f"{self.name!r}; use at least {enough:.4g}"
            )
        return int(nbytes)

    def _caldera_nbytes(self, shape: tuple[int, int]) -> int:
        from lplr.algorithms.caldera import caldera_sizes

        options = self.options | {"rank": min(self.options["rank"], *shape)}
        return int(caldera_sizes(shape, **options)[0]["nbytes"])

    def _rounded(self, shape: tuple[int, int], bits: int) -> int:
        from lplr.algorithms.quantize import quantize_sizes

        return int(quantize_sizes(shape, bits=bits, granularity=_BY_ROW)[0]["nbytes"])

    def _width(self, shape: tuple[int, int], most: float) -> int:
        """The largest number of bits per entry that fits, at least 1."""
        return max((b for b in range(1, 9) if self._rounded(shape, b) <= most), default=1)

    def work(self, shape: tuple[int, int]) -> float:
        """How long coding takes, in the unit of `lplr.planning.work`."""
        if self.name == "compress":
            return compression_work(shape, True, self.options["effort"])
        factor = _TIME.get(self.options.get("mode", self.name), 1.0)
        return factor * compression_work(shape, self.calibrated, "default")

    def code(
        self,
        layer: str,
        W: np.ndarray,
        H: np.ndarray | None,
        G: np.ndarray | None = None,
        progress: Progress = False,
    ) -> PackedMatrix:
        """The packed layer, under the second moments of its inputs and of output gradients."""
        from lplr.algorithms.caldera import caldera
        from lplr.algorithms.compress import compress
        from lplr.algorithms.quantize import quantize

        n, d = W.shape
        budget = self.budget(layer)
        if self.name == "caldera":
            options = self.options | {"rank": min(self.options["rank"], n, d)}
            return caldera(
                W, hessian=H, output_hessian=G, rng=self.seed, **options, progress=progress
            )
        assert budget is not None  # `method_of` has seen to it
        if self.name == "quantize":
            bits = self._width((n, d), budget_nbytes(budget, (n, d)))
            return quantize(W, bits=bits, granularity=_BY_ROW, progress=progress)
        return compress(
            W,
            bits_per_entry=budget,
            hessian=H,
            output_hessian=G,
            rng=self.seed,
            **self.options,
            progress=progress,
        )


def method_of(
    name: str, bits: Any, seed: Any, layers: Mapping[str, Any], options: Mapping[str, Any]
) -> Method:
    """The method that arguments ask for.

    Parameters
    ----------
    name, bits, seed
        Arguments of `lplr.models.compress`.
    layers : mapping
        By the names of all linear layers.
    options : mapping
        By name; None stands for the default.

    Raises
    ------
    InputError
        If an argument is outside what is offered; the message names it.
    """
    check_choice(name, "method", METHODS)
    if (effort := options.get("effort")) is not None:
        check_choice(effort, "effort", tuple(EFFORTS))
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in _OPTIONS[name]:
            takes = ", ".join(_OPTIONS[name])
            raise InputError(f"{key}: the method {name!r} does not take it; it takes {takes}")
    if bits is None and name != "caldera":
        raise InputError("bits_per_weight: is missing; give for instance 2")
    if isinstance(bits, Mapping):
        bits = _by_layer(bits, layers)
    elif bits is not None:
        bits = _checked(bits, "bits_per_weight")
    return Method(name, _OPTIONS[name] | given, bits, check_integer(seed, "rng", 0))


def _by_layer(bits: Mapping[str, Any], layers: Mapping[str, Any]) -> dict[str, float]:
    found = {name.removesuffix(".weight"): value for name, value in bits.items()}
    if found.keys() != layers.keys():
        wrong = sorted(found.keys() ^ layers.keys())
        raise InputError(
            f"bits_per_weight: a mapping must name every linear layer; {wrong[0]!r} is "
            f"{'missing' if wrong[0] in layers else 'none of them'}"
        )
    return {name: _checked(found[name], f"bits_per_weight[{name!r}]") for name in layers}


def _checked(bits: Any, name: str) -> float:
    try:
        return check_budget(bits)
    except InputError as error:
        raise InputError(str(error).replace("bits_per_entry", name, 1)) from None
