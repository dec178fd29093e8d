"""Low-rank and low-precision compression of matrices on a CPU."""

__version__ = "0.1.0"
