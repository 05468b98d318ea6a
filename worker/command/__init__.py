"""The `tallyman` command: one module for each of its parts, imported when that part is used."""
