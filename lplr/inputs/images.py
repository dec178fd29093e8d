"""Images as matrices of grey values, to the value that the file stores, or refused.

Samples of at most 16 bits without a sign are grey levels and are divided by the largest one, so
that they lie in 0 to 1. Wider ones, signed ones and floats are measurements and stay as they are.
Pillow reads many files with fewer bits than they have (16-bit colours, 64-bit floats) or with the
wrong sign (8-bit TIFF), and says nothing: what the header declares is compared with what it gives.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lplr.exceptions import CorruptFileError, InputError, LplrError
from lplr.inputs.base import Input, check_fits
from lplr.inputs.netpbm import is_netpbm, read_samples

__all__ = ["SUFFIXES", "names", "read"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
# No other kinds: for some Pillow starts a program (Ghostscript for EPS).
_PILLOW = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
_AS_GREY = 12  # bytes that a sample of one byte takes: it, as two bytes, and float32 twice
_ORIENTATION = 274  # tag of EXIF and TIFF
# What Pillow raises while it reads a damaged file.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, struct.error)
_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f"}  # tag SampleFormat of TIFF
_KIND_NAMES = {"u": "unsigned", "i": "signed", "f": "float"}


def names(path: str) -> list[str]:
    """The pages, counted from 1; one empty name where there is only one."""
    if is_netpbm(_head(path)):
        return [""]
    with _opened(path) as image:
        pages = _count_pages(image)
    return [str(i + 1) for i in range(pages)] if pages > 1 else [""]


def read(path: str, member: str) -> Input:
    """Read one page as grey values."""
    head = _head(path)
    if is_netpbm(head):
        _page(path, member, 1)
        check_fits(_AS_GREY * os.path.getsize(path), path)
        pixels, largest = read_samples(path)
        grey, notes = _grey(pixels, largest, f"values divided by {largest}")
        return Input(grey, path, member, "; ".join(notes), 8 if largest < 256 else 16)
    with _opened(path) as image:
        image.seek(_page(path, member, _count_pages(image)))
        grey, notes, bits = _read_page(image, head, f"{path}:{member}" if member else path)
        return Input(grey, path, member, "; ".join(notes), bits)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(30)


class _WholeFile(io.BufferedReader):
    """A file of which nobody asks for more bytes than it has: there would be room for all first."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """The open image; whatever Pillow reports while it is open becomes a typed error."""
    from PIL import Image, UnidentifiedImageError

    try:
        # A file, not its name: Pillow would map it, which garbles turned TIFF images.
        with (
            _WholeFile(io.FileIO(path)) as file,
            Image.open(file, formats=_PILLOW) as image,
        ):
            yield image
    except LplrError:
        raise
    except UnidentifiedImageError:
        raise CorruptFileError(
            f"{path}: is damaged, no image, or an image of a kind that is not read; save it as .npy"
        ) from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: has too many pixels ({error}); save it as .npy") from None
    except MemoryError:  # of a decoder, for what a damaged header declares
        raise InputError(f"{path}: takes more memory than is available; save it as .npy") from None
    except _DAMAGE as error:
        raise CorruptFileError(f"{path}: is damaged: {error}; save it again") from None


def _count_pages(image: Any) -> int:
    return getattr(image, "n_frames", 1)


def _page(path: str, member: str, pages: int) -> int:
    """Index of the page that was named, or of the only one."""
    if not member and pages == 1:
        return 0
    if not member:
        raise InputError(f"{path}: has {pages} pages; name one, {path}:1 to {path}:{pages}")
    if member not in map(str, range(1, pages + 1)):
        raise InputError(f"{path}: has no page {member!r}; it has 1 to {pages}")
    return int(member) - 1


def _read_page(image: Any, head: bytes, name: str) -> tuple[np.ndarray, list[str], int]:
    """Grey values, notes of what was done, and the bits of a sample in the file."""
    from PIL import ImageOps

    # As Pillow has it, as an array, as float32, and grey.
    check_fits(image.width * image.height * (2 + 5 * len(image.getbands()) + 4), name)
    bits, kind = _declared(image, head)
    mode = image.mode
    if not _is_exact(mode, bits, kind):
        found = f"{bits} bits, {_KIND_NAMES[kind]}" if kind else "of several kinds"
        raise InputError(
            f"{name}: cannot be read without loss (samples: {found}; colours: {mode}); save it as "
            ".npy"
        )
    notes = []
    if image.format == "TIFF":
        turned = image.tag_v2.get(_ORIENTATION, 1)  # Pillow turns these by itself
        image.load()
    else:
        image.load()
        turned = image.getexif().get(_ORIENTATION, 1)
    if "transparency" in image.info or mode in ("LA", "PA", "RGBA"):
        notes.append("transparency ignored")
        image.info.pop("transparency", None)
    if image.format != "TIFF":
        image = ImageOps.exif_transpose(image)
    if turned in range(2, 9):
        notes.append("turned as its orientation tag says")
    pixels = np.array(image.convert("RGB") if mode in ("P", "PA") else image)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if kind != "u":
        return pixels, notes, bits
    if bits == 32:
        return pixels.view(np.uint32), notes, bits  # Pillow has signed ones alone
    # Pillow has already spread 2 and 4 bits over 0 to 255.
    largest = 2**bits - 1 if mode[0] in "1I" else 255
    scaled = f"{8 if mode == 'P' else bits}-bit values scaled to 0 to 1" if largest > 1 else ""
    grey, changes = _grey(pixels, largest, scaled)
    return grey, [*notes, *changes], bits


def _declared(image: Any, head: bytes) -> tuple[int, str]:
    """Bits and kind of the samples as the file has them; no kind where several are mixed."""
    if image.format == "TIFF":
        tags = image.tag_v2
        bits, kinds = set(tags.get(258, (1,))), set(tags.get(339, (1,)))
        colours = tags.get(320, ())  # of a palette: 16 bits, of which Pillow takes the upper half
        mixed = (
            len(bits) > 1
            or len(kinds) > 1
            or tags.get(277, 1) != len(image.getbands())  # left out by Pillow
            or 1 in tags.get(338, ())  # colours multiplied by the transparency: Pillow divides
            or (tags.get(262) == 0 and max(bits) > 8)  # white is 0: Pillow does not invert these
            or all(any(colour % step for colour in colours) for step in (256, 257))
        )
        return max(bits), "" if mixed else _SAMPLE_KINDS.get(max(kinds), "")
    if image.format == "PNG":
        return head[24], "u"
    if image.format == "BMP":
        at = 24 if int.from_bytes(head[14:18], "little") == 12 else 28
        bits_per_pixel = int.from_bytes(head[at : at + 2], "little")
        # 16 bits hold three colours of 5 or 6 bits, which Pillow spreads over 8.
        return {1: 1, 16: 16}.get(bits_per_pixel, 8), "u"
    return 8, "u"


def _is_exact(mode: str, bits: int, kind: str) -> bool:
    """Whether an image of this mode of Pillow holds all of such samples."""
    if mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return kind == "u" and bits <= 8
    if mode.startswith("I"):
        return (bits, kind) in ((12, "u"), (16, "u"), (32, "u"), (16, "i"), (32, "i"))
    return (mode, bits, kind) == ("F", 32, "f")


def _grey(samples: np.ndarray, largest: int, scaled: str) -> tuple[np.ndarray, list[str]]:
    """Grey values from 0 to 1, float32, and notes of what was done; ``scaled`` is the first one."""
    grey = samples / np.float32(largest)
    notes = [scaled] if scaled else []
    if grey.ndim == 3:
        colours = grey[:, :, :3] if grey.shape[2] >= 3 else grey[:, :, :1]
        if (colours == colours[:, :, :1]).all():
            grey = colours[:, :, 0]
        else:
            grey = colours @ _LUMINANCE
            notes.append("colours converted to grey by luminance")
    return np.ascontiguousarray(grey), notes
