"""Compiled loops: the only code of the package that Numba sees.

Contract, for every function here:

* arguments are C-contiguous arrays of exactly the dtypes that the docstring names, and scalars;
* the caller validates, allocates and owns the outputs; a kernel never allocates a result;
* single-threaded and without the GIL: rows are the parallel axis, and `lplr.parallel.run_blocks`
  hands out fixed blocks of them, so a result never depends on the number of threads;
* `lplr.kernels.jit.kernel` compiles it, and it is right as plain Python too: numbers from arrays
  of small integers are converted before they are shifted or added, and each intrinsic comes with
  a plain function;
* a kernel calls only kernels of its own file, and intrinsics of other files here: of those, the
  cache of its file notices changes.
"""
