"""The file of rejects: rows that had no effect, and why."""

import csv
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.imports.errors import FileError
from domain.imports.runs import RowError

COLUMNS = ("line", "column", "code", "message", "value")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
# What a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Rejected = Callable[[RowError], None]


@contextmanager
def rejects_to(path: Path | None) -> Iterator[Rejected]:
    """Give what writes errors to a file, if there is one to write to."""
    if path is None:
        yield lambda _: None
        return
    try:
        # For the owner alone: rows of users are personal data.
        file = open(path, "w", newline="", encoding="utf-8", opener=_private)  # noqa: SIM115  closed below
    except OSError as error:
        raise FileError(f"cannot write {path}: {error}") from error
    with file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        yield lambda error: writer.writerow(
            (error.line, error.column, error.code, error.message, _inert(error.value))
        )


def _inert(value: str | None) -> str | None:
    """Keep a spreadsheet from running what a cell holds."""
    if value and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
