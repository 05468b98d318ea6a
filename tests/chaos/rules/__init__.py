"""The rules that the system promised to keep, stated once more and apart from it."""
