"""Matrices that need not be in memory, read in blocks of rows as floats."""

from lplr.sources.base import Source
from lplr.sources.dask_source import DaskSource
from lplr.sources.opening import is_source, loaded, open_source, opened

__all__ = ["DaskSource", "Source", "is_source", "loaded", "open_source", "opened"]
