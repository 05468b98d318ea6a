"""Errors of the job ledger itself."""

from domain.errors import DomainError


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


class WorkerLost(Exception):
    """The worker died each time while it ran this job."""
