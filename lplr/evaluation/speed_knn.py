"""Time and memory of a neighbour search from the factors, against scikit-learn's on the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr.evaluation.speed import best_of, child, matrix, peak_rss

__all__ = ["search_memory", "search_times"]


def search_times(n: int, m: int, rounds: int, *, k: int = 11) -> dict[str, dict[str, float]]:
    """Seconds of the same search in n x 784 rows at one bit an entry, and who agrees.

    Parameters
    ----------
    n, m : int
        Rows of the database, and queries, at most n.
    rounds : int
        How often each takes its turn.
    k : int

    Returns
    -------
    dict
        By engine, "factors" and "scikit-learn": ``seconds`` of the best round, and ``recall`` of
        the neighbours that the other one found in the same compressed matrix.

    Examples
    --------
    >>> from lplr.evaluation.speed_knn import search_times
    >>> search_times(500, 20, rounds=1)["factors"]["recall"]
    1.0
    """
    from sklearn.neighbors import NearestNeighbors

    import lplr
    from lplr.evaluation.knn import recall
    from lplr.evaluation.neighbours import Neighbours, nearest

    A = matrix(n, 784)
    queries = A[:m]  # not compressed, and so not rows of the database
    f = lplr.factorize(A, bits_per_entry=1, rng=0)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(f.to_dense())
    found: dict[str, Any] = {}

    def ours() -> None:
        found["factors"] = nearest(f, queries, k)

    def theirs() -> None:
        found["scikit-learn"] = Neighbours(*search.kneighbors(queries))

    seconds = best_of({"factors": ours, "scikit-learn": theirs}, rounds)
    shared = recall(found["factors"], found["scikit-learn"])
    return {name: {"seconds": seconds[name], "recall": shared} for name in seconds}


def search_memory(n: int, m: int, rank: int) -> dict[str, float]:
    """Memory that a search for the 11 nearest of n x 784 rows needs at its peak.

    Parameters
    ----------
    n, m, rank : int
        Rows of the database, queries, and rank of the factors, which have 2 bits an entry.

    Returns
    -------
    dict
        ``extra`` bytes beyond the packed factors and the queries; ``factors``, bytes of those;
        ``dense``, bytes of the matrix in float32.
    """
    # Blocks are returned to the system at once, so that what was freed is not counted as there.
    found: dict[str, float] = child(
        __name__, "_measure_memory", n, m, rank, MALLOC_MMAP_THRESHOLD_="65536"
    )
    return found


def _measure_memory(n: int, m: int, rank: int) -> dict[str, float]:
    import lplr
    from lplr.evaluation.neighbours import nearest
    from lplr.matrices.low_rank import LowRank

    rng = np.random.default_rng(0)

    def factor(*shape: int) -> Any:
        return lplr.quantize(rng.standard_normal(shape, dtype=np.float32), bits=2)

    f = LowRank(factor(n, rank), factor(rank, 784))
    queries = rng.standard_normal((m, 784), dtype=np.float32)
    nearest(LowRank(factor(300, 8), factor(8, 784)), queries[:9], 3)  # libraries, kernels, threads
    before = peak_rss(reset=True)
    nearest(f, queries, 11)
    return {"extra": peak_rss() - before, "factors": float(f.nbytes), "dense": 4.0 * n * 784}
