"""Matrices from files: .npy, a member of an .npz or .safetensors, an HDF5 dataset, or an image.

Nothing is executed and nothing followed: pickles, soft links, external links, virtual datasets
and external storage are refused, and a file must have exactly the size that it declares.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lplr.cli.options import split_input
from lplr.exceptions import CorruptFileError, InputError, UnsafeFileError
from lplr.storage.safetensors import read_tensor, tensors

__all__ = ["Input", "members", "read_input", "read_member"]

_HDF5 = (".h5", ".hdf5")
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
_PILLOW = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
_SAFETENSORS = ".safetensors"
_ACCEPTED = ", ".join((".npy", ".npz", *_HDF5, _SAFETENSORS, *_IMAGES))
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
_MOST_COMPRESSED = 1100  # deflate never gains more
_MAGIC = b"\x93LPLR\r\n\x1a"


@dataclass(frozen=True)
class Input:
    """A matrix as a file holds it.

    Parameters
    ----------
    array : ndarray
        As stored; .npy and .safetensors files are mapped, not read, and BF16 becomes float32.
    path : str
        The file.
    member : str
        What was taken from it; empty if it holds one array only.
    note : str
        What was changed on the way in; empty if nothing.
    """

    array: np.ndarray
    path: str
    member: str = ""
    note: str = ""


def read_input(name: str) -> Input:
    """Open the matrix that a command line names.

    Parameters
    ----------
    name : str
        ``FILE``, ``FILE.npz:MEMBER``, ``FILE.safetensors:TENSOR`` or ``FILE.h5:/PATH``.

    Returns
    -------
    Input

    Raises
    ------
    InputError
        If there is no such file or member, or it is of no known kind.
    CorruptFileError
        If the file is truncated, overlong or damaged.
    UnsafeFileError
        If reading it would execute or follow something.
    """
    return read_member(*split_input(name))


def read_member(path: str, member: str) -> Input:
    """Open one matrix of a file.

    Parameters
    ----------
    path : str
    member : str
        One of `members`; empty if the file has only one.

    Returns
    -------
    Input

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `read_input` does.
    """
    read, _ = _kind(path)
    return read(path, member)


def members(path: str) -> list[str]:
    """What a file holds.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of str
        Names for `read_member`, in the order of the file; one empty name where nothing is named.

    Raises
    ------
    InputError, CorruptFileError, UnsafeFileError
        As `read_input` does.
    """
    _, names = _kind(path)
    return names(path)


def _kind(path: str) -> tuple[Callable[[str, str], Input], Callable[[str], list[str]]]:
    """What reads a member of a file of this kind, and what lists them."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file; check the name")
    if not os.path.isfile(path):
        raise InputError(f"{path}: is not a regular file; name a file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; change its permissions")
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        return _read_npy, _unnamed
    if suffix == ".npz":
        return _read_npz, _npz_names
    if suffix in _HDF5:
        return _read_hdf5, _hdf5_names
    if suffix == _SAFETENSORS:
        return _read_safetensors, lambda path: list(tensors(path))
    if suffix in _IMAGES:
        return _read_image, _unnamed
    raise InputError(f"{path}: the suffix {suffix!r} is not known; an input ends in {_ACCEPTED}")


def _unnamed(path: str) -> list[str]:
    return [""]


def _npy_header(
    file: IO[bytes], size: int, name: str
) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """dtype, shape, whether in Fortran order, and offset of the data of a .npy stream."""
    formats = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in formats:  # version 3.0 differs in the names of structured types only
            raise ValueError(f"version {version} is not one of plain arrays")
        shape, fortran, dtype = formats[version](file)
    except (ValueError, EOFError) as error:
        raise CorruptFileError(f"{name}: is not a valid .npy file: {error}") from None
    if dtype.hasobject:
        raise UnsafeFileError(
            f"{name}: holds Python objects (a pickle), which are never loaded; save it as numbers"
        )
    offset, count = file.tell(), 1
    for extent in shape:
        count *= extent  # of Python integers: a declared shape must not wrap
    expected = offset + count * dtype.itemsize
    if size != expected:
        what = "is truncated" if size < expected else "has bytes after its data"
        raise CorruptFileError(
            f"{name}: {what}: {size} bytes where its header declares {expected}; save it again"
        )
    return dtype, shape, fortran, offset


def _map_npy(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        dtype, shape, fortran, offset = _npy_header(file, size, path)
        order: Any = "F" if fortran else "C"
        if size == offset:  # nothing to map
            return np.empty(shape, dtype, order)
        return np.memmap(file, dtype, "r", offset, shape, order)


def _read_npy(path: str, member: str) -> Input:
    return Input(_map_npy(path), path)


def _npz_names(path: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise CorruptFileError(f"{path}: is damaged or no .npz file: {error}") from None


def _read_npz(path: str, member: str) -> Input:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            member = _choose(path, member, names)
            info = archive.infolist()[names.index(member)]
            with archive.open(info) as file:
                name = f"{path}:{member}"
                dtype, shape, fortran, _ = _npy_header(file, info.file_size, name)
                data = file.read()  # to the end, where its checksum is compared
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CorruptFileError(f"{path}: is damaged or no .npz file: {error}") from None
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be unpacked: {error}; save it again") from None
    flat = np.frombuffer(data, dtype)
    return Input(flat.reshape(shape, order="F" if fortran else "C"), path, member)


def _choose(path: str, member: str, names: list[str]) -> str:
    """The member that was named, or the only one."""
    listed = ", ".join(sorted(names)[:10]) + (", ..." if len(names) > 10 else "")
    if member:
        if member not in names:
            raise InputError(f"{path}: has no {member!r}; it has: {listed or 'nothing'}")
        return member
    if len(names) != 1:
        raise InputError(f"{path}: has {len(names)} arrays; name one, {path}:NAME, of: {listed}")
    return names[0]


def _read_safetensors(path: str, member: str) -> Input:
    member = member or _choose(path, "", list(tensors(path)))
    return Input(read_tensor(path, member), path, member)


def _read_hdf5(path: str, member: str) -> Input:
    with _open_hdf5(path) as file:
        name = f"/{member.strip('/')}" if member else _choose(path, "", _datasets(file))
        dataset = _follow_hard_links(file, name, path)
        _check_dataset(dataset, f"{path}:{name}")
        return Input(dataset[()], path, name)


def _hdf5_names(path: str) -> list[str]:
    with _open_hdf5(path) as file:
        return _datasets(file)


@contextmanager
def _open_hdf5(path: str) -> Iterator[Any]:
    """The file; whatever libhdf5 says against it while it is open becomes a typed error."""
    import h5py

    with open(path, "rb") as raw:
        if raw.read(len(_MAGIC)) == _MAGIC:
            raise InputError(f"{path}: is compressed already; use lplr decompress or lplr info")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (InputError, CorruptFileError):
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CorruptFileError(f"{path}: is damaged or no HDF5 file: {error}") from None


def _datasets(file: Any) -> list[str]:
    """Paths of all datasets, by hard links alone: others may leave the file."""
    import h5py

    names: list[str] = []

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            names.append(f"/{name}")

    file.visititems(note)
    return names


def _follow_hard_links(file: Any, name: str, path: str) -> Any:
    import h5py

    node = file
    for part in name.strip("/").split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            # The refusal that lists what there is.
            _choose(path, name, _datasets(file))
        if not isinstance(link, h5py.HardLink):
            raise UnsafeFileError(
                f"{path}:{name}: {part!r} is a link, which is not followed; name the dataset itself"
            )
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise InputError(f"{path}:{name}: is a group; name a dataset in it")
    return node


def _check_dataset(dataset: Any, name: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise UnsafeFileError(f"{name}: its data lie in other files; copy them into one dataset")
    if dataset.shape is None or dataset.dtype.hasobject or dataset.dtype.fields:
        raise UnsafeFileError(f"{name}: is not an array of numbers; save it as one")
    if dataset.nbytes > _MOST_COMPRESSED * dataset.id.get_storage_size():
        raise CorruptFileError(
            f"{name}: declares {dataset.nbytes} bytes and stores next to none of them"
        )


def _read_image(path: str, member: str) -> Input:
    from matplotlib.image import imread
    from PIL import Image

    try:
        # Of these kinds alone: for others Pillow may start a program (Ghostscript for EPS).
        with Image.open(path, formats=_PILLOW):
            pass
        with open(path, "rb") as file:
            pixels = imread(file, format=Path(path).suffix[1:].lower())
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise CorruptFileError(f"{path}: is damaged or no image: {error}") from None
    notes = []
    if pixels.dtype.kind == "u":
        pixels = pixels / np.float32(np.iinfo(pixels.dtype).max)
    if pixels.ndim == 3:
        if pixels.shape[2] in (2, 4):
            notes.append("transparency ignored")
        if pixels.shape[2] >= 3:
            notes.append("colours converted to grey by luminance")
            pixels = pixels[:, :, :3].astype(np.float32) @ _LUMINANCE
        else:
            pixels = pixels[:, :, 0]
    return Input(np.ascontiguousarray(pixels), path, note=", ".join(notes))
