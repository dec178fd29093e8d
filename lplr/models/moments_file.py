"""The file of output moments: what `lplr.models.output_moments` has summed over a calibration set.

A ``.safetensors`` file of float32 tensors. Of each linear layer LAYER, (n, d), by the estimators
that it holds, see `lplr.models.moments`:

* ``LAYER.token.G`` (n, n) and ``LAYER.token.weights`` (sequences, tokens), zero for padding;
* ``LAYER.sequence.G`` (n, n) and ``LAYER.sequence.H`` (d, d).

Its metadata has ``output_moments``, a JSON text that says of what the moments are and has the
SHA-256 of each tensor, and ``sha256``, that of this text: a change of any byte is found, once the
tensor is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, FolderError, InputError, MissingFileError
from lplr.inputs import safetensors as stored
from lplr.models.texts import fingerprint
from lplr.storage.atomic import write_atomic
from lplr.storage.safetensors import safetensors
from lplr.storage.text import from_json, to_json

__all__ = ["OutputMoments", "open_moments", "shapes_of", "write_moments"]

_FORMAT = 1
_ESTIMATORS = ("token", "sequence")
_FACTS = {"format", "estimators", "rng", "checkpoint", "calibration", "loss", "versions", "sha256"}


def shapes_of(
    layer: str, shape: tuple[int, int], estimators: tuple[str, ...], tokens: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """The tensors of a linear layer of this shape, for (sequences, tokens)."""
    n, d = shape
    each = {
        "token": {"token.G": (n, n), "token.weights": tokens},
        "sequence": {"sequence.G": (n, n), "sequence.H": (d, d)},
    }
    return {f"{layer}.{name}": s for kind in estimators for name, s in each[kind].items()}


@dataclass(frozen=True)
class OutputMoments:
    """Second moments of the gradients at the outputs of all linear layers, in a file.

    Parameters
    ----------
    path : Path
    facts : dict
        ``estimators``, a list of "token" and "sequence"; ``rng``, the seed of the labels;
        ``checkpoint``, its digest; ``calibration``, shape and SHA-256 of the token ids;
        ``loss``, the mean loss of the sampled labels, which is about the mean entropy of the
        predictions in nats; and the ``versions`` that made it.
    digest : str
        SHA-256 of what the file holds.

    Examples
    --------
    >>> import lplr
    >>> moments = lplr.models.open_moments("moments.safetensors")  # doctest: +SKIP
    >>> moments.output_moment("model.layers.0.mlp.up_proj").shape  # doctest: +SKIP
    (1536, 1536)
    """

    path: Path
    facts: dict[str, Any]
    digest: str

    def __repr__(self) -> str:
        sequences, tokens = self.facts["calibration"]["shape"]
        return (
            f"OutputMoments({str(self.path)!r}: {len(self.layers)} layers by "
            f"{' and '.join(self.estimators)}, {sequences} x {tokens} tokens)"
        )

    @property
    def estimators(self) -> tuple[str, ...]:
        """Those that were asked for, of "token" and "sequence"."""
        return tuple(self.facts["estimators"])

    @property
    def layers(self) -> list[str]:
        """Modules of the linear layers, in order."""
        end = f".{self.estimators[0]}.G"
        return [n.removesuffix(end) for n in stored.tensors(self.path) if n.endswith(end)]

    def output_moment(self, layer: str, estimator: str | None = None) -> np.ndarray:
        """G, the second moment of the gradients at the outputs of a layer.

        Parameters
        ----------
        layer : str
        estimator : {"token", "sequence"}, optional
            By default the first that the file holds.

        Returns
        -------
        ndarray of shape (n, n), float32
            Symmetric. By token the mean of ``delta delta^T`` over the tokens.

        Raises
        ------
        InputError
            If the file has none.
        CorruptFileError
            If it is damaged.
        """
        return self._tensor(f"{layer}.{estimator or self.estimators[0]}.G")

    def input_moment(self, layer: str) -> np.ndarray:
        """H of the sequence estimator, the second moment of the inputs of a layer.

        Parameters
        ----------
        layer : str

        Returns
        -------
        ndarray of shape (d, d), float32

        Raises
        ------
        InputError, CorruptFileError
            As by `output_moment`.
        """
        return self._tensor(f"{layer}.sequence.H")

    def token_weights(self, layer: str) -> np.ndarray:
        """``|delta|^2`` of each token.

        Parameters
        ----------
        layer : str

        Returns
        -------
        ndarray of shape (sequences, tokens), float32
            Zero for padding; in the order of `lplr.models.texts.shortest_first`.

        Raises
        ------
        InputError, CorruptFileError
            As by `output_moment`.
        """
        return self._tensor(f"{layer}.token.weights")

    def _tensor(self, name: str) -> np.ndarray:
        digest = self.facts["sha256"].get(name)
        if digest is None:
            raise InputError(
                f"{self.path}: has no {name}; it holds the estimators "
                f"{', '.join(self.estimators)} of {len(self.layers)} layers"
            )
        found = np.array(stored.read(str(self.path), name).array)
        if hashlib.sha256(found.tobytes()).hexdigest() != digest:
            raise CorruptFileError(
                f"{self.path}: {name} is damaged: its SHA-256 is another; form the moments anew"
            )
        return found

    def verify(self) -> None:
        """Read all tensors; CorruptFileError names the first that is damaged."""
        for name in self.facts["sha256"]:
            self._tensor(name)

    def check(
        self,
        layers: Mapping[str, tuple[int, int]],
        checkpoint: str | None = None,
        ids: np.ndarray | None = None,
    ) -> None:
        """Refuse moments that are not of these layers, this checkpoint and these token ids.

        Parameters
        ----------
        layers : mapping of str to (int, int)
            Shapes of all linear layers.
        checkpoint : str, optional
            Its digest.
        ids : ndarray of shape (sequences, tokens), int, optional
            In the order in which they are used.

        Raises
        ------
        InputError
            That names the difference.
        """
        if checkpoint is not None and self.facts["checkpoint"] != checkpoint:
            raise InputError(
                f"output_moments: {self.path} is of another checkpoint; form the moments of this "
                "one"
            )
        if ids is not None and self.facts["calibration"] != fingerprint(ids):
            shape = " x ".join(map(str, self.facts["calibration"]["shape"]))
            raise InputError(
                f"output_moments: {self.path} is of other tokens, {shape} of them; calibrate on "
                "the same ones"
            )
        asked = {
            name: shape
            for layer, of in layers.items()
            for name, shape in shapes_of(
                layer, of, self.estimators, tuple(self.facts["calibration"]["shape"])
            ).items()
        }
        found = {name: tensor.shape for name, tensor in stored.tensors(self.path).items()}
        for name in sorted(asked.keys() | found.keys()):
            if asked.get(name) != found.get(name):
                has = f"has {name} of shape {found[name]}" if name in found else f"lacks {name}"
                needs = f"needs shape {asked[name]}" if name in asked else "has no such layer"
                raise InputError(
                    f"output_moments: {self.path} {has}, and this network {needs}; form the "
                    "moments of this one"
                )


def open_moments(path: str | os.PathLike[str]) -> OutputMoments:
    """Open a file of output moments.

    Parameters
    ----------
    path : str or path
        As `lplr.models.output_moments` or ``lplr model calibrate --output`` has written it.

    Returns
    -------
    OutputMoments
        Tensors are read, and checked, when they are asked for.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If it is none of output moments.
    CorruptFileError
        If it is damaged.

    Examples
    --------
    >>> import lplr
    >>> moments = lplr.models.open_moments("moments.safetensors")  # doctest: +SKIP
    >>> moments.output_moment("model.layers.0.mlp.up_proj").shape  # doctest: +SKIP
    (1536, 1536)
    """
    try:
        found = Path(path)
        known = os.path.exists(found)
    except (TypeError, ValueError):
        raise InputError(
            f"output_moments: must be the name of a file, or True, found {path!r}"
        ) from None
    if not known:
        raise MissingFileError(f"output_moments: there is no {str(found)!r}", str(found))
    if found.is_dir():
        raise FolderError(f"output_moments: {found} is a folder; name a file", str(found))
    texts = stored.metadata(found)
    if "output_moments" not in texts:
        raise InputError(
            f"output_moments: {found} holds none; lplr.models.output_moments and "
            "lplr model calibrate --output make such a file"
        )
    text = texts["output_moments"].encode()
    digest = hashlib.sha256(text).hexdigest()
    if texts.get("sha256") != digest:
        raise CorruptFileError(f"{found}: is damaged: the SHA-256 of its description is another")
    facts = from_json(text, str(found))
    if facts.get("format") != _FORMAT or facts.keys() != _FACTS:
        raise CorruptFileError(
            f"{found}: has the format {facts.get('format')!r}; this package reads {_FORMAT}: "
            "update lplr"
        )
    if not _are_facts(facts):
        raise CorruptFileError(f"{found}: its description is not that of output moments")
    return OutputMoments(found, facts, digest)


def _are_facts(facts: Mapping[str, Any]) -> bool:
    """Whether each has the type that is relied upon."""
    estimators, of, digests = (facts[name] for name in ("estimators", "calibration", "sha256"))
    return (
        isinstance(estimators, list)
        and 0 < len(estimators) <= len(_ESTIMATORS)
        and all(name in _ESTIMATORS for name in estimators)
        and isinstance(of, dict)
        and isinstance(of.get("shape"), list)
        and [type(extent) for extent in of["shape"]] == [int, int]
        and isinstance(digests, dict)
        and all(isinstance(digest, str) for digest in digests.values())
    )


def write_moments(
    path: Path,
    facts: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, int]],
    read: Callable[[str], np.ndarray],
    overwrite: bool = False,
) -> OutputMoments:
    """Write a file of output moments, of which ``read(name)`` gives one tensor, twice."""
    digests = {name: hashlib.sha256(_bytes(read(name))).hexdigest() for name in shapes}
    text = to_json({"format": _FORMAT, **facts, "sha256": digests}, "facts")
    metadata = {
        "output_moments": text.decode(),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    kinds = {name: ("F32", shape) for name, shape in shapes.items()}
    pieces = safetensors(kinds, lambda name: np.ascontiguousarray(read(name), "<f4"), metadata)
    write_atomic(path, pieces, overwrite)
    return open_moments(path)


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()
