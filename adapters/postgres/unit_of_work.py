"""One transaction, and all that a job does in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from adapters.postgres.interruption import abandon_statement
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.outbox import PostgresOutbox
from adapters.postgres.retention import PostgresRetention
from adapters.postgres.stock import PostgresStock
from adapters.postgres.users import PostgresUsers
from domain.jobs.retries import Backoff
from domain.messages import Event

IMPATIENT = "SET LOCAL lock_timeout = '50ms'"


class PostgresUnitOfWork:
    """Meets `UnitOfWork` and the slices of it that each part of the domain asks for."""

    def __init__(
        self,
        connection: Connection,
        *,
        backoff: Backoff,
        locks_first: bool,
        reached: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._outbox = PostgresOutbox(connection)
        self._reached = reached
        self.locks_first = locks_first
        self.jobs = PostgresLedger(connection, backoff=backoff)
        self.stock = PostgresStock(connection, reached=reached)
        self.users = PostgresUsers(connection)
        self.retention = PostgresRetention(connection)

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

    def commit(self) -> None:
        """Write what is left, hot rows last, and commit."""
        self._outbox.flush(self.jobs.correlation_ids)
        self.stock.flush()
        self._reached("commit.ready")
        self._connection.commit()


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginPostgresWork:
    """Opens units of work on one engine."""

    engine: Engine
    backoff: Backoff = field(default_factory=Backoff)
    reached: Callable[[str], None] = lambda _: None

    def __call__(self, *, locks_first: bool = False, patient: bool = True) -> PostgresUnitOfWork:
        connection = self.engine.connect()
        if not patient:
            connection.exec_driver_sql(IMPATIENT)
        return PostgresUnitOfWork(
            connection,
            backoff=self.backoff,
            locks_first=locks_first,
            reached=self.reached,
        )
