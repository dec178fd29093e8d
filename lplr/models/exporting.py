"""A model for other programs: every tensor dense, in the form in which checkpoints have it."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lplr.exceptions import InputError, LplrError, StorageError
from lplr.models.checks import check_checkpoint
from lplr.models.families import family_of
from lplr.models.opening import open_tensors
from lplr.models.packed import PackedModel
from lplr.models.store import carried_tensors
from lplr.models.writers import export_folder, export_gguf
from lplr.progress import Progress, tracked, until
from lplr.storage.names import rename_folder
from lplr.storage.output import new_path
from lplr.validation.arguments import check_choice

__all__ = ["DTYPES", "export"]

DTYPES = ("float16", "bfloat16", "float32")


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    progress: Progress = False,
) -> None:
    """Write a model with dense tensors, compressed or not, for programs that know no packed ones.

    Parameters
    ----------
    model : str or path
        A folder that `compress` made, a folder in the form of Hugging Face, or a ``.gguf`` file.
    out : str or path
        A GGUF file, if it ends in ``.gguf``; else a folder with config.json, the files of the
        tokenizer, and .safetensors files. It is there complete, or not at all.
    dtype : {"float16", "bfloat16", "float32"}
        Of all tensors of a folder. Of a GGUF file matrices are float16, and all else is float32.
    progress : bool or callable
        What to hear while it works, see `lplr.progress`: nothing (False), a bar (True), or calls
        ``progress(share, what)``.

    Raises
    ------
    InputError
        If an argument is outside what is offered, ``out`` exists, or a tensor has an entry that is
        too large for ``dtype``.
    CorruptFileError, UnsafeFileError
        If the model is damaged.
    StorageError
        If ``out`` cannot be written.
    MissingPackageError
        If a GGUF file is read or written and the package ``gguf`` is not installed.

    Examples
    --------
    >>> import lplr
    >>> lplr.models.export("smaller", "smaller-dense", dtype="bfloat16")  # doctest: +SKIP
    """
    check_choice(dtype, "dtype", DTYPES)
    target = new_path(out)
    if target.suffix == ".gguf" and dtype != "float16":
        raise InputError(f"dtype: matrices of a GGUF file are float16, not {dtype}; leave it out")
    with tracked(progress, "exporting"):
        tensors = open_tensors(model)
        family = family_of(tensors.config)
        check_checkpoint(
            tensors, family.tensors(), ignored=family.ignored, tied=family.tied_tensors
        )
        shapes = family.tensors()
        if target.suffix != ".gguf":
            shapes |= carried_tensors(family, tensors)
        total, done = sum(map(math.prod, shapes.values())), 0

        def read(name: str) -> np.ndarray:
            nonlocal done
            done += math.prod(shapes[name])
            with until(done / total, f"decoding {name}"):
                return tensors.dense(name) if isinstance(tensors, PackedModel) else tensors[name]

        given = tensors.config, shapes, read, tensors.tokenizer_files()
        if target.suffix == ".gguf":
            export_gguf(target, *given)
        else:
            _complete(target, lambda folder: export_folder(folder, *given, dtype=dtype))


def _complete(target: Path, write: Callable[[Path], None]) -> None:
    """A folder that ``write(folder)`` fills, under its name when it is complete."""
    temporary = target.with_name(f".lplr-{secrets.token_hex(16)}.tmp")
    try:
        write(temporary)
        rename_folder(temporary, target)
    except LplrError:  # of what is read, or written, which some of them are OSErrors for
        raise
    except OSError as error:
        raise StorageError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
