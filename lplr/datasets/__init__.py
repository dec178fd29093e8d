"""Matrices to compress: synthetic ones of a known spectrum, and small real ones.

Everything here works offline. The real data are files of the package (`data/README.md` names
origin, licence and command of each); only all of Fashion-MNIST has to be installed, and no function
downloads anything.
"""

from lplr.datasets.bundled import Layer, TextEmbeddings, layer, layer_names, text_embeddings
from lplr.datasets.fashion import LabelledImages, fashion_mnist
from lplr.datasets.phantom import shepp_logan
from lplr.datasets.spectra import synthetic

__all__ = [
    "LabelledImages",
    "Layer",
    "TextEmbeddings",
    "fashion_mnist",
    "layer",
    "layer_names",
    "shepp_logan",
    "synthetic",
    "text_embeddings",
]
