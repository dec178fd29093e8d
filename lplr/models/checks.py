"""Whether the tensors of a checkpoint are those of its network, before any work begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from lplr.exceptions import InputError
from lplr.models.base import Checkpoint
from lplr.models.packed import PackedModel

__all__ = ["check_checkpoint", "check_finite"]

_LISTED = 3  # names of each kind in a message


def check_checkpoint(
    checkpoint: Checkpoint | PackedModel,
    expected: Mapping[str, tuple[int, ...]],
    *,
    ignored: Callable[[str], bool] = lambda name: False,
    tied: tuple[str, str] | None = None,
) -> None:
    """Compare names and shapes of all tensors with those of the network, without reading them.

    Parameters
    ----------
    checkpoint : Checkpoint or PackedModel
    expected : mapping of str to tuple of int
        Name and shape of every tensor that the network needs.
    ignored : callable
        Whether a tensor may be there though nothing uses it.
    tied : pair of str, optional
        Head and embedding, of which the config says that they are one matrix. Where the head is
        there all the same, both are read and must be equal.

    Raises
    ------
    InputError
        If tensors are missing, surplus or of another shape; one message counts them all and names
        the first ones of each kind. Or if the head is not the embedding.

    Examples
    --------
    >>> import pathlib, numpy as np
    >>> from lplr.models.base import Checkpoint, StoredTensor, TensorInfo
    >>> from lplr.models.checks import check_checkpoint
    >>> w = StoredTensor(TensorInfo("F32", (2, 2), 16), lambda: np.eye(2, dtype=np.float32))
    >>> checkpoint = Checkpoint(pathlib.Path("model"), {}, {"w": w}, [], dict)
    >>> check_checkpoint(checkpoint, {"w": (2, 2)})
    >>> check_checkpoint(checkpoint, {"w": (2, 3), "v": (2,)})
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: model does not fit its config.json: 1 tensor missing ('v'); \
1 tensor of another shape ('w' is (2, 2), not (2, 3))
    """
    missing = [repr(name) for name in expected if name not in checkpoint]
    surplus = [repr(name) for name in checkpoint if name not in expected and not ignored(name)]
    misshapen = [
        f"{name!r} is {checkpoint.info(name).shape}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in checkpoint and checkpoint.info(name).shape != tuple(shape)
    ]
    kinds = {"missing": missing, "surplus": surplus, "of another shape": misshapen}
    wrong = [
        f"{len(found)} tensor{'s' * (len(found) > 1)} {what} ({', '.join(found[:_LISTED])}"
        f"{', ...' if len(found) > _LISTED else ''})"
        for what, found in kinds.items()
        if found
    ]
    if wrong:
        raise InputError(f"{checkpoint.path} does not fit its config.json: {'; '.join(wrong)}")
    if tied is not None and tied[0] in checkpoint:
        head, embedding = (checkpoint[name] for name in tied)
        if not np.array_equal(head, embedding):
            raise InputError(
                f"{checkpoint.path}: its config.json ties {tied[0]!r} to {tied[1]!r}, and they "
                "differ; set tie_word_embeddings to false if that is meant"
            )


def check_finite(
    checkpoint: Checkpoint,
    names: Iterable[str] | None = None,
    *,
    progress: Callable[[str], None] = lambda name: None,
) -> None:
    """Read the tensors one at a time and look for entries that are no finite numbers.

    Parameters
    ----------
    checkpoint : Checkpoint
    names : iterable of str, optional
        All tensors by default.
    progress : callable
        Is told the name of each tensor before it is read.

    Raises
    ------
    InputError
        If there is one; the message names the tensor and the first place.

    Examples
    --------
    >>> import pathlib, numpy as np
    >>> from lplr.models.base import Checkpoint, StoredTensor, TensorInfo
    >>> from lplr.models.checks import check_finite
    >>> bad = np.array([[1, np.inf]], np.float32)
    >>> w = StoredTensor(TensorInfo("F32", (1, 2), 8), lambda: bad)
    >>> check_finite(Checkpoint(pathlib.Path("model"), {}, {"w": w}, [], dict))
    Traceback (most recent call last):
    ...
    lplr.exceptions.InputError: model: the tensor 'w' has the value inf at (0, 1)
    """
    for name in checkpoint if names is None else names:
        progress(name)
        tensor = checkpoint[name]
        finite = np.isfinite(tensor)
        if not finite.all():
            at = np.unravel_index(int(finite.argmin()), finite.shape)
            place = tuple(int(i) for i in at)
            raise InputError(
                f"{checkpoint.path}: the tensor {name!r} has the value {tensor[place]} at {place}"
            )
