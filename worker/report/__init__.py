"""The report of `tallyman report`: what a period came to, in figures and as a page."""
