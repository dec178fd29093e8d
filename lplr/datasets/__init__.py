"""Matrices to compress: synthetic ones with a known spectrum, and small real ones.

Everything here works offline, and no function downloads anything. The real data are files of the
package; `data/README.md` gives the origin and the licence of each file, and the command that made
it. Only the full Fashion-MNIST and Debian's texts have to be installed.
"""

from lplr.datasets.bundled import Layer, TextEmbeddings, layer, layer_names, text_embeddings
from lplr.datasets.debian import debian_texts
from lplr.datasets.fashion import LabelledImages, fashion_mnist
from lplr.datasets.phantom import shepp_logan
from lplr.datasets.spectra import synthetic

__all__ = [
    "LabelledImages",
    "Layer",
    "TextEmbeddings",
    "debian_texts",
    "fashion_mnist",
    "layer",
    "layer_names",
    "shepp_logan",
    "synthetic",
    "text_embeddings",
]
