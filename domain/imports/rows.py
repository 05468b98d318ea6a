"""Rows of a file, and the two things that can become of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.errors import DomainError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as it was read."""

    line: int
    """Line of the file on which it starts; the first is 1."""
    cells: tuple[str, ...] = field(repr=False)
    span: int = 1
    """Lines that it takes up: more than 1 where a quoted cell holds line breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that became part of no job, and why."""

    line: int
    code: str
    reason: str
    cells: tuple[str, ...] = field(default=(), repr=False)
    at_fault: str | None = None
    """Field of the command that is at fault, where it is one."""

    @classmethod
    def of(cls, row: Row, error: DomainError) -> "Reject":
        named = error.details.get("field")
        return cls(
            line=row.line,
            code=error.code,
            reason=error.message,
            cells=row.cells,
            at_fault=named if isinstance(named, str) else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportJob:
    """The payload of a job, and the rows that it stands for."""

    payload: Mapping[str, Any] = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)


Planned = ImportJob | Reject
