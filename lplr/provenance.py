"""What a result records of how it was made."""

from __future__ import annotations

from typing import Any

import numpy as np

from lplr._version import __version__

__all__ = ["provenance"]


def provenance(rng: Any) -> dict[str, Any]:
    """The seed, if it was an integer, and the versions that a repetition needs.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None

    Returns
    -------
    dict
    """
    import numba
    import scipy

    return {
        "seed": int(rng) if isinstance(rng, (int, np.integer)) else None,
        "versions": {
            "lplr": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "numba": numba.__version__,
        },
    }
