"""The codebooks that plans choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from lplr.coding.factor import CodebookPair
from lplr.exceptions import InputError
from lplr.quantizers.base import QUANTIZERS, Codebook, get_codebook
from lplr.validation.arguments import check_bits, check_choice, check_pair

__all__ = [
    "EFFORTS",
    "UNWEIGHTED",
    "ErrorWeights",
    "caldera_codebooks",
    "candidate_pairs",
    "codebook_pair",
    "codebooks_by_size",
    "component_menu",
    "default_codebook",
    "efficient_pairs",
    "factor_codebook",
    "factor_codebooks",
    "half_bit_pairs",
    "lower_hull",
    "residual_share",
]

EFFORTS = {"fast": "trellis-8", "default": "trellis-10", "best": "trellis-12"}
_TRELLIS_RIGHT = 3  # bits of R up to which a trellis codes it beside a trellis of Q
_SHORT = 64  # entries of a vector below which only scalar codes are on offer


def default_codebook(bits: float) -> Codebook:
    """The codebook of least error on a normal distribution that is worth its time.

    At four bits the lattice gains 12 % of the error variance over Lloyd-Max levels on Gaussian
    data and nothing measurable in a factorization, at a tenth of the speed.
    """
    return get_codebook("e8p" if bits in (2, 3) else "lloyd-max", bits)


def factor_codebook(bits: float) -> Codebook:
    """The codebook of a factor of `lplr.factorize` where none is named.

    A trellis of 2**8 states without sweeps of coordinate descent takes the time of the lattice with
    them, and leaves 1 to 7 % less error at two bits. Above three bits Lloyd-Max levels are as good
    within the noise of the other factor, and many times as fast.
    """
    return get_codebook(EFFORTS["fast"] if bits in (2, 3) else "lloyd-max", bits)


def codebook_pair(quantizers: tuple[str, str] | None, bits: tuple[float, float]) -> CodebookPair:
    """The two codebooks; by `factor_codebook` where no quantizers are named."""
    if quantizers is None:
        return factor_codebook(bits[0]), factor_codebook(bits[1])
    return get_codebook(quantizers[0], bits[0]), get_codebook(quantizers[1], bits[1])


def candidate_pairs(quantizers: tuple[str, str] | None, *, equal: bool) -> list[CodebookPair]:
    """The pairs of codebooks that a search for one pair looks at, all or those of ``equal`` widths.

    Without names of quantizers, `factor_codebook` decides. One bit is left out: at 0.36 of the
    variance lost, fewer and finer components always won.
    """
    names = quantizers or ("lloyd-max", "lloyd-max")
    widths = [[b for b in QUANTIZERS[name][0] if b > 1] for name in names]
    return [codebook_pair(quantizers, (b, c)) for b, c in product(*widths) if b == c or not equal]


def factor_codebooks(
    method: str, quantizer: Any, bits: Any, effort: str, *, searched: bool
) -> list[CodebookPair]:
    """The pairs of codebooks that the arguments of `lplr.factorize` leave open.

    Where ``bits`` are not given, all widths are ``searched``, or 4 is meant. InputError refuses
    arguments outside what is offered.
    """
    names: tuple[str, str] | None = None
    if quantizer is not None:
        left, right = check_pair(quantizer, "quantizer")
        names = (
            check_choice(left, "quantizer", tuple(QUANTIZERS)),
            check_choice(right, "quantizer", tuple(QUANTIZERS)),
        )
    elif method != "feedback":
        names = ("uniform", "uniform")
    elif effort == "best":
        names = (EFFORTS["best"],) * 2
    if bits is None and searched:
        # The paper's methods use one width for both factors.
        return candidate_pairs(names, equal=method != "feedback")
    left, right = (check_bits(b, "bits") for b in check_pair(4 if bits is None else bits, "bits"))
    return [codebook_pair(names, (left, right))]


def caldera_codebooks(
    q_bits: float,
    quantizer: str | None,
    factor_bits: float | tuple[float, float],
    mode: str,
) -> tuple[Codebook, CodebookPair]:
    """The codebooks of Q and of (L, R) that the arguments of `lplr.caldera` stand for."""
    q_bits = check_bits(q_bits, "q_bits")
    if quantizer is None:
        quantizer = "e8p" if q_bits in (2, 3, 4) else "lloyd-max"
    check_choice(quantizer, "quantizer", tuple(QUANTIZERS))
    q_book = get_codebook(quantizer, _offered(q_bits, "q_bits", quantizer))
    trellis = quantizer if quantizer.startswith("trellis") else None
    if trellis and mode == "faithful":
        raise InputError(f"quantizer: {quantizer!r} goes with mode 'default', not with 'faithful'")
    left, right = check_pair(factor_bits, "factor_bits")
    if trellis:
        # R is rounded under a Hessian on either side if its code is scalar: above three bits
        # that is worth more than the trellis.
        scalar = isinstance(right, (int, np.integer)) and right > _TRELLIS_RIGHT
        return q_book, (
            _factor_book(left, trellis),
            _factor_book(right, "lloyd-max" if scalar else trellis),
        )
    left, right = (_offered(bits, "factor_bits", "lloyd-max") for bits in (left, right))
    if mode == "faithful":
        lattice = left in (2, 3, 4) and right in (2, 3, 4)
        return q_book, codebook_pair(("e8p" if lattice else "lloyd-max",) * 2, (left, right))
    return q_book, (default_codebook(left), get_codebook("lloyd-max", right))


def _factor_book(bits: Any, quantizer: str) -> Codebook:
    """The codebook of a factor beside a trellis of Q; above the widths of a trellis, scalar."""
    wide = isinstance(bits, (int, np.integer)) and bits > QUANTIZERS[quantizer][0][-1]
    quantizer = "lloyd-max" if wide else quantizer
    return get_codebook(quantizer, _offered(bits, "factor_bits", quantizer))


def _offered(bits: float, name: str, quantizer: str) -> float:
    """A width, if the quantizer offers it; the error calls it by the name of the argument."""
    bits = check_bits(bits, name)
    widths = QUANTIZERS[quantizer][0]
    if bits not in widths:
        raise InputError(f"{name}: {bits} is not offered by {quantizer!r}; use one of {widths}")
    return bits


def codebooks_by_size(effort: str, length: int) -> list[Codebook]:
    """The codebooks on offer for vectors of a length, rising in size and falling in error.

    ``effort`` decides which trellis is among them; above its widths there are Lloyd-Max levels.
    Short vectors get scalar codes only.
    """
    names = ["lloyd-max"] if length < _SHORT else [EFFORTS[effort], "e8p", "lloyd-max"]
    books = [get_codebook(name, bits) for name in names for bits in QUANTIZERS[name][0]]
    books.sort(key=lambda book: (book.nbytes(length, 64), book.gaussian_mse))
    rising: list[Codebook] = []
    for book in books:
        if not rising or book.gaussian_mse < rising[-1].gaussian_mse:
            rising.append(book)
    return rising


def half_bit_pairs(effort: str, shape: tuple[int, int]) -> list[CodebookPair]:
    """The pairs of codebooks of L and R of whole and half bits; quarters gain nothing here."""
    left, right = (
        [b for b in codebooks_by_size(effort, side) if 2 * b.bits % 1 == 0] for side in shape
    )
    return list(product(left, right))


def efficient_pairs(effort: str, shape: tuple[int, int]) -> list[CodebookPair]:
    """The pairs of `half_bit_pairs` on the lower convex hull of error over size, by size."""
    pairs = half_bit_pairs(effort, shape)
    loss, cost = component_menu(pairs, shape)
    return [pairs[i - 1] for i in lower_hull(cost, loss) if i > 0]


def component_menu(
    pairs: Sequence[CodebookPair], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Share of its energy that a component leaves as error, and its bytes; uncoded comes first."""
    n, d = shape
    loss = [residual_share(books, 0, shape) for books in pairs]
    cost = [(L.nbytes(n, 8) + R.nbytes(d, 8)) / 8 + 4 for L, R in pairs]
    return np.array([1.0, *loss]), np.array([0.0, *cost])


@dataclass(frozen=True)
class ErrorWeights:
    """What errors of factors cost under weights, over what they cost without.

    Those of R cost ``right``, and those of L ``left`` times what ``fed_back`` has for its code,
    which decides the blocks of rows between which errors are fed back; None without such feedback.
    """

    left: float = 1.0
    right: float = 1.0
    fed_back: Mapping[Codebook, float] | None = None

    def variances(self, books: CodebookPair) -> tuple[float, float]:
        """Errors of two codes on a normal distribution, weighted."""
        left = self.left * books[0].gaussian_mse
        if self.fed_back:
            left *= self.fed_back[books[0]]
        return min(left, 1.0), min(self.right * books[1].gaussian_mse, 1.0)


UNWEIGHTED = ErrorWeights()


def residual_share(
    books: CodebookPair, rank: int, shape: tuple[int, int], weights: ErrorWeights = UNWEIGHTED
) -> float:
    """The share of the energy of a component that coding both of its vectors leaves as error.

    It is ``1 - (1 - c) (1 - c')`` where the codes leave c and c' on a normal distribution. But
    errors of L that lie in its own column space (``rank`` of n directions, rank counting all
    components) are a change of basis, which R undoes when it is fitted to the quantized L; most of
    them: 0.8 is measured. R is quantized last, so nothing undoes its errors (of a wide matrix the
    last is L, where several passes are made; the figures below hold for both). Under moments both
    cost what ``weights`` say. On six matrices, layers, images and text embeddings among them, at
    0.5 to 3 bits per entry, the error that this predicts is right to 3 % in most cases, and to 8 %
    in all but a phantom, whose singular vectors are far from normal.
    """
    left, right = weights.variances(books)
    return 1 - (1 - left * (1 - 0.8 * rank / shape[0])) * (1 - right)


def lower_hull(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices of the lower convex hull of points (x, y), of rising x and falling y."""
    keep: list[int] = []
    for i in np.lexsort((y, x)):
        if keep and y[i] >= y[keep[-1]]:
            continue
        while len(keep) > 1:
            a, b = keep[-2], keep[-1]
            if (y[a] - y[b]) * (x[i] - x[a]) > (y[a] - y[i]) * (x[b] - x[a]):
                break
            keep.pop()
        keep.append(int(i))
    return keep
