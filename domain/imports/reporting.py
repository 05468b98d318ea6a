"""Saying in a report what became of rows, with the cell at fault where one is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.errors import DomainError
from domain.imports.rows import Row
from domain.imports.runs import Plan, Report, RowEnd, RowError

SHOWN = 500
"""Characters of a value that are kept: enough to find it in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Counts the rows of a chunk that had no effect, and notes why."""

    plan: Plan
    report: Report = field(default_factory=Report)

    def refuse(self, rows: Sequence[Row], error: DomainError) -> None:
        """Count rows that the business said no to."""
        for row in rows:
            self.refuse_row(row, error.code, error.message, field=field_at_fault(error))

    def refuse_row(
        self,
        row: Row,
        code: str,
        message: str,
        *,
        field: object = None,  # the field's name in the command
    ) -> None:
        """Count a row that the business said no to."""
        self.report.ends[RowEnd.REFUSED] += 1
        self._note(row.line, row.cells, code, message, field)

    def fail(
        self, line: int, cells: Sequence[str], code: str, message: str, *, field: object = None
    ) -> None:
        """Count a row that could not be imported as it is."""
        self.report.ends[RowEnd.FAILED] += 1
        self._note(line, cells, code, message, field)

    def _note(
        self, line: int, cells: Sequence[str], code: str, message: str, field: object
    ) -> None:
        place = self.plan.columns.places.get(str(field)) if field else None
        column: str | None = None
        value: str | None = None
        if place is not None and place < len(cells):
            column, value = self.plan.header[place], cells[place]
        elif not self.plan.is_personal:
            # Of a person no more is kept than the cell that is wrong.
            value = "|".join(cells)
        self.report.errors.append(
            RowError(
                line=line,
                column=column,
                code=code,
                message=message,
                value=None if value is None else value[:SHOWN],
            )
        )


def field_at_fault(error: DomainError) -> str | None:
    """Return the field that an error is about, where it says so."""
    named = error.details.get("field")
    if isinstance(named, str):
        return named
    # What does not fit the schema says each place as `lines.0.quantity: …`.
    told = error.details.get("errors")
    if isinstance(told, list) and len(told) == 1:
        return str(told[0]).partition(":")[0].rpartition(".")[2]
    return None
