"""Tables: what every kind of file is read as."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

from domain.imports.errors import FileError
from domain.imports.rows import Reject, Row

UNREADABLE = "UnreadableRow"
"""Code of a row whose cells cannot be told apart."""
MOST_COLUMNS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(ABC):
    """A file of rows, looked through once; `rows` may be read as often as one likes."""

    path: Path
    name: str
    """What it is called, wherever it lies."""
    digest: str
    """SHA-256 of its content, which packing it changes nothing about."""
    header: tuple[str, ...]
    lines: int
    """Rows in it, about."""
    most_bytes: int
    kept_by: object = field(default=None, repr=False)
    """What keeps a fetched file in its place for as long as it may be read."""

    def rows(self) -> Iterator[Row | Reject]:
        """Read the rows one by one.

        Raises:
            FileError: It is damaged, further on than was seen when it was opened.
        """
        with reading(self.name):
            yield from self._rows()

    @abstractmethod
    def _rows(self) -> Iterator[Row | Reject]: ...


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Read a file within the context.

    Raises:
        FileError: It cannot be read.
    """
    try:
        yield
    except FileError:
        raise
    except Exception as error:
        # What libraries raise at damaged content has no end.
        told = str(error) or type(error).__name__
        raise FileError(f"cannot read {name}: {told}") from error


def as_text(name: str) -> str:
    """Return a file's name as text that can be kept, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_header(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns, without the spaces around them.

    Raises:
        ValueError: There are none, or too many.
    """
    names = tuple(column.strip() for column in header)
    if not any(names):
        raise ValueError("it has no header: its first line names the columns")
    if len(names) > MOST_COLUMNS:
        raise ValueError(
            f"it has {len(names):,} columns, at most {MOST_COLUMNS:,} are read:"
            " is its delimiter one that stands in its cells?"
        )
    return names


def as_cell(value: object) -> str:
    """Return a typed value as the text that a cell of CSV would hold.

    Raises:
        ValueError: It is a list, an object, or something else that is no cell.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        # A column of whole numbers with gaps is often one of floats.
        return str(int(value))
    if isinstance(value, str | int | float | Decimal | date):
        return str(value)
    if value is None:
        return ""
    raise ValueError(f"a cell is expected, and a value is a {type(value).__name__}")
