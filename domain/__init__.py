"""The business: plain Python that imports the standard library alone."""
