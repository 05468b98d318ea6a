"""Errors of the job ledger itself."""

from collections.abc import Iterable
from datetime import datetime
from math import ceil

from domain.errors import DomainError

UNKNOWN_WAIT_SECONDS = 60
"""To wait for a queue from which no job has finished lately."""
MOST_WAIT_SECONDS = 3_600


class IdempotencyConflict(DomainError):
    """This job id was used before, with another kind or payload."""

    @classmethod
    def of(cls, *job_ids: str) -> "IdempotencyConflict":
        return cls(
            f"job id {', '.join(job_ids)} was used before with another payload;"
            " send the original payload, or choose a new id",
            {"job_ids": list(job_ids)},
        )


class UnknownKind(DomainError):
    """No job kind has this name."""

    @classmethod
    def of(cls, kind: str, known: list[str]) -> "UnknownKind":
        return cls(f"no job kind is called {kind!r}; known: {', '.join(known)}", {"kind": kind})


class JobNotFound(DomainError):
    """The ledger has no job with this id."""

    @classmethod
    def of(cls, job_id: str) -> "JobNotFound":
        return cls(f"the ledger has no job {job_id!r}", {"job_id": job_id})


class JobNotOpen(DomainError):
    """The job is past the state in which this can be done to it."""


class QueueNotFound(DomainError):
    """No queue has this name."""

    @classmethod
    def of(cls, *names: str, known: Iterable[str]) -> "QueueNotFound":
        return cls(
            f"no queue is called {', '.join(map(repr, names))}; known: {', '.join(known)}",
            {"queues": list(names)},
        )


class QueueFull(DomainError):
    """As many jobs wait in the queue as may; nothing was accepted."""

    @classmethod
    def of(
        cls, queue: str, *, wanted: int, waiting: int, limit: int, jobs_per_second: float
    ) -> "QueueFull":
        """Say when to try again: when so many have finished, at the rate that jobs finish now."""
        seconds = UNKNOWN_WAIT_SECONDS
        if jobs_per_second > 0:
            needed = max(1, min(waiting + wanted - limit, waiting))
            seconds = max(1, min(ceil(needed / jobs_per_second), MOST_WAIT_SECONDS))
        return cls(
            f"queue {queue!r} is full: {waiting:,} of at most {limit:,} jobs wait in it"
            + (f", and {wanted:,} more do not fit" if wanted > 1 else "")
            + ("; hand over fewer at once" if wanted > limit else f"; try again in {seconds} s"),
            {
                "queue": queue,
                "waiting": waiting,
                "limit": limit,
                "retry_after_seconds": seconds,
            },
        )


class WorkerLost(Exception):
    """The worker died each time while it ran this job."""


class MessageParked(DomainError):
    """The message is no job as it is; it is kept until an operator has seen it."""

    @classmethod
    def of(cls, reason: str, detail: str) -> "MessageParked":
        return cls(
            f"the message was parked: {detail}; operators find it with `tallyman parked list`",
            {"reason": reason},
        )


class ParkedNotFound(DomainError):
    """No parked message that this can be done to has this id."""

    @classmethod
    def of(cls, message_id: int) -> "ParkedNotFound":
        return cls(
            f"no parked message has the id {message_id}, or it is closed", {"id": message_id}
        )


class NotRequeued(DomainError):
    """A parked message cannot be sent again."""

    @classmethod
    def of(cls, message_id: int, why: str) -> "NotRequeued":
        return cls(f"parked message {message_id} {why}; drop it", {"id": message_id})


class Expired(DomainError):
    """The job was to run before a time that was past when a worker took it."""

    @classmethod
    def at(cls, moment: datetime) -> "Expired":
        return cls(
            f"it was to run before {moment:%Y-%m-%d %H:%M:%S} UTC, which was past when a worker"
            " took it; submit it again under a new id if it is still wanted",
            {"expires": moment.isoformat()},
        )
