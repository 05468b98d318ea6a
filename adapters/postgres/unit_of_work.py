"""One transaction, and all that a job does in it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine

from adapters.payloads import Payloads
from adapters.postgres.imports import PostgresImports
from adapters.postgres.interruption import abandon_statement
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.outbox import PostgresOutbox
from adapters.postgres.persistence import is_contention, is_outage
from adapters.postgres.retention import PostgresRetention
from adapters.postgres.statements import Statements
from adapters.postgres.stock import PostgresStock
from adapters.postgres.users import PostgresUsers
from domain.errors import DomainError, StaleDecision
from domain.imports.errors import RowsBroken, SourceAway, SourceNotFound
from domain.imports.sources import Arrival, Source, Sources
from domain.jobs.executor import failure_of
from domain.jobs.model import Job
from domain.jobs.ports import Decoder
from domain.jobs.retries import Backoff
from domain.kinds import KINDS
from domain.messages import Command, Event

IMPATIENT = "SET LOCAL lock_timeout = '50ms'"


class PostgresUnitOfWork:
    """Meets `UnitOfWork` and the slices of it that each part of the domain asks for."""

    def __init__(
        self,
        connection: Connection,
        *,
        backoff: Backoff,
        decode: Decoder,
        sources: Sources,
        locks_first: bool,
        patient: bool,
        reached: Callable[[str], None],
        place: Callable[[Job], str | None],
    ) -> None:
        self._connection = connection
        self._statements = statements = Statements(connection)
        if not patient:
            statements.tell(IMPATIENT)
        self._outbox = PostgresOutbox(statements)
        self._reached = reached
        self._place = place
        self._decode = decode
        self._afterwards: list[Callable[[], None]] = []
        self.sources = sources
        self.locks_first = locks_first
        self.jobs = PostgresLedger(statements, backoff=backoff, place=place)
        self.stock = PostgresStock(statements, reached=reached)
        self.users = PostgresUsers(statements)
        self.imports = PostgresImports(statements, reached=reached)
        self.retention = PostgresRetention(statements)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                abandon_statement(self._connection)
        finally:
            # Closing rolls back what was not committed.
            self._connection.close()

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        self._outbox.record(job_id, events)

    def afterwards(self, action: Callable[[], None]) -> None:
        """Do something once all is committed; a process that dies then never does it."""
        self._afterwards.append(action)

    def decode(self, kind: str, payload: Mapping[str, Any]) -> Command:
        return self._decode(kind, payload)

    @contextmanager
    def attempt(self, *, personal: bool) -> Iterator[None]:
        """Undo what is done within, and that alone, if it fails.

        Raises:
            RowsBroken: It failed for no reason that passes by itself; what the business refuses
                is raised as it is.
        """
        self._statements.settle()
        savepoint = self._connection.begin_nested()
        stock, outbox = self.stock.pending(), self._outbox.pending()
        try:
            yield
            self._statements.settle()
        except (StaleDecision, SourceAway):
            raise
        except Exception as error:
            if is_contention(error) or is_outage(error):
                raise
            self._statements.forget()
            savepoint.rollback()
            self.stock.restore(stock)
            self._outbox.restore(outbox)
            if isinstance(error, DomainError):
                raise
            raise RowsBroken(failure_of(error, personal=personal)) from error
        savepoint.commit()

    def commit(self) -> None:
        """Write what is left, hot rows last, and commit."""
        self._outbox.flush(self.jobs.claimed, self._place)
        self.stock.flush()
        self._statements.settle()
        self._reached("commit.ready")
        self._connection.commit()
        for action in self._afterwards:
            self._reached("commit.afterwards")
            action()


class NoSources:
    """Knows no source: in a process that runs no imports nobody looks for one."""

    def find(self, name: str) -> Source:
        raise SourceNotFound(f"no source is called {name!r}: none is described here")

    def arrivals(self, source: Source) -> Iterable[Arrival]:
        raise SourceNotFound(f"no source is called {source.name!r}: none is described here")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginPostgresWork:
    """Opens units of work on one engine."""

    engine: Engine
    backoff: Backoff = field(default_factory=Backoff)
    sources: Sources = field(default_factory=NoSources)
    decode: Decoder = field(default_factory=lambda: Payloads(KINDS).decode)
    reached: Callable[[str], None] = lambda _: None
    place: Callable[[Job], str | None] = lambda job: job.traceparent
    """Says where in a trace a job is that is at work."""

    def __call__(self, *, locks_first: bool = False, patient: bool = True) -> PostgresUnitOfWork:
        return PostgresUnitOfWork(
            self.engine.connect(),
            backoff=self.backoff,
            decode=self.decode,
            sources=self.sources,
            locks_first=locks_first,
            patient=patient,
            reached=self.reached,
            place=self.place,
        )
