"""Writes the rows of an output in other formats: for tables, notebooks and other programs."""
