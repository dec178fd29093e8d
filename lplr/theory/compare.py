"""One's own matrix, quantizer and bound against simulation, along a parameter."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.linalg.qr import haar
from lplr.parallel import reproducible
from lplr.progress import Progress, parts, tracked, until
from lplr.theory.checks import check_shape, check_spectrum, n_axes, squared_tails
from lplr.theory.comparison import Comparison
from lplr.theory.factor_trials import FactorTrials
from lplr.theory.montecarlo import judge_mean, run
from lplr.theory.own_bound import METHODS, bounds_by_name, value_of
from lplr.theory.own_quantizer import Quantizer, quantizer_pair
from lplr.theory.records import Statement
from lplr.theory.statements.matrices import DecomposedMatrix, decompose
from lplr.validation.arguments import check_choice, check_integer, check_rng, recorded_seed
from lplr.validation.matrices import check_matrix

__all__ = ["PARAMETERS", "compare_bounds"]

PARAMETERS = ("bits", "rank", "oversampling")
_LEVEL = 1e-6  # probability that any true bound of a comparison is refuted
_BITS = tuple(range(1, 9))
_MOST_BITS = 16


def compare_bounds(
    A: Any,
    *,
    x: str = "bits",
    values: Any = None,
    rank: int | None = None,
    oversampling: int | None = None,
    bits: int | None = None,
    quantizer: Any = "dithered",
    bounds: Any = None,
    method: str = "lplr",
    shape: tuple[int, int] | None = None,
    trials: int = 200,
    rng: int | np.random.Generator | None = None,
    progress: Progress = False,
) -> Comparison:
    """Bounds on the error of ``A ~ L R`` against simulation, along one parameter.

    The matrix, the quantizers and the bounds may be one's own. Each trial draws a new sketch and
    new dithers, and measures ``|L R - A|_F^2``.

    Parameters
    ----------
    A : array_like of shape (n, d), array_like of shape (r,), or str
        A matrix; its singular values, descending, for which singular vectors are drawn (Haar);
        or a file as the command line names it, such as ``"weights.npz:up"``.
    x : {"bits", "rank", "oversampling"}
        The parameter that varies.
    values : sequence of int, optional
        Its values; by default 1 to 8 bits, or powers of two.
    rank : int, optional
        The rank k that is aimed at; by default a tenth of the smaller side.
    oversampling : int, optional
        Columns of the sketch beyond k: L and R have rank ``m = k + oversampling``. At least 2 for
        LPLR, by default 8; 0 for the methods that sketch nothing.
    bits : int, optional
        Bits of each entry of L and of R, from 1 to 16; by default 8.
    quantizer : str, Quantizer, callable, or a pair of these for L and for R
        ``"dithered"``, the paper's quantizer; ``"nearest"``, the same points without dither; a
        `Quantizer`; or a function of ``(bits, dynamic_range)`` that returns one. That range is
        fixed before the trials: for L by `lplr.theory.bounds.sketch_range`, for R by pilot trials.
    bounds : str, callable, sequence or mapping of them, optional
        Functions of `lplr.theory.bounds` by name, or callables; a mapping has the names that they
        are shown under. A callable returns a bound on the mean of ``|L R - A|_F^2``. It is called
        with those of these that it must be given, by name: A, singular_values, shape, n, d, m, k,
        rank, oversampling, bits, steps and ranges, the last two being pairs for L and R. One that
        has a single argument of another name gets the value of x. By default all bounds on the
        method.
    method : {"lplr", "lplr-svd", "direct-svd"}
        What is simulated: a Gaussian sketch quantized and R solved for; ``U_m Sigma_m`` quantized
        and R solved for; or both factors of the SVD quantized.
    shape : (int, int), optional
        Rows and columns where A is singular values; by default square.
    trials : int
        Trials for each value of x, at least 2.
    rng : int, numpy.random.Generator or None
    progress : bool or callable
        What to hear while it works, see `lplr.progress`.

    Returns
    -------
    Comparison
        Arrays, a table as its repr, `Comparison.save` and `Comparison.plot`.

    Raises
    ------
    InputError
        If an argument is outside its range, a name is unknown, or what a callable returns is not
        what it must be. What a callable raises, this raises.

    Notes
    -----
    The bounds assume that ranges and steps are fixed beforehand. The range of a sketch fails with a
    probability of 1e-6 a trial. That of R is twice the median, over 64 pilot trials, of its largest
    entry; the built-in quantizers of R take the step that belongs to it, and have no ends. Factors
    of an SVD that are rounded as they are have their own largest entry. How often an entry left a
    range is counted, and a bound is then not tested.

    They also assume errors of mean zero and variance at most ``step^2/4`` (`Quantizer`), which is
    not checked: where a quantizer of one's own, or ``"nearest"``, has larger errors or a bias, a
    bound that is refuted says so, and says nothing against its theorem.

    Examples
    --------
    >>> import numpy as np
    >>> from lplr.theory import compare_bounds
    >>> A = np.random.default_rng(0).standard_normal((40, 30)) / np.arange(1.0, 31)
    >>> found = compare_bounds(A, values=[2, 4], bounds={"mine": lambda bits: 1e3}, rng=0)
    >>> found.verdicts["mine"]
    ('holds', 'holds')
    """
    check_choice(x, "x", PARAMETERS)
    check_choice(method, "method", tuple(METHODS))
    trials = check_integer(trials, "trials", 2)
    functions = bounds_by_name(bounds, method)
    pair = quantizer_pair(quantizer)
    if x == "bits" and all(isinstance(part, Quantizer) for part in pair):
        raise InputError(
            "quantizer: a Quantizer has one step whatever the bits; for x='bits' pass a function "
            "of (bits, dynamic_range) that returns a Quantizer, or vary rank or oversampling"
        )
    seed = recorded_seed(rng)
    generator = check_rng(seed)
    with tracked(progress, "singular values"), reproducible():
        with until(0.1):
            given = _matrix(A, shape, generator)
        settings = _settings(given.A.shape, x, values, rank, oversampling, bits, method)
        simulation = FactorTrials(given, method)
        with until(0.25, "pilot trials"):
            for setting in parts(settings):
                simulation.fix(setting, pair, generator)
        curves: dict[str, list[float]] = {name: [] for name in functions}
        with until(0.4, "bounds"):
            for setting in parts(settings):
                known = simulation.facts(setting)
                for name, function in functions.items():
                    curves[name].append(value_of(name, function, known, setting[x]))
        statement = Statement(
            "simulation", "", "", "expectation", simulation.prepare, tuple(settings)
        )
        cells = run([statement], trials=trials, rng=seed)
    level = _LEVEL / (len(functions) * len(cells))
    judged = {
        name: [
            judge_mean(cell, bound, level, simulation.rounding)
            for cell, bound in zip(cells, curve, strict=True)
        ]
        for name, curve in curves.items()
    }
    tails = squared_tails(given.sigma)
    return Comparison(
        parameter=x,
        values=np.array([setting[x] for setting in settings]),
        settings=tuple(settings),
        shape=given.A.shape,
        method=method,
        energy=given.energy,
        mean=np.array([cell.mean for cell in cells]),
        standard_error=np.array([cell.standard_error for cell in cells]),
        quantiles=np.array([cell.quantiles for cell in cells]),
        best=np.array([tails[min(setting["m"], len(given.sigma))] for setting in settings]),
        bounds={name: np.array(curve) for name, curve in curves.items()},
        p_values={name: np.array([p for p, _ in found]) for name, found in judged.items()},
        verdicts={name: tuple(verdict for _, verdict in found) for name, found in judged.items()},
        saturated=np.array([cell.saturated for cell in cells]),
        trials=trials,
        seed=int(seed) if isinstance(seed, (int, np.integer)) else None,
    )


def _matrix(A: Any, shape: Any, rng: np.random.Generator) -> DecomposedMatrix:
    """A matrix, singular values or a file, as a matrix and its singular value decomposition."""
    if isinstance(A, (str, os.PathLike)):
        from lplr.inputs import read_input

        A = read_input(os.fspath(A)).array
    if n_axes(A) == 1:
        sigma = check_spectrum(A)
        n, d = check_shape((len(sigma), len(sigma)) if shape is None else shape)
        check_spectrum(A, min(n, d))
        A = (haar(n, len(sigma), rng) * sigma) @ haar(d, len(sigma), rng).T
    elif shape is not None:
        raise InputError("shape: goes with singular values; a matrix has its own, leave it out")
    A = check_matrix(A, dtype=np.float64)
    if not A.any():
        raise InputError("A: is zero; there is no error to bound")
    return decompose(A)


def _settings(
    shape: tuple[int, int],
    x: str,
    values: Any,
    rank: Any,
    oversampling: Any,
    bits: Any,
    method: str,
) -> list[dict[str, int]]:
    """All parameters at each value of x."""
    least, least_over = min(shape), 2 if method == "lplr" else 0
    if method != "lplr" and (x == "oversampling" or oversampling is not None):
        raise InputError(f"oversampling: {method} sketches nothing; vary bits or rank")
    given = {"rank": rank, "oversampling": oversampling, "bits": bits}
    if given[x] is not None:
        raise InputError(f"{x}: is x, which varies; give its values as values")
    usual = {"rank": max(1, least // 10), "oversampling": 8 if least_over else 0, "bits": 8}
    fixed = {key: usual[key] if value is None else value for key, value in given.items()}
    if values is None:
        room = max(least - (8 if least_over else 0), 1)
        values = {
            "bits": _BITS,
            "rank": _spread(1, room),
            "oversampling": _spread(2, max(least // 2, 2)),
        }[x]
    try:
        along = sorted({*values})
    except TypeError:
        raise InputError(f"values: must be a sequence of integers, found {values!r}") from None
    if not along:
        raise InputError(f"values: is empty; pass values of {x}, or leave it out")
    names = {key: "values" if key == x else key for key in fixed}
    settings = []
    for value in along:
        here = fixed | {x: value}
        k = check_integer(here["rank"], names["rank"], 1, least)
        p = check_integer(here["oversampling"], names["oversampling"], least_over)
        b = check_integer(here["bits"], names["bits"], 1, _MOST_BITS)
        settings.append({"rank": k, "oversampling": p, "m": k + p, "bits": b})
    return settings


def _spread(low: int, high: int) -> list[int]:
    """Powers of two from low to high."""
    return [2**i for i in range(high.bit_length()) if low <= 2**i <= high]
