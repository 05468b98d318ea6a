"""The account of an import: every row that was read is in a job or in the report."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from domain.imports.rows import ImportJob, Reject, Row


@dataclass(slots=True, kw_only=True)
class Reported:
    """Rows that were reported with one code."""

    code: str
    rows: int = 0
    first_line: int
    reason: str
    """Why, in the words of the first."""


@dataclass(slots=True, kw_only=True)
class Account:
    """Counts rows where they are read and, apart from that, where they end up."""

    rows_read: int = 0
    rows_in_jobs: int = 0
    rows_reported: int = 0
    long_rows: int = 0
    """Rows of several lines: few files mean that, many have an unclosed quote."""
    reported: dict[str, Reported] = field(default_factory=dict)
    """By code."""

    @property
    def balances(self) -> bool:
        return self.rows_read == self.rows_in_jobs + self.rows_reported

    def reading(self, rows: Iterable[Row | Reject]) -> Iterator[Row | Reject]:
        """Count rows as they are read."""
        for row in rows:
            self.rows_read += 1
            if isinstance(row, Row) and row.span > 1:
                self.long_rows += 1
            yield row

    def enter(self, job: ImportJob) -> None:
        """Count the rows of a job."""
        self.rows_in_jobs += len(job.rows)

    def report(self, reject: Reject) -> None:
        """Count a row that is in no job."""
        self.rows_reported += 1
        entry = self.reported.setdefault(
            reject.code,
            Reported(code=reject.code, first_line=reject.line, reason=reject.reason),
        )
        entry.rows += 1
