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
from domain.imports.errors import FileChanged, RowsBroken, SourceLeftAlone
from domain.imports.runs import Plan, Report, RowError, Run, RunState, run_id
from domain.imports.sources import Arrival, Source, Sources, TableOfRows
from domain.imports.taking import RunWork, look_again, take
from domain.imports.targets import Target
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


MOST_FILES = 200
"""New files that one look puts on record; where there are more, another look follows."""


@dataclass(slots=True, kw_only=True)
class _Found:
    taken: list[dict[str, str]] = field(default_factory=list)
    known: list[dict[str, str]] = field(default_factory=list)
    """Files that were imported before, whose rows are not imported again."""
    refused: list[dict[str, str]] = field(default_factory=list)
    """Files that cannot be read at all."""
    waiting: list[str] = field(default_factory=list)
    """Files that may still be written: they are looked at next time."""
    begun: int = 0
    """Files of which nothing was on record before."""


def scan_sources(requests: Sequence[Request[ScanSource]], work: ScanWork) -> list[Outcome]:
    """Take what has arrived at each source."""
    return [_scan(request, work) for request in requests]


def _scan(request: Request[ScanSource], work: ScanWork) -> Outcome:
    name = request.command.source
    found = _Found()
    try:
        source = work.sources.find(name)
        if not work.imports.may_scan(name):
            return Succeeded(result={"source": name, "left_out": "another worker looks there now"})
        for arrival in work.sources.arrivals(source):
            if found.begun == MOST_FILES:
                look_again(request.job_id, name, work)
                break
            if arrival.has_settled:
                _take(arrival, source, work, found)
            else:
                found.waiting.append(arrival.name)
    except DomainError as error:
        return Rejected(error=error)
    return Succeeded(
        result={
            "source": name,
            "taken": found.taken,
            "known": found.known,
            "refused": found.refused,
            "waiting": found.waiting,
        }
    )


def _take(arrival: Arrival, source: Source, work: ScanWork, found: _Found) -> None:
    try:
        with work.attempt(personal=source.target is Target.USERS):
            table = arrival.open()
            plan = source.plan(table.header)
            run, is_new = _begin(arrival, source, table, plan, work)
            # Only now is it known that what was read is all of one file.
            arrival.check_unchanged()
    except FileChanged:
        found.waiting.append(arrival.name)
    except SourceLeftAlone:
        raise
    except DomainError as error:
        if _has_changed(arrival):
            # As when who looked before puts it away only now: nothing can be said of it.
            found.waiting.append(arrival.name)
            return
        _refuse(arrival, source, found, work, code=error.code, message=error.message)
    except RowsBroken as broken:
        # Neither known nor passing: others are not to wait for it.
        failure = broken.failure
        _refuse(arrival, source, found, work, code=failure.type, message=failure.message)
    else:
        found.begun += is_new
        (found.taken if is_new else found.known).append({"file": arrival.name, "run": run.id})
        work.afterwards(partial(arrival.put_away, refused=False))


def _has_changed(arrival: Arrival) -> bool:
    try:
        arrival.check_unchanged()
    except FileChanged:
        return True
    return False


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


def _refuse(
    arrival: Arrival, source: Source, found: _Found, work: ScanWork, *, code: str, message: str
) -> None:
    """Put on record that a file was refused whole: it is found where imports are looked for."""
    plan = Plan(
        target=source.target, header=(), columns=Columns(places={}, constants=source.constants)
    )
    digest = sha256(f"{source.name}\n{arrival.name}\n{message}".encode()).hexdigest()
    run = Run.begin(
        id=run_id(digest=digest, plan=plan),
        plan=plan,
        file_name=arrival.name,
        source=source.name,
    )
    run.state = RunState.REFUSED
    if work.imports.open(run, digest=digest):
        found.begun += 1
        work.imports.save(run)
        report = Report(errors=[RowError(line=0, column=None, code=code, message=message)])
        work.imports.report(run, 0, report, job_id=run.id)
    found.refused.append({"file": arrival.name, "code": code, "message": message})
    work.afterwards(partial(arrival.put_away, refused=True))
