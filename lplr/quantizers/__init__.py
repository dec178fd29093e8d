"""Quantizers: what a code means, and how the nearest one is found."""

from lplr.quantizers.base import QUANTIZERS, Codebook, get_codebook

__all__ = ["QUANTIZERS", "Codebook", "get_codebook"]
