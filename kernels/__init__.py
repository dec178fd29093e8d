"""Compiled loops: the only code of the package that Numba sees.

Contract, for every function here:

* its arguments are scalars and C-contiguous arrays of exactly the dtypes that its docstring names;
* the caller validates, allocates and owns the outputs; a kernel never allocates a result;
* it runs on one thread and without the GIL: rows are the parallel axis, and
  `lplr.parallel.run_blocks` hands out fixed blocks of them, so that a result never depends on the
  number of threads;
* it calls only kernels of its own file, since Numba's cache does not notice changes in other files.
"""
