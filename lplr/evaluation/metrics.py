"""What each metric of a results table means: its formula, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lplr.evaluation import errors, knn

__all__ = ["Metric", "bits_text", "metric", "nearest_to_one", "number", "percent"]

_HIGHER = ("accuracy", "psnr", "ssim")
_FORMULAS = {**errors.FORMULAS, **knn.FORMULAS}


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
    better : {"lower", "higher", ""}
        Empty where neither is known to be.
    formula : str
        In plain characters; A is the matrix, B what is stored of it.
    """

    name: str
    better: str
    formula: str

    @property
    def sign(self) -> int:
        """1 if lower is better, -1 if higher is, 0 if neither: the least ``sign * value`` wins."""
        return {"lower": 1, "higher": -1}.get(self.better, 0)

    @property
    def is_share(self) -> bool:
        """Whether it is a share, which is shown in per cent."""
        return self.name == "accuracy" or self.name.startswith("recall@")

    @property
    def short(self) -> str:
        """What heads a column or an axis: a name and its unit."""
        if self.name.startswith("recall@"):
            return "neighbours kept, %"
        return {"accuracy": "accuracy, %", "psnr": "PSNR, dB", "ssim": "SSIM"}.get(
            self.name, self.name
        )


def metric(name: str) -> Metric:
    """What is known of a metric; no formula and no better side where the name says neither.

    Parameters
    ----------
    name : str
        As in the results table.

    Examples
    --------
    >>> from lplr.evaluation.metrics import metric
    >>> metric("accuracy").better, metric("relative error").formula
    ('higher', '|A - B|_F / |A|_F')
    """
    head, _, k = name.partition("@")
    if head == "recall" and k.isdecimal():
        return Metric(name, "higher", f"{_FORMULAS['recall@k']}, k = {k}")
    lower = "lower" if "error" in name or "distortion" in name else ""
    return Metric(name, "higher" if name in _HIGHER else lower, _FORMULAS.get(name, ""))


def number(value: float | None, error: float = 0.0) -> str:
    """A value for a table, with its standard error: four digits, no exponent if avoidable.

    Examples
    --------
    >>> from lplr.evaluation.metrics import number
    >>> number(0.12345, 0.001), number(31.23456), number(2e-9), number(None), number(12345.6)
    ('0.1235 ± 0.0010', '31.23', '2e-09', '–', '12346')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = math.floor(math.log10(abs(value))) if value else 0
    if size < -3:
        return f"{value:.3g}"
    digits = 4 if size <= 0 else max(3 - size, 0)
    text = f"{value:.{digits}f}".replace("-", "−")
    if not error:
        return text
    digits = max(digits, -math.floor(math.log10(error)))
    return f"{text} ± {error:.{digits}f}"


def percent(value: float, other: float | None = None) -> str:
    """A share in per cent, to as many digits as tell it from another one, three at most.

    Examples
    --------
    >>> from lplr.evaluation.metrics import percent
    >>> percent(0.1284), percent(0.98), percent(0.97962, 0.97984), percent(1e-9)
    ('12.8\xa0%', '98.0\xa0%', '97.96\xa0%', 'below 0.001\xa0%')
    """
    if 0 < value < 1e-5:
        return "below 0.001\N{NO-BREAK SPACE}%"
    for digits in (1, 2, 3):
        text = f"{100 * value:.{digits}f}"
        if float(text) and (other is None or text != f"{100 * other:.{digits}f}"):
            break
    return f"{text}\N{NO-BREAK SPACE}%"


def bits_text(budget: float) -> str:
    """A budget in words: ``1 bit``, ``0.5 bits``."""
    return f"{budget:g} bit" + ("" if budget == 1 else "s")


def nearest_to_one(budgets: Iterable[float]) -> float:
    """The budget nearest to one bit, in ratio; the smaller of two that are equally near."""
    return float(min(budgets, key=lambda b: (abs(math.log2(b)), b)))
