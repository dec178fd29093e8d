"""How long planning and compressing a matrix take, one against the other."""

from __future__ import annotations

__all__ = ["compression_work", "planning_work"]

# Seconds on one core of 2026, read off 4 to 9 matrices of 256 to 4096 rows and columns at two bits
# per entry: most are within a factor of two. Only the ratios matter to those who ask.
_EFFORT = {"fast": 0.6, "default": 1.0, "best": 3.0}


def planning_work(shape: tuple[int, int], weighted: bool, output_weighted: bool = False) -> float:
    """The work of predicting what a matrix loses.

    Parameters
    ----------
    shape : (int, int)
    weighted, output_weighted : bool
        Whether there are Hessians of its inputs and of its outputs.

    Returns
    -------
    float

    Examples
    --------
    >>> from lplr.planning.work import compression_work, planning_work
    >>> planning_work((4096, 4096), True) < compression_work((4096, 4096), True, "default")
    True
    """
    n, d = shape
    work = 0.2 + 5e-7 * d * (n + d) if weighted else 0.05 + 1.5e-7 * n * d
    return work + 5e-7 * n * (n + d) * output_weighted


def compression_work(
    shape: tuple[int, int], weighted: bool, effort: str, output_weighted: bool = False
) -> float:
    """The work of `lplr.compress`, in the unit of `planning_work`.

    Parameters
    ----------
    shape : (int, int)
    weighted : bool
    effort : {"fast", "default", "best"}
    output_weighted : bool

    Returns
    -------
    float
    """
    n, d = shape
    work = 0.1 + (7e-7 * d * (n + d) if weighted else 6e-7 * n * d)
    return _EFFORT[effort] * (work + 5e-7 * n * (n + d) * output_weighted)
