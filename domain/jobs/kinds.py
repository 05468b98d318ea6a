"""A job kind: its command, its handler, where it queues and how often it is tried."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.jobs.model import Request
from domain.jobs.outcomes import Answer
from domain.messages import Command

Handler = Callable[[Sequence[Request[Any]], Any], Sequence[Answer]]

UNTOLD = "…"
"""Stands in a summary for a value that is not there, or that is not of the sort it should be."""
MOST_TOLD = 64
"""Characters of a value that a summary holds."""


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
    about: str = ""
    """What its jobs are about, such as `order {order_id}, {lines}`; fields that may be personal
    do not belong here."""

    @property
    def name(self) -> str:
        return self.command.kind

    def summary(self, payload: Mapping[str, Any]) -> str:
        """Say what the job of a payload is about, which may be anything that somebody sent."""
        return self.about.format_map(_Told({name: _told(name, payload[name]) for name in payload}))


class _Told(dict[str, str]):
    def __missing__(self, field: str) -> str:
        return UNTOLD


def _told(field: str, value: object) -> str:
    match value:
        case None:
            return "none"
        case str() if value.isprintable():
            return value if len(value) <= MOST_TOLD else value[: MOST_TOLD - 1] + UNTOLD
        case int() | float():
            return str(value)
        case list() if len(value) == 1:
            return f"1 {field.removesuffix('s')}"
        case list():
            return f"{len(value)} {field}"
        case _:
            return UNTOLD
