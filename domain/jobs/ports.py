"""What the executor and the services of jobs need from outside."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from domain.jobs.model import Failure, Job, Receipt, Submission
from domain.jobs.outcomes import Outcome
from domain.messages import Command, Event

T = TypeVar("T")


class Jobs(Protocol):
    """The ledger, within one transaction."""

    def accept(self, submissions: Sequence[tuple[Submission, str, int]]) -> list[Receipt]:
        """Write (submission, queue, max_attempts) rows; a known id is answered, not written.

        Raises:
            IdempotencyConflict: An id is known with another payload; nothing is written.
        """

    def keep_waiting(self, job_id: str) -> None:
        """Keep a job from being dispatched until it is made due."""

    def make_due(self, job_id: str) -> None:
        """Let a job that was kept waiting be dispatched; another stays as it is."""

    def cancel(self, job_id: str) -> None:
        """Withdraw a job that is open; one that is not stays as it is."""

    def claim(self, job_ids: Sequence[str], *, wait: bool) -> list[Job]:
        """Lock and return these jobs in id order; without `wait`, leave out those locked."""

    def claim_submitted(self, submission: Submission, *, queue: str, max_attempts: int) -> Job:
        """Lock the job of a message that carries its payload; write its row if there is none.

        Raises:
            IdempotencyConflict: The id is known with another payload.
        """

    def claim_new(
        self, submissions: Sequence[Submission], *, queue: str, max_attempts: int
    ) -> list[Job]:
        """Write and lock the rows of jobs that messages carry; leave out those that are known."""

    def put_off(
        self,
        submission: Submission,
        *,
        queue: str,
        max_attempts: int,
        run_after: datetime | None,
        cancelled: Failure | None,
    ) -> Job:
        """Write the row of a job that a message carries and that does not run now.

        It is due at `run_after`, or `cancelled` for that reason; a known one stays as it is.

        Raises:
            IdempotencyConflict: The id is known with another payload.
        """

    def release(self, job_ids: Sequence[str], *, queue: str, suspected: bool) -> None:
        """Leave open jobs, which are locked, to the relay of `queue`: due as they first were.

        It is as if they had not been dispatched, unless they are `suspected`.
        """

    def begin_attempt(self, job: Job, *, lost: Failure) -> Job:
        """Count an attempt before it runs; past the limit the job is dead with `lost`."""

    def take_back_attempt(self, job: Job) -> None:
        """Count one attempt less: what was counted before it ran could not be made."""

    def finish(self, outcomes: Sequence[tuple[Job, Outcome]], *, counted: bool) -> None:
        """Record final outcomes; `counted` where the attempt was counted before it ran."""

    def fail(self, job: Job, failure: Failure, *, worker: str, counted: bool, spare: bool) -> Job:
        """Record a failed attempt: back to `retry` with a jittered delay, or `dead`.

        Where it is to `spare` the job, the last attempt is left to it.
        """


class JobsWork(Protocol):
    """The slice of a unit of work that jobs need."""

    @property
    def jobs(self) -> Jobs: ...

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        """Write events to the outbox, as caused by this job."""


class UnitOfWork(JobsWork, Protocol):
    """One transaction: all of it is committed, or none."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def commit(self) -> None: ...


class BeginWork(Protocol):
    """Open a unit of work; one that is not `patient` hardly waits for what others hold."""

    def __call__(self, *, locks_first: bool = False, patient: bool = True) -> UnitOfWork: ...


class Decoder(Protocol):
    """Turn a payload into its command.

    Raises:
        InvalidPayload: It does not fit the schema.
        DomainError: A value in it is not one that the business can take.
    """

    def __call__(self, kind: str, payload: Mapping[str, Any]) -> Command: ...


class Persistence(Protocol):
    """Run a transaction again while it fails for reasons that pass within a second or two.

    Where it is not `patient`, what others hold is taken for such a reason no more.

    Raises:
        Unavailable: What it needs is still away after the last try.
        Contended: Others still hold what it needs.
    """

    def __call__(self, transaction: Callable[[], T], *, patient: bool = True) -> T: ...
