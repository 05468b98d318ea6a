"""Parking: what becomes of messages that are no job and must not be lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

MOST_KEPT_BYTES = 1 << 20
"""Of a larger message the first part is kept; it cannot be sent again."""

MOST_LEVELS = 64
"""How deep a message may be nested: what hands it on recurses, and must not run out of stack."""


class Reason(StrEnum):
    """Why a message was parked."""

    UNREADABLE = "unreadable"
    """It is no message at all, such as bytes that somebody pushed to the queue."""
    PROTOCOL = "protocol"
    """It does not follow version 2 of Celery's task protocol."""
    CONTENT_TYPE = "content_type"
    """Its body is not JSON, such as pickle, which could run code."""
    UNDECODABLE = "undecodable"
    """Its body says JSON and is not, or is compressed in a way that is not taken."""
    OVERSIZED = "oversized"
    """Its body is larger than any job may be."""
    NESTED = "nested"
    """Its arguments lie in each other on more levels than any job may have."""
    UNKNOWN_KIND = "unknown_kind"
    """No job kind has this name, here and now: a newer worker may know it."""
    JOB_ID = "job_id"
    """Its id cannot be that of a job."""
    ARGUMENTS = "arguments"
    """It has neither a payload as keyword arguments nor a list of job ids."""
    SCHEDULE = "schedule"
    """Its `eta` or `expires` is not a time."""
    CALLBACKS = "callbacks"
    """It asks for other tasks to be called (`link`, `chain`, `chord`), which is not done."""
    UNHANDLED = "unhandled"
    """Celery could not take it, for a reason that nobody has thought of."""


class Form(StrEnum):
    """What is kept of a message."""

    MESSAGE = "message"
    """Its body, headers and properties, as JSON."""
    BYTES = "bytes"
    """The bytes themselves, which are no message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A message that is no job, as it came; its texts quote nothing of what may be personal."""

    queue: str
    reason: Reason
    detail: str
    form: Form
    content: bytes
    """What is kept, at most `MOST_KEPT_BYTES`."""
    size: int
    """Bytes that it had."""
    digest: bytes
    """The same for each copy of one message."""
    task: str | None = None
    message_id: str | None = None
    content_type: str | None = None
    job_ids: Sequence[str] = field(default=())
    """Where it asks for jobs of the ledger: which."""


class Parked(StrEnum):
    """What became of a misfit."""

    NEW = "new"
    """It is kept."""
    AGAIN = "again"
    """It is a copy of one that is kept: they are counted."""
    COUNTED = "counted"
    """There is no room: it is counted, and its content is gone."""
    LEFT = "left"
    """The ledger holds all the jobs that it asks for: nothing is lost without it."""


def is_too_deep(value: object, text: bytes | str) -> bool:
    """Tell whether the JSON value that `text` holds has more than `MOST_LEVELS`."""
    raw = text if isinstance(text, bytes) else text.encode(errors="replace")
    if raw.count(b"{") + raw.count(b"[") <= MOST_LEVELS:
        # So few brackets cannot lie in each other on more.
        return False
    layer = [value]
    for _ in range(MOST_LEVELS + 1):
        layer = [inner for outer in layer for inner in _parts(outer)]
        if not layer:
            return False
    return True


def _parts(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
