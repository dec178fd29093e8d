"""Matrices that do not fit in memory, coded in two passes over blocks of their rows.

What the codes of a row depend on is that row and the factor R. R follows from the Gram matrix, of
the size of the columns, and from a few of the rows: the first pass takes these, the second one
codes all rows. Sums are taken over tiles of rows whose size depends on the shape alone, in their
order, so that results depend neither on the memory nor on the number of threads.
"""
