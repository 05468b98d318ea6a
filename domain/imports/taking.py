"""Taking a file: its rows are kept in chunks, and its run begins."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from domain.imports.commands import ImportChunk, ImportFile, ScanSource
from domain.imports.ports import Imports
from domain.imports.rows import Reject, Row
from domain.imports.runs import Run
from domain.jobs.model import Submission
from domain.jobs.ports import JobsWork

ROWS = 5_000
"""Rows of a chunk: few enough that its locks are held for less than a second, and enough that the
way from one chunk to the next, by relay and broker, takes little of the whole."""
MOST_ROWS = 10_000
"""Rows beyond which a chunk ends even in the middle of an order."""
ATTEMPTS = 5
QUEUE = "imports"
LOOK = ":look:"
"""Parts the id of a job that looks at a source from the number of the look."""


class RunWork(JobsWork, Protocol):
    """The slice of a unit of work that taking a file, and steering its run, needs."""

    @property
    def imports(self) -> Imports: ...


def take(run: Run, rows: Iterable[Row | Reject], *, digest: str, work: RunWork) -> bool:
    """Keep the rows and begin the run; false where it is known, and nothing is done.

    `rows` is read once and never held whole.
    """
    if not work.imports.open(run, digest=digest):
        return False
    for number, chunk in enumerate(_split(rows, group=_group_of(run)), start=1):
        work.imports.add_chunk(run, number, chunk)
        run.chunks = number
        run.rows += len(chunk)
    run.end_if_empty()
    work.imports.save(run)
    go_on(run, work)
    return True


def go_on(run: Run, work: JobsWork) -> None:
    """Hand over the job of the run, which waits for its end, and that of its next chunk."""
    work.jobs.accept([(_job_of(run), QUEUE, ATTEMPTS)])
    if run.state.is_open:
        work.jobs.keep_waiting(run.job_id)
        hand_over_chunk(run, work)


def hand_over_chunk(run: Run, work: JobsWork) -> None:
    """Hand over the job that imports the next chunk."""
    job = Submission(
        job_id=run.chunk_job_id,
        kind=ImportChunk.kind,
        payload={"run_id": run.id, "number": run.next_chunk},
        correlation_id=run.id,
        parent_id=run.job_id,
    )
    work.jobs.accept([(job, QUEUE, ATTEMPTS)])


def look_again(job_id: str, source: str, work: JobsWork) -> None:
    """Hand over another look at a source, for there is more than one look may take."""
    first, _, number = job_id.rpartition(LOOK)
    job = Submission(
        job_id=f"{first}{LOOK}{int(number) + 1}" if first else f"{job_id}{LOOK}2",
        kind=ScanSource.kind,
        payload={"source": source},
        parent_id=job_id,
    )
    work.jobs.accept([(job, QUEUE, ATTEMPTS)])


def _job_of(run: Run) -> Submission:
    return Submission(
        job_id=run.job_id,
        kind=ImportFile.kind,
        payload={"run_id": run.id},
        correlation_id=run.id,
    )


@dataclass(frozen=True, slots=True)
class _ByColumn:
    place: int

    def __call__(self, row: Row | Reject) -> object:
        return row.cells[self.place].strip() if isinstance(row, Row) else row.line


def _group_of(run: Run) -> _ByColumn | None:
    place = run.plan.columns.places.get("order_id")
    return None if place is None else _ByColumn(place)


def _split(
    rows: Iterable[Row | Reject], *, group: _ByColumn | None
) -> Iterator[Sequence[Row | Reject]]:
    """Cut rows into chunks, not between neighbours of one order."""
    chunk: list[Row | Reject] = []
    groups = groupby(rows, key=group) if group else ((None, [row]) for row in rows)
    for _, members in groups:
        for row in members:
            chunk.append(row)
            if len(chunk) >= MOST_ROWS:
                yield chunk
                chunk = []
        if len(chunk) >= ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
