"""The matrices and Hessians that statements are tested on, synthetic and real.

This is the only module of `lplr.theory` that reads `lplr.datasets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from lplr.datasets import layer, layer_names, shepp_logan, synthetic, text_embeddings
from lplr.exceptions import InputError
from lplr.theory.checks import check_second_moment, without_rounding_errors
from lplr.theory.records import Setting
from lplr.validation.matrices import check_matrix

__all__ = [
    "DECAYING",
    "REAL",
    "SHAPES",
    "SPECTRA",
    "DecomposedMatrix",
    "OwnMatrix",
    "WeightedProblem",
    "complete",
    "decompose",
    "decomposed",
    "grid",
    "only_drawn",
    "own_matrices",
    "real_layers",
    "real_matrices",
    "weighted_problem",
]

SHAPES = ((96, 40), (40, 96), (64, 64))  # tall, wide, square
DECAYING = ("k^-1/2", "k^-1", "k^-2", "exponential")
SPECTRA = ("flat", *DECAYING, "low-rank", "outlier")

_RULES: dict[str, dict[str, Any]] = {
    "flat": {"spectrum": "flat"},
    "k^-1/2": {"spectrum": "power", "exponent": 0.5},
    "k^-1": {"spectrum": "power", "exponent": 1.0},
    "k^-2": {"spectrum": "power", "exponent": 2.0},
    "exponential": {"spectrum": "exponential", "rank": 5},
    "low-rank": {"spectrum": "low-rank", "rank": 8},
    "outlier": {"spectrum": "outlier", "rank": 1},
}

# Real matrices: the leading rows and columns that are used.
REAL = {
    "minilm_l2_query": (384, 384),
    "minilm_l3_output": (384, 1536),
    "smollm2_l10_up": (1536, 576),
    "text_embeddings": (1024, 384),
    "shepp_logan": (256, 256),
}
_LAYER_SHAPE = (128, 256)  # leading part of a real layer where its Hessian is used too


def grid(
    names: Iterable[str], shapes: Iterable[tuple[int, int]], **options: Any
) -> tuple[Setting, ...]:
    """Settings of all combinations; an option that is a list takes each of its values."""
    named = [{"matrix": name, "n": n, "d": d} for name, (n, d) in product(names, shapes)]
    lists = [v if isinstance(v, (list, tuple)) else [v] for v in options.values()]
    return tuple(
        setting | dict(zip(options, values, strict=True))
        for setting in named
        for values in product(*lists)
    )


def real_matrices(**options: Any) -> tuple[Setting, ...]:
    """Settings of all real matrices and all combinations of the options."""
    return tuple(x for name in REAL for x in grid([name], [REAL[name]], **options))


def real_layers(**options: Any) -> tuple[Setting, ...]:
    """Settings of the leading parts of the real layers and of their Hessians."""
    return grid(layer_names(), [_LAYER_SHAPE], **options)


@dataclass(frozen=True)
class OwnMatrix:
    """A matrix of the caller, which stands in a setting in place of a name.

    Parameters
    ----------
    A : ndarray of shape (n, d), float64
    H : ndarray of shape (d, d), float64, or None
    """

    A: np.ndarray
    H: np.ndarray | None


def own_matrices(matrices: Any) -> dict[str, OwnMatrix]:
    """The matrices, or pairs of a matrix and a Hessian, that `lplr.theory.montecarlo.run` got."""
    if matrices is None:
        return {}
    if not isinstance(matrices, Mapping):
        raise InputError(
            "matrices: must be a mapping of names to matrices, "
            f"found {type(matrices).__name__}; pass {{'mine': A}}"
        )
    own = {}
    for name, value in matrices.items():
        if name in _RULES or name in REAL:
            raise InputError(f"matrices: {name!r} is the name of another matrix; use a new one")
        pair = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
        A = check_matrix(pair[0], f"matrices[{name!r}]", dtype=np.float64)
        if not A.any():
            raise InputError(f"matrices[{name!r}]: is zero; there is no error to bound")
        H = None if pair[1] is None else check_second_moment(pair[1], A.shape[1])
        own[name] = OwnMatrix(A, H)
    return own


def complete(setting: Setting, own: Mapping[str, OwnMatrix]) -> Setting:
    """A setting of Python's numbers, with the shape of its own matrix.

    Raises
    ------
    InputError
        If it names another shape, or has a matrix in the place of its name.
    """
    setting = {key: v.item() if isinstance(v, np.generic) else v for key, v in setting.items()}
    name = setting.get("matrix", "")
    if not isinstance(name, str):
        raise InputError(
            f"grid: 'matrix' is the name of a matrix, found {type(name).__name__}; "
            "name it, and pass the matrix itself as matrices={'mine': A}"
        )
    given = own.get(name)
    if given is None:
        return setting
    shape = dict(zip(("n", "d"), given.A.shape, strict=True))
    for key, size in shape.items():
        if setting.get(key, size) != size:
            raise InputError(
                f"matrices: {name!r} has the shape {given.A.shape}, "
                f"the setting {key} = {setting[key]}; leave n and d out"
            )
    return {"matrix": name, **shape, **setting}


def only_drawn(setting: Setting) -> None:
    """Refuse a matrix of one's own in a statement about entries, or spectra, that are drawn."""
    if isinstance(setting.get("matrix"), OwnMatrix):
        raise InputError("matrices: this statement draws its own; it says nothing about one matrix")


def _unknown(name: Any) -> InputError:
    return InputError(
        f"matrix: {name!r} is not one of {', '.join([*_RULES, *REAL])}; "
        f"pass a matrix of your own as matrices={{{name!r}: A}}"
    )


@dataclass(frozen=True)
class DecomposedMatrix:
    """A matrix and its singular value decomposition.

    Parameters
    ----------
    A : ndarray of shape (n, d), float64
    U : ndarray of shape (n, r), float64, r = min(n, d)
    sigma : ndarray of shape (r,), float64, descending
    V : ndarray of shape (d, r), float64
    """

    A: np.ndarray
    U: np.ndarray
    sigma: np.ndarray
    V: np.ndarray

    @property
    def energy(self) -> float:
        """|A|_F^2."""
        return float(np.vdot(self.A, self.A))


def decomposed(setting: Setting, rng: np.random.Generator) -> DecomposedMatrix:
    """The matrix that a setting names by ``"matrix"``, ``"n"`` and ``"d"``.

    Parameters
    ----------
    setting : dict
    rng : numpy.random.Generator
        Draws the singular vectors of a synthetic matrix.

    Raises
    ------
    InputError
        If no matrix has this name.
    """
    name = setting["matrix"]
    if isinstance(name, OwnMatrix):
        return decompose(name.A)
    if name in REAL:
        return _real(name)
    if name not in _RULES:
        raise _unknown(name)
    return decompose(synthetic(setting["n"], setting["d"], rng=rng, **_RULES[name]))


@lru_cache(maxsize=1)  # cells of one matrix follow each other
def _real(name: str) -> DecomposedMatrix:
    n, d = REAL[name]
    if name in layer_names():
        A = layer(name).W
    elif name == "shepp_logan":
        A = shepp_logan(n)
    else:
        A = text_embeddings().embeddings
    return decompose(A[:n, :d])


def decompose(A: np.ndarray) -> DecomposedMatrix:
    """A real matrix and its singular value decomposition."""
    from scipy.linalg import svd

    A = np.ascontiguousarray(A, np.float64)
    U, sigma, Vt = svd(A, full_matrices=False, check_finite=False)
    sigma = without_rounding_errors(sigma, A.shape)
    return DecomposedMatrix(A, U, sigma, np.ascontiguousarray(Vt.T))


@dataclass(frozen=True)
class WeightedProblem:
    """Approximate W (n x d) with the loss tr(E H E^T) of an error E, as in a layer.

    Parameters
    ----------
    n, d : int
    H : ndarray of shape (d, d), float64
    W : ndarray of shape (n, d), float64, or None
        None: each trial draws entries N(0, 1).
    """

    n: int
    d: int
    H: np.ndarray
    W: np.ndarray | None

    def weights(self, rng: np.random.Generator) -> np.ndarray:
        """W, shape (n, d)."""
        return rng.standard_normal((self.n, self.d)) if self.W is None else self.W


def weighted_problem(
    setting: Setting, rng: np.random.Generator, *, damping: float = 1e-2
) -> WeightedProblem:
    """H has the eigenvalues sigma_k of the spectrum, plus ``damping`` times their mean.

    Parameters
    ----------
    setting : dict
        ``"matrix"`` names the spectrum or the layer, ``"n"`` and ``"d"`` the shape of W.
    rng : numpy.random.Generator
        Draws the eigenvectors of H.
    damping : float
        0 leaves a singular H as it is.

    Raises
    ------
    InputError
        If no spectrum and no layer has this name, or a matrix of one's own comes without H.
    """
    name, W = setting["matrix"], None
    if not isinstance(name, OwnMatrix) and name not in (*_RULES, *layer_names()):
        raise _unknown(name)
    n, d = setting["n"], setting["d"]
    if isinstance(name, OwnMatrix):
        if name.H is None:
            raise InputError(
                "matrices: this statement is about a loss, which needs a Hessian; pass a pair, "
                "{'mine': (W, H)}"
            )
        W, H = name.A, name.H
    elif name in layer_names():
        whole = layer(name)
        W, H = whole.W[:n, :d].astype(np.float64), whole.H[:d, :d].astype(np.float64)
    else:
        given = decompose(synthetic(d, d, rng=rng, **_RULES[name]))
        H = (given.V * given.sigma) @ given.V.T
        H = (H + H.T) / 2
    if W is not None:  # steps are in units of W
        W = W / (np.sqrt(np.square(W).mean()) or 1.0)
        H = H / (np.trace(H) / d or 1.0)
    return WeightedProblem(n, d, H + damping * np.trace(H) / d * np.eye(d), W)
