"""A job kind: its command, its handler, where it queues and how often it is tried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from domain.jobs.model import Request
from domain.jobs.outcomes import Answer
from domain.messages import Command

Handler = Callable[[Sequence[Request[Any]], Any], Sequence[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """What the system knows of one kind of job.

    The handler takes requests of this kind and the unit of work and returns one outcome for
    each request, in order, as if they had run one after the other.
    """

    command: type[Command]
    handler: Handler
    queue: str
    max_attempts: int = 5
    personal: bool = False
    """Its payloads are of people: not shown, and not kept where they were refused."""

    @property
    def name(self) -> str:
        return self.command.kind
