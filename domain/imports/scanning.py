"""Looking at a source: what has arrived there becomes runs."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Protocol

from domain.errors import DomainError
from domain.imports.columns import Columns
from domain.imports.commands import ScanSource
from domain.imports.errors import FileChanged
from domain.imports.runs import Plan, Report, RowError, Run, RunState, run_id
from domain.imports.sources import Arrival, Source, Sources, TableOfRows
from domain.imports.taking import RunWork, take
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Rejected, Succeeded


class ScanWork(RunWork, Protocol):
    """The slice of a unit of work that looking at a source needs."""

    @property
    def sources(self) -> Sources: ...

    def attempt(self, *, personal: bool) -> AbstractContextManager[None]:
        """Undo what is done within, and that alone, if it fails."""

    def afterwards(self, action: Callable[[], None]) -> None:
        """Do something once all is committed; it may fail, and never be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    taken: list[dict[str, str]] = field(default_factory=list)
    known: list[dict[str, str]] = field(default_factory=list)
    """Files that were imported before, whose rows are not imported again."""
    refused: list[dict[str, str]] = field(default_factory=list)
    """Files that cannot be read at all."""
    waiting: list[str] = field(default_factory=list)
    """Files that may still be written: they are looked at next time."""


def scan_sources(requests: Sequence[Request[ScanSource]], work: ScanWork) -> list[Outcome]:
    """Take what has arrived at each source."""
    return [_scan(request, work) for request in requests]


def _scan(request: Request[ScanSource], work: ScanWork) -> Outcome:
    found = _Found()
    try:
        source = work.sources.find(request.command.source)
        for arrival in work.sources.arrivals(source):
            if arrival.has_settled:
                _take(arrival, source, work, found)
            else:
                found.waiting.append(arrival.name)
    except DomainError as error:
        return Rejected(error=error)
    return Succeeded(
        result={
            "source": source.name,
            "taken": found.taken,
            "known": found.known,
            "refused": found.refused,
            "waiting": found.waiting,
        }
    )


def _take(arrival: Arrival, source: Source, work: ScanWork, found: _Found) -> None:
    try:
        with work.attempt(personal=True):
            table = arrival.open()
            plan = source.plan(table.header)
            run, is_new = _begin(arrival, source, table, plan, work)
            # Only now is it known that what was read is all of one file.
            arrival.check_unchanged()
    except FileChanged:
        found.waiting.append(arrival.name)
    except DomainError as error:
        _refuse(arrival, source, error, work)
        found.refused.append({"file": arrival.name, "code": error.code, "message": error.message})
        work.afterwards(partial(arrival.put_away, refused=True))
    else:
        (found.taken if is_new else found.known).append({"file": arrival.name, "run": run.id})
        work.afterwards(partial(arrival.put_away, refused=False))


def _begin(
    arrival: Arrival, source: Source, table: TableOfRows, plan: Plan, work: ScanWork
) -> tuple[Run, bool]:
    run = Run.begin(
        id=run_id(digest=table.digest, plan=plan),
        plan=plan,
        file_name=arrival.name,
        source=source.name,
    )
    return run, take(run, table.rows(), digest=table.digest, work=work)


def _refuse(arrival: Arrival, source: Source, error: DomainError, work: ScanWork) -> None:
    """Put on record that a file was refused whole: it is found where imports are looked for."""
    plan = Plan(
        target=source.target, header=(), columns=Columns(places={}, constants=source.constants)
    )
    digest = sha256(f"{source.name}\n{arrival.name}\n{error.message}".encode()).hexdigest()
    run = Run.begin(
        id=run_id(digest=digest, plan=plan),
        plan=plan,
        file_name=arrival.name,
        source=source.name,
    )
    run.state = RunState.REFUSED
    if work.imports.open(run, digest=digest):
        work.imports.save(run)
        report = Report(
            errors=[RowError(line=0, column=None, code=error.code, message=error.message)]
        )
        work.imports.report(run, 0, report, job_id=run.id)
