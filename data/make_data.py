"""Make the files of this folder from their sources; README.md gives the commands.

Every file is an .npz with LZMA members that `numpy.load` reads. Three reversible steps make the
arrays compressible, and `lplr.datasets` undoes them:

* Byte planes: an array of shape ``s`` with items of b bytes becomes uint8 of shape ``(b, *s)``.
  Plane 0 holds the lowest bytes. Signs and exponents compress, mantissas do not.
* A symmetric matrix is stored as its lower triangle, row by row.
* Weights that were dequantized from GGML's Q4_1 (``scale * code + offset`` for each 32 entries of
  a row, with float16 scale and offset and codes 0 to 15) are stored as these parts again.

One step is not reversible: the entries of one large Hessian are rounded to multiples of 2⁻²⁰.
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
N_TRAIN, N_TEST = 6000, 1000
BLOCK = 32

# Layer, whether its weights are dequantized Q4_1, and the step that its Hessian is rounded to.
LAYERS: tuple[tuple[str, bool, float | None], ...] = (
    ("minilm_l2_query", False, None),
    ("minilm_l3_output", False, 2.0**-20),
    ("smollm2_l10_up", True, None),
)


def byte_planes(a: np.ndarray) -> np.ndarray:
    """Uint8 of shape (itemsize, *a.shape); plane i holds byte i, the lowest first."""
    little = np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<"))
    return np.moveaxis(little[..., None].view(np.uint8), -1, 0)


def lower_triangle(H: np.ndarray, step: float | None) -> np.ndarray:
    """Rows of the lower triangle in one vector, rounded to multiples of `step` if given."""
    if not np.array_equal(H, H.T):
        raise ValueError("H is not symmetric")
    t = H[np.tril_indices(len(H))]
    if step is None:
        return t
    rounded = np.rint(t / np.float64(step)) * step
    if not np.array_equal(rounded, rounded.astype(np.float32)):
        raise ValueError("a multiple of the step is not a float32")
    return rounded.astype(np.float32)


def split_q4_1(W: np.ndarray) -> dict[str, np.ndarray]:
    """Codes, scales and offsets of weights dequantized from Q4_1, exactly.

    A block's extreme values are k steps apart for some k = 1…15; that k, and the code of the
    smallest value, are searched until ``scale * code + offset`` gives back all 32 entries.
    """
    n, d = W.shape
    blocks = W.reshape(-1, BLOCK)
    low, width = blocks.min(axis=1), np.ptp(blocks, axis=1)
    codes = np.zeros(blocks.shape, np.uint8)
    scale = np.zeros(len(blocks), np.float16)
    offset = np.zeros(len(blocks), np.float16)
    todo = np.ones(len(blocks), bool)
    for k in range(15, 0, -1):
        s16 = (width / k).astype(np.float16)
        s = s16.astype(np.float32)
        q = np.rint((blocks - low[:, None]) / np.where(s > 0, s, 1)[:, None])
        for first in range(16 - k):
            o16 = (low - s * np.float32(first)).astype(np.float16)
            back = s[:, None] * (q + first) + o16.astype(np.float32)[:, None]
            hit = todo & (q.max(axis=1) + first <= 15) & (back == blocks).all(axis=1)
            codes[hit] = (q[hit] + first).astype(np.uint8)
            scale[hit], offset[hit] = s16[hit], o16[hit]
            todo &= ~hit
    if todo.any():
        raise ValueError(f"{todo.sum()} of {len(todo)} blocks are not dequantized Q4_1")
    codes = codes.reshape(n, d)
    return {
        "W_codes": codes[:, 0::2] | codes[:, 1::2] << 4,
        "W_scale": scale.reshape(n, -1),
        "W_offset": offset.reshape(n, -1),
    }


def write(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz whose bytes depend on the arrays only (no times, no permissions)."""
    path = HERE / f"{name}.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for key, a in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(a), allow_pickle=False)
            member = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            archive.writestr(member, buffer.getvalue())
    print(f"{path.name}: {path.stat().st_size} bytes")


def make_fashion_mnist(source: Path) -> None:
    """The first images of the official split; `source` holds the four IDX files, gzipped."""
    arrays = {}
    for split, prefix, count in (("train", "train", N_TRAIN), ("test", "t10k", N_TEST)):
        with gzip.open(source / f"{prefix}-images-idx3-ubyte.gz") as f:
            f.seek(16)
            pixels = np.frombuffer(f.read(count * 784), np.uint8)
        with gzip.open(source / f"{prefix}-labels-idx1-ubyte.gz") as f:
            f.seek(8)
            labels = np.frombuffer(f.read(count), np.uint8)
        arrays[f"{split}_images"] = pixels.reshape(count, 784)
        arrays[f"{split}_labels"] = labels
    write("fashion_mnist_small", arrays)


def make_layers(source: Path) -> None:
    """The layers; `source` holds one .npz for each, with float32 members W and H."""
    for name, is_q4_1, step in LAYERS:
        with np.load(source / f"{name}.npz") as z:
            W, H = z["W"], z["H"]
        weights = split_q4_1(W) if is_q4_1 else {"W_planes": byte_planes(W)}
        write(name, weights | {"H_planes": byte_planes(lower_triangle(H, step))})


def make_embeddings(source: Path) -> None:
    """`source` holds fortune_embeddings.npz: embeddings float16, labels uint8, class_names."""
    with np.load(source / "fortune_embeddings.npz") as z:
        arrays = {
            "embeddings_planes": byte_planes(z["embeddings"]),
            "labels": z["labels"],
            "class_names": z["class_names"],
        }
    write("fortune_embeddings", arrays)


def main() -> None:
    """Parse the two arguments and make the files."""
    parts = {
        "fashion-mnist": make_fashion_mnist,
        "layers": make_layers,
        "embeddings": make_embeddings,
    }
    parser = argparse.ArgumentParser(description="Make the data files from their sources.")
    parser.add_argument("part", choices=parts)
    parser.add_argument("source", type=Path, help="folder with the source files")
    args = parser.parse_args()
    parts[args.part](args.source)


if __name__ == "__main__":
    main()
