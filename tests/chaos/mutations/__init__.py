"""The mutations: what keeps promises is switched off, one thing at a time, and must be missed.

`python -m tests.chaos.mutations` prints the table, and ends with 1 where a mutation was not
noticed, or where the load alone, with nothing switched off, does not end well.
"""
