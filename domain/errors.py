"""What the business says no with, and what tells the executor to decide again."""

from collections.abc import Mapping
from typing import Any


class DomainError(Exception):
    """The business refuses: recorded as the job's outcome, never retried.

    `args` is `(message, details)`, both plain JSON values, so the error survives a journey
    through any result backend and is raised at the producer as what it was.
    """

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        super().__init__(message, self.details)

    def __str__(self) -> str:
        return self.message

    @property
    def code(self) -> str:
        return type(self).__name__


class InvalidPayload(DomainError):
    """The payload does not fit the schema of its job kind."""


class StaleDecision(Exception):
    """A guarded write missed: the world moved between the decision and its writes."""


class Unavailable(Exception):
    """Something that every job needs is away; nothing was decided and no attempt counts."""


class OutOfRoom(Unavailable):
    """The database answers and has no room to write."""


class Interrupted(Unavailable):
    """The worker stops before the job is done; it is told so, and another runs the job."""


class Contended(Exception):
    """What a job needs is in other hands, and was for as long as one waits for it."""
