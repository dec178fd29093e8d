"""Settings and data shared by all tests."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest

from lplr import datasets
from lplr.exceptions import InputError
from lplr.selftest.trials import Scale

if TYPE_CHECKING:
    from lplr.planning.weighted_matrix import WeightedMatrix

# Nothing has imported Matplotlib yet; child processes inherit it.
os.environ["MPLBACKEND"] = "Agg"
# A shell lets the jobs in its background ignore interrupts, and child processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A script there needs torch, and one is for processes that lack a guard.
collect_ignore = ["fixtures", "campaign/broken"]

# No deadline: the first example may compile a kernel. Derandomized: a failure is reproducible on
# every machine, and a new seed is one option away (--hypothesis-seed=N with another profile).
hypothesis.settings.register_profile("lplr", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "lplr"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much the campaigns of tests/campaign try."""
    parser.addoption(
        "--campaign",
        choices=("quick", "long"),
        default="quick",
        help="how much tests/campaign tries",
    )


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    """The quick form of the campaigns, or the long one with ``--campaign=long``."""
    return Scale(long=request.config.getoption("--campaign") == "long")


@pytest.fixture(scope="session")
def power_law_1000() -> np.ndarray:
    """The acceptance matrix: 1000×1000, σ_k = 1/k, Haar factors, seed 0; float64, read-only."""
    A = datasets.synthetic(1000, 1000, "power", exponent=1.0, rng=0)
    A.flags.writeable = False
    return A


@pytest.fixture(scope="session")
def fashion_10000() -> np.ndarray:
    """The first 10000 training images of Fashion-MNIST / 255, (10000, 784) float32, read-only."""
    try:
        A = datasets.fashion_mnist("train", n=10000).images
    except InputError as error:
        pytest.skip(f"needs all of Fashion-MNIST: {error}")
    A.flags.writeable = False
    return A


@pytest.fixture(scope="session")
def fashion_6000() -> np.ndarray:
    """The first 6000 training images of Fashion-MNIST / 255, (6000, 784) float32, read-only."""
    A = datasets.fashion_mnist("train", n=6000).images
    A.flags.writeable = False
    return A


@pytest.fixture(scope="session")
def query_layer() -> WeightedMatrix:
    """A bundled layer with its regularized Hessian; what is derived from it is computed once."""
    from lplr.linalg.hessian import regularize
    from lplr.planning.weighted_matrix import WeightedMatrix

    _, W, H = datasets.layer("minilm_l2_query")
    return WeightedMatrix(W, regularize(H)[0], seed=0)
