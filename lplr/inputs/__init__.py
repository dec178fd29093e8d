"""Matrices from files: .npy, .npz, HDF5, .safetensors, .fvecs and .bvecs, Parquet, and images.

They are named as on the command line.
"""

from lplr.inputs.base import Input, check_readable
from lplr.inputs.read import (
    ArrayFile,
    members,
    open_input,
    read_input,
    read_member,
    split_input,
)

__all__ = [
    "ArrayFile",
    "Input",
    "check_readable",
    "members",
    "open_input",
    "read_input",
    "read_member",
    "split_input",
]
