"""Door (b): jobs accepted by one commit in PostgreSQL, with or without a broker."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from uuid6 import uuid7

from adapters.payloads import Payloads
from adapters.postgres.engine import create
from adapters.postgres.persistence import Persistently
from adapters.postgres.queries import JobQueries, JobView
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.model import Receipt, Submission
from domain.kinds import KINDS
from worker.queue_room import MOST_WAITING, QueueRoom
from worker.tracing import switch
from worker.tracing.untraced import Untraced

CHUNK = 5_000
"""Jobs accepted in one transaction by `submit_many`."""


class Producer:
    """Hands jobs to Tallyman: once a method returns, they are accepted and cannot be lost."""

    def __init__(
        self,
        *,
        begin_work: BeginPostgresWork,
        queries: JobQueries,
        most_waiting: int = MOST_WAITING,
        traces: Callable[[], Untraced] = switch.found,
    ) -> None:
        self._begin_work = begin_work
        self._traces = traces
        self._queries = queries
        self._persistently = Persistently()
        self._payloads = Payloads(KINDS)
        self._room = QueueRoom(PostgresQueueGauges(begin_work.engine), most_waiting=most_waiting)

    @classmethod
    def at(cls, database_url: str, *, most_waiting: int = MOST_WAITING) -> "Producer":
        """Connect to the database at this URL (`postgresql+psycopg://…`).

        Jobs are refused once `most_waiting` wait in their queue, or as many as operators have set.
        """
        engine = create(database_url, application="tallyman producer", pool_size=4)
        return cls(
            begin_work=BeginPostgresWork(engine=engine),
            queries=JobQueries(engine),
            most_waiting=most_waiting,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the producer opens new ones if it is used again."""
        self._begin_work.engine.dispose()

    def submit(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        job_id: str | None = None,
        priority: int = 0,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Receipt:
        """Accept one job; the same `job_id` with the same payload again is answered, not run.

        Raises:
            InvalidPayload: The payload does not fit the schema of `kind`.
            DomainError: A value in it is one that the business can never take.
            UnknownKind: No job kind is called `kind`.
            IdempotencyConflict: `job_id` was used before with another payload.
            QueueFull: Too many jobs wait; its details say when to try again.
            Unavailable: PostgreSQL cannot be reached, or its answer was lost. The job may have been
                accepted all the same: submit it again under its `job_id`, which does no harm.
        """
        [receipt] = self._accept(
            [
                self.submission(
                    kind,
                    payload,
                    job_id=job_id,
                    priority=priority,
                    correlation_id=correlation_id,
                    traceparent=traceparent,
                )
            ]
        )
        return receipt

    def submission(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        job_id: str | None = None,
        priority: int = 0,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Submission:
        """Check a job without handing it over; raises as `submit` does."""
        job_id = job_id or str(uuid7())
        submission = Submission(
            job_id=job_id,
            kind=kind,
            payload=payload,
            priority=priority,
            correlation_id=correlation_id or job_id,
            traceparent=traceparent,
        )
        self._payloads.decode(kind, payload)
        return submission

    def submit_many(self, submissions: Iterable[Submission]) -> list[Receipt]:
        """Accept jobs, 5,000 to a transaction, each of which is accepted or refused whole.

        Raises as `submit` does. What was accepted before a chunk was refused stays accepted: hand
        in all of it again, under the same ids.
        """
        receipts: list[Receipt] = []
        chunk: list[Submission] = []
        for submission in submissions:
            chunk.append(submission)
            if len(chunk) == CHUNK:
                receipts += self._accept(chunk)
                chunk = []
        if chunk:
            receipts += self._accept(chunk)
        return receipts

    def find(self, job_id: str) -> JobView | None:
        """Return how a job stands, or None where the ledger does not know it."""
        return self._queries.find(job_id)

    def _accept(self, submissions: Sequence[Submission]) -> list[Receipt]:
        rows = [
            (submission, kind.queue, kind.max_attempts)
            for submission in submissions
            for kind in (self._payloads.kind(submission.kind),)
        ]

        def transaction() -> list[Receipt]:
            with self._begin_work() as work:
                receipts = work.jobs.accept(rows)
                work.commit()
            return receipts

        self._persistently(lambda: self._check_room(rows))
        with self._traces().submitting(submissions, queues=[queue for _, queue, _ in rows]) as told:
            rows = [
                (each, queue, attempts)
                for each, (_, queue, attempts) in zip(told, rows, strict=True)
            ]
            receipts = self._persistently(transaction)
        self._room.note(
            Counter(
                queue
                for (_, queue, _), receipt in zip(rows, receipts, strict=True)
                if receipt.is_new
            )
        )
        return receipts

    def _check_room(self, rows: Sequence[tuple[Submission, str, int]]) -> None:
        if self._room.refusal(Counter(queue for _, queue, _ in rows)) is None:
            return
        # What was accepted before is answered, however full the queue.
        known = self._queries.known([submission.job_id for submission, _, _ in rows])
        new = Counter(queue for submission, queue, _ in rows if submission.job_id not in known)
        if full := self._room.refusal(new):
            raise full
