"""Matrices from files: .npy, .npz, HDF5, .safetensors and images, named as on the command line."""

from lplr.inputs.base import Input
from lplr.inputs.read import ArrayFile, members, read_input, read_member, split_input

__all__ = ["ArrayFile", "Input", "members", "read_input", "read_member", "split_input"]
