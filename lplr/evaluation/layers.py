"""What compression does to each of many matrices, such as the layers of a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

from lplr.evaluation import errors, spectrum
from lplr.evaluation.speed import peak_rss
from lplr.exceptions import InputError, LplrError
from lplr.matrices.base import Artefact
from lplr.validation import check_matrix, check_real, recorded_seed

__all__ = ["FORMULAS", "LayerReport", "report_layers"]

# What stands next to a printed number, by the name of the column.
FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        **spectrum.FORMULAS,
        "bits_per_entry": "8 stored bytes / (rows columns)",
        "relative_error": errors.FORMULAS["relative error"],
        "limit": "least error of two coded factors for this spectrum; other codes may leave less",
        "error_under_h": errors.FORMULAS["relative error under H"],
        "seconds": "of compressing it",
        "peak_mb": "growth of the memory in use while compressing it, in 10^6 bytes",
    }
)


@dataclass(frozen=True)
class LayerReport:
    """One matrix; what there is no value for is None. `FORMULAS` defines each number.

    Parameters
    ----------
    layer : str
    status : {"ok", "skipped", "failed"}
        Skipped: not a matrix. Failed: refused; ``note`` says why.
    note : str or None
    shape : str or None
        ``"rows x columns"``.
    dtype : str or None
        As stored.
    stable_rank : float or None
    rank_50, rank_90, rank_99 : int or None
    kind : str or None
        Of the result: ``LowRank``, ``QPlusLowRank`` or ``Quantized``.
    rank : int or None
        Of its low-rank part, if it has one.
    bits_per_entry : float or None
    stored_bytes : int or None
    relative_error, limit : float or None
    error_under_h : float or None
        Only with a Hessian.
    seconds : float or None
    peak_mb : float or None
        Only where the system can measure it (Linux).
    """

    layer: str
    status: str = "ok"
    note: str | None = None
    shape: str | None = None
    dtype: str | None = None
    stable_rank: float | None = None
    rank_50: int | None = None
    rank_90: int | None = None
    rank_99: int | None = None
    kind: str | None = None
    rank: int | None = None
    bits_per_entry: float | None = None
    stored_bytes: int | None = None
    relative_error: float | None = None
    limit: float | None = None
    error_under_h: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None

    def row(self) -> dict[str, Any]:
        """A row for `lplr.storage.table.write_table`."""
        return asdict(self)


Compressor = Callable[[np.ndarray, Any], Artefact]


def report_layers(
    layers: Mapping[str, Any],
    *,
    bits_per_entry: float = 2.0,
    hessians: Mapping[str, Any] | None = None,
    compress: Compressor | None = None,
    rng: int | np.random.Generator | None = None,
) -> Iterator[LayerReport]:
    """Compress matrices one after the other, and say what became of each.

    Parameters
    ----------
    layers : mapping of str to array_like or callable
        By name. What is callable is called without arguments for the matrix when it is its turn,
        so that only one is in memory.
    bits_per_entry : float
        Of `lplr.compress`.
    hessians : mapping of str to array_like or callable, optional
        For the layers of these names, as `lplr.compress` takes them; layers without one are
        measured without.
    compress : callable, optional
        ``compress(A, hessian)``, the hessian None where there is none. By default `lplr.compress`
        with ``bits_per_entry`` and ``rng``.
    rng : int, numpy.random.Generator or None

    Yields
    ------
    LayerReport
        One for each layer, in their order; also for those that are no matrices or are refused.

    Raises
    ------
    InputError
        If an argument is outside what is offered, or a Hessian belongs to no layer.

    Examples
    --------
    >>> import numpy as np
    >>> import lplr
    >>> from lplr.evaluation.layers import report_layers
    >>> name, W, H = lplr.datasets.layer("minilm_l2_query")
    >>> layers = {name: W[:, :64], "bias": np.zeros(384)}
    >>> found = list(report_layers(layers, hessians={name: H[:64, :64]}, rng=0))
    >>> [(r.layer, r.shape, r.status) for r in found]
    [('minilm_l2_query', '384 x 64', 'ok'), ('bias', '384', 'skipped')]
    >>> found[0].error_under_h < found[0].relative_error, found[0].bits_per_entry <= 2
    (True, True)
    """
    if not isinstance(layers, Mapping) or not layers:
        raise InputError("layers: must be a mapping of names to matrices with at least one entry")
    hessians = {} if hessians is None else hessians
    stray = [name for name in hessians if name not in layers]
    if stray:
        raise InputError(
            f"hessians: {stray[0]!r} is the name of no layer; {len(layers)} have names"
        )
    budget = check_real(bits_per_entry, "bits_per_entry")
    if compress is None:
        compress = _default(budget, recorded_seed(rng))
    return _report(layers, hessians, compress)


def _default(bits_per_entry: float, rng: Any) -> Compressor:
    import lplr

    return lambda A, H: lplr.compress(A, bits_per_entry=bits_per_entry, hessian=H, rng=rng)


def _report(
    layers: Mapping[str, Any], hessians: Mapping[str, Any], compress: Compressor
) -> Iterator[LayerReport]:
    _warm_up(compress, with_hessian=bool(hessians))
    for name, layer in layers.items():
        known: dict[str, Any] = {"layer": name}
        try:
            yield _report_one(layer, hessians.get(name), compress, known)
        except LplrError as error:
            yield LayerReport(**known, status="failed", note=str(error))


def _report_one(
    layer: Any, hessian: Any, compress: Compressor, known: dict[str, Any]
) -> LayerReport:
    """The report; what is known of the layer before something is refused stays in ``known``."""
    from lplr.theory import rate_distortion_limit

    stored = layer() if callable(layer) else layer
    array = np.asarray(stored)
    known |= {"shape": " x ".join(map(str, array.shape)), "dtype": array.dtype.name}
    if array.ndim != 2:
        return LayerReport(**known, status="skipped", note=f"not a matrix: shape {array.shape}")
    A = check_matrix(array, known["layer"])
    sigma = spectrum.singular_values(A)
    known |= asdict(spectrum.Spectrum.of(sigma))
    H = hessian() if callable(hessian) else hessian
    f, seconds, peak = _measured(lambda: compress(A, H))
    return LayerReport(
        **known,
        kind=type(f).__name__,
        rank=getattr(f, "rank", None),
        bits_per_entry=f.bits_per_entry,
        stored_bytes=f.nbytes,
        relative_error=f.relative_error(A),
        limit=rate_distortion_limit(sigma, A.shape, f.bits_per_entry),
        error_under_h=None if H is None else errors.hessian_error(A, f, H),
        seconds=seconds,
        peak_mb=None if peak is None else peak / 1e6,
    )


def _warm_up(compress: Compressor, with_hessian: bool) -> None:
    """Load or compile what the first layer should not be charged with."""
    A = np.random.default_rng(0).standard_normal((96, 64), dtype=np.float32)
    with suppress(LplrError):  # a budget that is too small for these few entries, say
        compress(A, np.ones(64) if with_hessian else None).to_dense()


def _measured(make: Callable[[], Artefact]) -> tuple[Artefact, float, float | None]:
    """A result, the seconds it took, and the bytes by which memory in use grew meanwhile."""
    can_reset = os.path.exists("/proc/self/clear_refs")
    _return_freed_memory()
    before = peak_rss(reset=True) if can_reset else 0.0
    start = perf_counter()
    made = make()
    seconds = perf_counter() - start
    return made, seconds, peak_rss() - before if can_reset else None


def _return_freed_memory() -> None:
    """Give what is free back to the system where the C library can, so that its reuse counts."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
