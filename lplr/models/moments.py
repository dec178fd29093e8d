"""Second moments of the gradients at the outputs of linear layers: how much is felt of an error.

A change E of a linear layer ``y = W x`` changes what the network predicts by about

    KL = 1/2 tr(G E H E^T)

a token, H and G being second moments of its inputs x and of the gradients delta of the loss by y.
This is the Fisher matrix of the layer with its two sides apart, as in K-FAC (Martens and Grosse,
arXiv 1503.05671), if the loss is that of labels drawn from the network's own predictions: then its
second derivative is that of KL(original, compressed). The labels of the data would give another.

* By token (GuidedQuant, Kim and others, arXiv 2505.07004, weighs H so): with T tokens,
  ``G = 1/T sum_t delta_t delta_t^T`` and ``H = sum_t w_t x_t x_t^T / sum_t w_t``, where
  ``w_t = |delta_t|^2``. The weights are kept and not H, so that H can be formed behind layers that
  are compressed already.
* By sequence (sketch B of YAQA, Tseng and others, arXiv 2505.22988): with the gradient of the
  weight in a sequence, ``M = sum_t delta_t x_t^T``, ``G = 1/T sum M M^T`` over the sequences, and
  ``H = sum M^T M`` over its trace. It sees that tokens of a sequence are not independent, needs
  more sequences, and knows the original inputs alone.

One pass forward and back over the tokens serves all layers, see `lplr.models.moments_pass`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, MissingFileError
from lplr.matrices.errors import ratio_of_norms, two_sided_square
from lplr.models.checkpoint import Checkpoint, open_checkpoint
from lplr.models.families import Family, family_of
from lplr.models.moments_file import OutputMoments, open_moments, shapes_of, write_moments
from lplr.models.moments_job import MomentsJob
from lplr.models.moments_pass import Pass
from lplr.models.network import Network
from lplr.models.request import check_enough, check_predicts, check_tensors
from lplr.models.texts import PADDING, fingerprint, shortest_first, token_windows
from lplr.parallel import reproducible
from lplr.progress import Progress, tracked, until
from lplr.provenance import versions
from lplr.storage.output import new_path
from lplr.validation.arguments import check_choice, check_flag, check_integer

__all__ = ["ESTIMATORS", "felt", "kept_moments", "output_moments"]

ESTIMATORS = {"token": ("token",), "sequence": ("sequence",), "both": ("token", "sequence")}


def output_moments(
    checkpoint: Any,
    tokens: Any,
    out: str | os.PathLike[str],
    *,
    estimator: str = "token",
    rng: int = 0,
    overwrite: bool = False,
    progress: Progress = False,
) -> OutputMoments:
    """Second moments of the gradients at the outputs of all linear layers, as a file.

    One pass forward and one back over the tokens, with labels drawn from the network's own
    predictions. What is finished is kept in ``out.job``: the same call, after an interrupt or a
    kill, goes on from there and ends with the same bytes.

    Parameters
    ----------
    checkpoint : str, path or Checkpoint
        A network that predicts tokens; see `open_checkpoint`.
    tokens : str, path or array_like of int, of shape (sequences, tokens)
        Token ids, or a file of them, see `lplr.models.texts.token_windows`; -1 is padding. The
        same ones as for `lplr.models.compress`.
    out : str or path
        The ``.safetensors`` file to write.
    estimator : {"token", "sequence", "both"}
        What is summed, see Notes.
    rng : int
        Seed of the labels.
    overwrite : bool
        Whether an existing file is replaced, once the new one is complete.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Returns
    -------
    OutputMoments
        The open file, for ``output_moments`` of `lplr.models.compress`.

    Raises
    ------
    InputError
        If an argument is outside what is offered, the network is an encoder, ``out`` exists,
        another process makes it, ``out.job`` is of another call, or a gradient is not finite, or
        is zero everywhere at the outputs of a layer.
    StorageError
        If there is no space; what is finished stays.

    Warns
    -----
    DampingWarning
        If there are fewer tokens than outputs of a layer.

    Notes
    -----
    A change E of a layer of weights W changes the predictions by about ``1/2 tr(G E H E^T)`` nats
    a token. By token, G is the mean of ``delta delta^T``, delta being the gradient of the loss by
    an output, and H the mean of ``x x^T``, weighed by ``|delta|^2``; only these weights are kept.
    By sequence, G and H are sums of ``M M^T`` and ``M^T M``, M being the gradient by W in a
    sequence (sketch B of YAQA, Tseng and others, arXiv 2505.22988). It costs about twice as much,
    and `lplr.models.compress` then takes H as it is in the original network.

    On disk it takes twice, in memory once for a block, the space of what is summed: ``4 n^2``
    bytes for a layer of n outputs, and by sequence ``4 n^2 + 4 d^2``.

    Examples
    --------
    >>> import lplr
    >>> moments = lplr.models.output_moments(
    ...     "SmolLM2-135M", "tokens.npy", "moments.safetensors"
    ... )  # doctest: +SKIP
    >>> summary = lplr.models.compress(
    ...     "SmolLM2-135M", "small", bits_per_weight=2, calibration="tokens.npy",
    ...     output_moments="moments.safetensors",
    ... )  # doctest: +SKIP
    """
    check_choice(estimator, "estimator", tuple(ESTIMATORS))
    seed = check_integer(rng, "rng", 0)
    replaced = check_flag(overwrite, "overwrite") and os.path.isfile(out)
    target = Path(os.path.abspath(out)) if replaced else new_path(out)
    if target.suffix != ".safetensors":
        raise InputError(f"out: the name must end in .safetensors, found {str(target)!r}")
    with tracked(progress, "reading"), reproducible():
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = open_checkpoint(checkpoint)
        family = family_of(checkpoint.config)
        check_predicts(family)
        ids = shortest_first(token_windows(tokens, vocabulary=family.vocabulary))
        check_enough(ids, family, outputs=True)
        with until(0.02, "checking the tensors"):
            check_tensors(checkpoint, family)
        with until(1.0, "output moments"):
            return form_moments(
                checkpoint, family, ids, target, ESTIMATORS[estimator], seed, overwrite
            )


def form_moments(
    checkpoint: Checkpoint,
    family: Family,
    ids: np.ndarray,
    out: Path,
    estimators: tuple[str, ...],
    seed: int,
    overwrite: bool = False,
) -> OutputMoments:
    """What `output_moments` returns, of arguments that are checked."""
    facts = {
        "estimators": list(estimators),
        "rng": seed,
        "checkpoint": checkpoint.digest(),
        "calibration": fingerprint(ids),
        "versions": versions(),
    }
    shapes = [
        {
            name: shape
            for layer, of in family.linears(i).items()
            for name, shape in shapes_of(layer, of, estimators, ids.shape).items()
        }
        for i in range(family.n_blocks)
    ]
    sums = [{n: s for n, s in of.items() if not _is_weights(n)} for of in shapes]
    rows = {n: k for k, n in enumerate(n for of in shapes for n in of if _is_weights(n))}
    with MomentsJob(out, facts, sums, (len(rows), *ids.shape)) as job:
        Pass(Network(family, checkpoint), ids, seed, estimators, job, rows).run()
        count = int((ids != PADDING).sum())
        blocks = {name: i for i, of in enumerate(shapes) for name in of}

        def read(name: str) -> np.ndarray:
            if name in rows:
                found = job.weights[rows[name]]
            else:
                found = job.sums(blocks[name])[name]
                found = found / (np.trace(found) if name.endswith(".H") else np.float32(count))
            _check(name, found)
            return found

        facts |= {"loss": job.loss / count}
        every = {name: shape for of in shapes for name, shape in of.items()}
        with until(1.0, "writing the output moments"):
            found = write_moments(out, facts, every, read, overwrite)
        job.discard()
    return found


def kept_moments(
    checkpoint: Checkpoint, family: Family, ids: np.ndarray, path: Path, seed: int
) -> OutputMoments:
    """The moments by token in the file of a job: formed now, unless it is there whole."""
    try:
        found = open_moments(path)
        found.verify()
        return found
    except MissingFileError:
        pass
    except (CorruptFileError, InputError):  # damaged
        path.unlink()
    return form_moments(checkpoint, family, ids, path, ("token",), seed)


def felt(G: np.ndarray, W: np.ndarray, coded: np.ndarray, H: np.ndarray) -> dict[str, float]:
    """What an error of a layer makes in the predictions, as the two second moments say.

    ``two_sided_error`` is relative, as ``sqrt(tr(G E H E^T) / tr(G W H W^T))``, E being the error
    W less what is coded; ``predicted_kl`` is ``1/2 tr(G E H E^T)``, in nats a token.
    """
    G64, W64 = G.astype(np.float64), W.astype(np.float64)
    error, whole = (two_sided_square(A, H, G64) for A in (W64 - coded, W64))
    return {"two_sided_error": ratio_of_norms(error, whole), "predicted_kl": error / 2}


def _is_weights(name: str) -> bool:
    return name.endswith(".weights")


def _check(name: str, found: np.ndarray) -> None:
    layer = name.rsplit(".", 2)[0]
    if not np.isfinite(found).all():
        raise InputError(
            f"tokens: the gradients at the outputs of {layer} are not finite; the network "
            "overflows on these tokens"
        )
    if not found.any():
        raise InputError(
            f"tokens: the gradients at the outputs of {layer} are all zero: nothing that it "
            "computes is felt; leave the output moments out, or the layer"
        )
