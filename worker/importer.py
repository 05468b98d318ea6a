"""Taking files: a file becomes a run, by one commit, in whatever process holds it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from adapters.files.tables import Table
from adapters.postgres.persistence import Persistently
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.imports.reading import Decode, Reader
from domain.imports.rows import Reject, Row
from domain.imports.runs import Plan, Report, RowEnd, RowError, Run, run_id
from domain.imports.taking import ROWS, take

Progressed = Callable[[int], None]
"""Told the number of rows read so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A file that is on record now, or was before."""

    run_id: str
    rows: int
    is_new: bool


def take_file(
    table: Table,
    plan: Plan,
    *,
    begin_work: BeginPostgresWork,
    label: str = "",
    source: str | None = None,
    progressed: Progressed = lambda _: None,
) -> Taken:
    """Keep a file's rows in the database, and begin to import them.

    Raises:
        InvalidMapping: A rule of the plan names a column that the file does not have.
        Unavailable: PostgreSQL is away; nothing was taken.
    """
    Reader(plan, begin_work.decode)

    def transaction() -> Taken:
        run = Run.begin(
            id=run_id(digest=table.digest, plan=plan, label=label),
            plan=plan,
            file_name=table.name,
            source=source,
        )
        with begin_work() as work:
            rows = _told(table.rows(), progressed)
            is_new = take(run, rows, digest=table.digest, work=work)
            work.commit()
        return Taken(run_id=run.id, rows=run.rows, is_new=is_new)

    return Persistently()(transaction)


def check_file(
    table: Table,
    plan: Plan,
    *,
    decode: Decode,
    rejected: Callable[[RowError], None] = lambda _: None,
    progressed: Progressed = lambda _: None,
) -> Report:
    """Look at every row, as a run does, without a server; its errors are told, not returned."""
    reader = Reader(plan, decode)
    whole = Report()
    rows = _told(table.rows(), progressed)
    while chunk := list(islice(rows, ROWS)):
        report = Report()
        items = reader.items(chunk, report)
        report.ends[RowEnd.UNCHANGED] += sum(len(item.rows) for item in items)
        for error in report.errors:
            rejected(error)
        # Told, they need not be kept: a file may be all errors.
        report.errors.clear()
        whole.absorb(report)
    return whole


def _told(rows: Iterator[Row | Reject], progressed: Progressed) -> Iterator[Row | Reject]:
    for number, row in enumerate(rows, start=1):
        if not number % ROWS:
            progressed(number)
        yield row
