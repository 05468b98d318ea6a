"""Reading rows as commands, by the rules that every job of their kind must meet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.errors import DomainError
from domain.imports.reporting import Reporter, field_at_fault
from domain.imports.rows import Reject, Row
from domain.imports.runs import Plan, Report, RowEnd
from domain.imports.skips import Skips
from domain.imports.targets import IMPORTS, Target
from domain.messages import Command

Decode = Callable[[str, Mapping[str, Any]], Command]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A command, and the rows that it was made of."""

    command: Any
    rows: tuple[Row, ...]


class Reader:
    """Makes commands of rows, as a plan says; what cannot be one is reported."""

    def __init__(self, plan: Plan, decode: Decode) -> None:
        """Prepare to read.

        Raises:
            InvalidMapping: A rule names a column that the file does not have.
        """
        self._plan = plan
        self._decode = decode
        self._target = IMPORTS[Target(plan.target)]
        self._skips = Skips(plan.skips, plan.header)

    def items(self, rows: Sequence[Row | Reject], report: Report) -> list[Item]:
        """Return the commands of these rows; count in `report` the rows that are in none."""
        reporter = Reporter(plan=self._plan, report=report)
        items: list[Item] = []
        for planned in self._target.jobs(self._wanted(rows, report), self._plan.columns):
            if isinstance(planned, Reject):
                reporter.fail(
                    planned.line,
                    planned.cells,
                    planned.code,
                    planned.reason,
                    field=planned.at_fault,
                )
                continue
            try:
                command = self._decode(self._target.kind, planned.payload)
            except DomainError as error:
                for row in planned.rows:
                    reporter.fail(
                        row.line, row.cells, error.code, error.message, field=field_at_fault(error)
                    )
            else:
                items.append(Item(command=command, rows=planned.rows))
        return items

    def _wanted(self, rows: Sequence[Row | Reject], report: Report) -> Iterator[Row | Reject]:
        for row in rows:
            reason = self._skips.reason(row) if isinstance(row, Row) else None
            if reason is None:
                yield row
            else:
                report.ends[RowEnd.SKIPPED] += 1
                report.skipped[reason] += 1
