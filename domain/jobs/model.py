"""A job: its states, what a producer submits and what the ledger holds."""

import json
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Generic, Self, TypeVar

from domain.errors import InvalidPayload
from domain.messages import Command

C = TypeVar("C", bound=Command)


class JobState(StrEnum):
    """Where a job stands; "running" is a worker's open transaction, not a state."""

    QUEUED = "queued"
    """Accepted, not yet tried or not yet failed."""
    RETRY = "retry"
    """An attempt failed; the next is due at `run_after`."""
    SUCCEEDED = "succeeded"
    """Its effect and its result are committed."""
    REJECTED = "rejected"
    """The business said no."""
    DEAD = "dead"
    """Out of attempts; an operator may retry it."""
    CANCELLED = "cancelled"
    """Withdrawn before it ran."""

    @property
    def is_terminal(self) -> bool:
        return self not in OPEN_STATES


JOB_ID_LENGTH = 255
MOST_PAYLOAD_BYTES = 256 * 1024
MOST_PRIORITY = 9
NOT_STORABLE = "not_storable"
"""Field that stands, with the reason, for a payload that the ledger cannot hold."""
OPEN_STATES = frozenset({JobState.QUEUED, JobState.RETRY})

TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
"""A place in a trace, as W3C Trace Context writes it."""
# JSON writes it `\u0000`; `\\u0000` is a backslash and five characters that do no harm.
_NULL_CHARACTER = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Door(StrEnum):
    """How a job came in."""

    CELERY = "celery"
    """A message from any Celery client."""
    LEDGER = "ledger"
    """A row written by `submit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job as its producer hands it over.

    Raises:
        InvalidPayload: An id, or a payload, that the ledger cannot hold.
    """

    job_id: str
    kind: str
    payload: Mapping[str, Any]
    priority: int = 0
    correlation_id: str | None = None
    traceparent: str | None = None
    """Where in a trace it comes from; what has not the form is left out: the job stands anyway."""
    parent_id: str | None = None
    text: str = field(init=False)
    """The payload as JSON, keys sorted."""

    def __post_init__(self) -> None:
        if not (1 <= len(self.job_id) <= JOB_ID_LENGTH and self.job_id.isprintable()):
            raise InvalidPayload(
                f"a job id is 1 to {JOB_ID_LENGTH} printable characters,"
                f" got {self.job_id[: JOB_ID_LENGTH + 1]!r}"
            )
        of = self.correlation_id
        if of is not None and not (1 <= len(of) <= JOB_ID_LENGTH and of.isprintable()):
            raise InvalidPayload(
                f"a correlation id is 1 to {JOB_ID_LENGTH} printable characters,"
                f" got {of[: JOB_ID_LENGTH + 1]!r}"
            )
        if not 0 <= self.priority <= MOST_PRIORITY:
            raise InvalidPayload(f"priority must be 0 to {MOST_PRIORITY}, got {self.priority}")
        if self.traceparent is not None and not TRACEPARENT.fullmatch(self.traceparent):
            object.__setattr__(self, "traceparent", None)
        object.__setattr__(self, "text", _storable(self.payload))

    def coming_from(self, traceparent: str | None) -> Self:
        """Return the same job, with its place in a trace."""
        twin = copy(self)
        object.__setattr__(twin, "traceparent", traceparent)
        return twin

    def payload_hash(self) -> bytes:
        """SHA-256 of kind and payload: the same job or another?"""
        return sha256(f"{self.kind}\n{self.text}".encode()).digest()


def _storable(payload: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(
            payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload is not JSON in UTF-8: {error}") from error
    if size > MOST_PAYLOAD_BYTES:
        raise InvalidPayload(
            f"the payload has {size} bytes, at most {MOST_PAYLOAD_BYTES} are taken:"
            " split the job, or import a file",
            {"bytes": size},
        )
    if "\\u0000" in text and _NULL_CHARACTER.search(text):
        raise InvalidPayload("the payload holds the character U+0000, which cannot be stored")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt, or the job, did not succeed: plain values, safe to store as JSON."""

    type: str
    module: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    traceback: str | None = None


# Not frozen: thousands are made in a second, and a frozen one takes twice as long to make.
@dataclass(slots=True, kw_only=True)
class Job:
    """One row of the ledger, which moves from state to state."""

    id: str
    kind: str
    door: Door
    payload: Mapping[str, Any]
    payload_hash: bytes
    state: JobState
    attempts: int
    max_attempts: int
    dispatches: int
    """Times the relay published it since its last recorded attempt."""
    run_after: datetime | None = None
    result: Mapping[str, Any] | None = None
    error: Failure | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    """Where in a trace it comes from."""
    failed_traceparent: str | None = None
    """Where in a trace its last attempt failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[C]):
    """One command to handle, and the job that asks for it."""

    job_id: str
    command: C


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The ledger's answer to a submission."""

    job_id: str
    state: JobState
    is_new: bool
    """False where this id was accepted before, with the same payload."""
