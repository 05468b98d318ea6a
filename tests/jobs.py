"""Builders for tests of jobs: an executor on a real database, and a kind that does as told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sqlalchemy import Engine

from adapters.payloads import Payloads
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries, JobView
from adapters.postgres.unit_of_work import BeginPostgresWork, PostgresUnitOfWork
from domain.errors import DomainError
from domain.jobs.executor import Executor
from domain.jobs.kinds import JobKind
from domain.jobs.model import Request, Submission
from domain.jobs.outcomes import Outcome, Rejected, Succeeded
from domain.jobs.retries import Backoff
from domain.messages import Command


class Refused(DomainError):
    """The test's business says no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Command):
    """Do as the payload says."""

    kind: ClassVar[str] = "test.probe"

    does: str = "succeed"
    """`succeed` or `refuse`; anything else is looked up in the script."""


@dataclass(kw_only=True)
class Script:
    """What handlers of `test.probe` do, and which batches they saw."""

    acts: dict[str, Callable[[PostgresUnitOfWork], None]] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)

    def handle(
        self, requests: Sequence[Request[Probe]], work: PostgresUnitOfWork
    ) -> Sequence[Outcome]:
        self.batches.append([request.job_id for request in requests])
        return [self._outcome(request, work) for request in requests]

    def _outcome(self, request: Request[Probe], work: PostgresUnitOfWork) -> Outcome:
        match request.command.does:
            case "succeed":
                return Succeeded(result={"job": request.job_id})
            case "refuse":
                return Rejected(error=Refused("no", {"why": "asked to"}))
            case other:
                self.acts[other](work)
                return Succeeded(result={"did": other})


def probe_kinds(
    script: Script, *, max_attempts: int = 3, personal: bool = False
) -> Mapping[str, JobKind]:
    """Return the one kind `test.probe`, as `script` handles it."""
    kind = JobKind(
        command=Probe,
        handler=script.handle,
        queue="users" if personal else "allocation",
        max_attempts=max_attempts,
        personal=personal,
    )
    return {kind.name: kind}


def build_executor(
    engine: Engine,
    kinds: Mapping[str, JobKind],
    *,
    reached: Callable[[str], None] = lambda _: None,
) -> Executor:
    """Build an executor as a worker does, with short waits."""
    return Executor(
        kinds=kinds,
        begin_work=BeginPostgresWork(
            engine=engine,
            backoff=Backoff(base_seconds=0.001, cap_seconds=0.01),
            reached=reached,
        ),
        decode=Payloads(kinds).decode,
        persistently=Persistently(),
        worker="test:1",
        reached=reached,
    )


def submission(job_id: str, does: str = "succeed") -> Submission:
    """Build a job of kind `test.probe`."""
    return Submission(job_id=job_id, kind=Probe.kind, payload={"does": does}, correlation_id="test")


def accept(engine: Engine, *submissions: Submission, max_attempts: int = 3) -> None:
    """Write jobs to the ledger as `submit` does."""
    with BeginPostgresWork(engine=engine)() as work:
        work.jobs.accept([(each, "allocation", max_attempts) for each in submissions])
        work.commit()


def find(engine: Engine, job_id: str) -> JobView:
    """Read a job that must be there."""
    job = JobQueries(engine).find(job_id)
    assert job is not None
    return job
