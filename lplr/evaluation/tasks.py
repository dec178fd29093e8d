"""The matrices that `lplr bench` compares methods on, each with what it is used for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lplr import datasets
from lplr.validation.arguments import check_choice, check_flag

__all__ = ["SUITES", "Queries", "Task", "load_suite"]

SUITES = ("knn", "layers", "image", "sklearn", "all")


@dataclass(frozen=True)
class Queries:
    """What is looked up in a matrix whose rows are a database.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Classes of the rows of the database.
    X : ndarray of shape (m, d), float32
        Not compressed.
    truth : ndarray of shape (m,)
        Labels of the queries.
    k : int
        Neighbours that vote.
    metric : {"cosine", "euclidean"}
    """

    labels: np.ndarray
    X: np.ndarray
    truth: np.ndarray
    k: int
    metric: str


@dataclass(frozen=True)
class Task:
    """A matrix to compress, and what it is used for.

    Parameters
    ----------
    name : str
    A : ndarray of shape (n, d), or callable
        A function without arguments is called for the matrix when it is its turn, so that only one
        matrix is in memory.
    hessian : ndarray of shape (d, d), (d,) or (m, d), or callable, optional
        Second moment of the inputs of a layer, or inputs, as `lplr.compress` takes them.
    queries : Queries, optional
    is_image : bool
        Grey values from 0 to 1.
    about : str
        What it is, in a few words.
    """

    name: str
    A: Any
    hessian: Any = None
    queries: Queries | None = None
    is_image: bool = False
    about: str = ""

    def load(self) -> Task:
        """The same task with its arrays in memory."""

        def loaded(x: Any) -> Any:
            return x() if isinstance(x, Callable) else x  # type: ignore[arg-type]

        return replace(self, A=np.asarray(loaded(self.A)), hessian=loaded(self.hessian))

    @property
    def shape(self) -> str:
        """``"rows x columns"``; empty where the matrix is not loaded."""
        return " x ".join(map(str, getattr(self.A, "shape", ())))

    @property
    def size(self) -> int:
        """Number of entries; a million where the matrix is not loaded."""
        return int(getattr(self.A, "size", 1_000_000))

    def digest(self) -> str:
        """SHA-256 of all of it, by which results of other data are told apart."""
        found = hashlib.sha256(f"{self.A.dtype} {self.A.shape} {self.is_image}".encode())
        parts: list[Any] = [self.A, self.hessian]
        if self.queries is not None:
            q = self.queries
            found.update(f"{q.k} {q.metric}".encode())
            parts += [q.labels, q.X, q.truth]
        for part in parts:
            if part is not None:
                found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()


def load_suite(what: str, quick: bool = False) -> list[Task]:
    """The matrices of a benchmark.

    Parameters
    ----------
    what : {"knn", "layers", "image", "sklearn", "all"}
        ``"knn"``: Fashion-MNIST (all of it where it is installed, else the part that is in this
        package), scikit-learn's digits, and text embeddings. ``"layers"``: layers of
        transformers with the second moment of their inputs. ``"image"``: the Shepp-Logan phantom
        and scikit-learn's sample photographs. ``"sklearn"``: the digits, and a matrix with
        singular values 1/k. ``"all"``: each of these once.
    quick : bool
        Fewer and smaller ones.

    Returns
    -------
    list of Task

    Raises
    ------
    InputError
        If there is no such benchmark.

    Examples
    --------
    >>> from lplr.evaluation.tasks import load_suite
    >>> [(task.name, task.shape) for task in load_suite("sklearn", quick=True)]
    [('digits', '1437 x 64'), ('1/k', '300 x 300')]
    """
    check_choice(what, "what", SUITES)
    check_flag(quick, "quick")
    parts = {
        "knn": [_fashion, _digits, _texts],
        "layers": [_layers],
        "image": [_phantom, _photographs],
        "sklearn": [_digits, _power_law],
    }
    # Two benchmarks share the digits; "all" has them once.
    makers = parts.get(what) or list(dict.fromkeys(make for p in parts.values() for make in p))
    return [task for make in makers for task in make(quick)]


def _fashion(quick: bool) -> list[Task]:
    rows, asked = (2000, 500) if quick else (None, None)
    train, labels = datasets.fashion_mnist("train", n=rows)
    X, truth = datasets.fashion_mnist("test", n=asked)
    queries = Queries(labels, X, truth, 5, "euclidean")
    about = "images of clothes of 28 x 28 grey values, one a row"
    return [Task("Fashion-MNIST", train, queries=queries, about=about)]


def _digits(quick: bool) -> list[Task]:
    from sklearn.datasets import load_digits

    found = load_digits()
    A, y = (found.data / 16).astype(np.float32), found.target.astype(np.uint8)
    n = len(A) * 4 // 5
    queries = Queries(y[:n], A[n:], y[n:], 5, "euclidean")
    about = "handwritten digits of 8 x 8 grey values, one a row"
    return [Task("digits", A[:n], queries=queries, about=about)]


def _texts(quick: bool) -> list[Task]:
    A, y, _ = datasets.text_embeddings()
    n = len(A) * 4 // 5
    rows, asked = (1000, 400) if quick else (n, len(A) - n)
    queries = Queries(y[:rows], A[n : n + asked], y[n : n + asked], 11, "cosine")
    about = "sentences as vectors, one a row, that a language model made"
    return [Task("text embeddings", A[:rows], queries=queries, about=about)]


def _layers(quick: bool) -> list[Task]:
    names = datasets.layer_names()[:1] if quick else datasets.layer_names()
    layers = [datasets.layer(name) for name in names]
    about = "weights of a layer of a transformer, with the second moment H of its inputs"
    return [Task(layer.name, layer.W, hessian=layer.H, about=about) for layer in layers]


def _phantom(quick: bool) -> list[Task]:
    n = 128 if quick else 1000
    image = datasets.shepp_logan(n).astype(np.float32)
    return [Task(f"Shepp-Logan {n}", image, is_image=True, about="a test image: a drawn head")]


def _photographs(quick: bool) -> list[Task]:
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    luminance = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
    tasks = []
    for name, pixels in zip(found.filenames, found.images, strict=True):
        grey = pixels.astype(np.float32) @ luminance / np.float32(255)
        # Every second pixel, as a thumbnail has; a crop would be another picture.
        image = np.ascontiguousarray(grey[::2, ::2] if quick else grey)
        short = name.replace("\\", "/").rpartition("/")[2]
        tasks.append(Task(short, image, is_image=True, about="a photograph in grey"))
    return tasks[:1] if quick else tasks


def _power_law(quick: bool) -> list[Task]:
    n = 300 if quick else 1000
    A = datasets.synthetic(n, n, "power", exponent=1.0, rng=0)
    about = "random singular vectors, and the singular values 1/k"
    return [Task("1/k", np.ascontiguousarray(A, np.float32), about=about)]
