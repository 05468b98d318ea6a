"""Saying in a report what became of rows."""

from collections.abc import Sequence

from domain.errors import DomainError
from domain.imports.rows import Row
from domain.imports.runs import Report, RowEnd, RowError


def refuse(report: Report, rows: Sequence[Row], error: DomainError) -> None:
    """Count rows that the business said no to."""
    report.ends[RowEnd.REFUSED] += len(rows)
    for row in rows:
        note(report, row.line, error.code, error.message, row.cells)


def fail(report: Report, line: int, code: str, message: str, cells: Sequence[str]) -> None:
    """Count a row that could not be imported as it is."""
    report.ends[RowEnd.FAILED] += 1
    note(report, line, code, message, cells)


def note(report: Report, line: int, code: str, message: str, cells: Sequence[str]) -> None:
    """Note why a row had no effect."""
    report.errors.append(
        RowError(line=line, column=None, code=code, message=message, value="|".join(cells))
    )
