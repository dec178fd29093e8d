"""Matrices that do not fit in memory, coded in two passes over blocks of their rows.

What the codes of a row depend on is that row and the factor R. R follows from the Gram matrix, of
the size of the columns, and from a few of the rows: the first pass takes these, the second one
codes all rows. Sums are taken over tiles of rows whose size depends on the shape alone, in their
order, so that results depend neither on the memory nor on the number of threads.

A result that does not fit either is made in parts (`lplr.streaming.part_rows`), each coded by
itself on the same R. They are kept in files as they are finished (`lplr.streaming.results`), with
what the first pass found, so that a computation that was killed goes on with the part in progress.
"""
