"""Imports: the rows of a file become jobs, or are reported; no row is lost between the two.

A batch or a user is one row and one job, planned as the file is read. An order is all the rows
that name it, wherever in the file they stand, so an import of orders holds the file's rows in
memory until the last is read. A row that cannot be used is reported and the other rows of its
order still make an order: what the order then lacks is in the report, by line.
"""
