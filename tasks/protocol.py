"""What a message must be to be taken for a job: Celery's task protocol 2, and no more of it.

Celery believes what a message says. What reaches it from here is what was checked; the rest of
a message is taken off.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

from kombu import Message

from domain.jobs.dispatching import ABOUT
from domain.jobs.model import JOB_ID_LENGTH
from domain.jobs.parking import MOST_LEVELS, Reason, is_too_deep
from domain.jobs.queues import CORRELATION, PACED

MOST_BODY_BYTES = 1 << 20
"""More than a payload may have, so that one somewhat too large is refused on record."""
MOST_IDS = 1_000
MOST_ABOUT = 500
"""Characters of what a message says that its job is about."""
HIDDEN = "…"
SCHEDULE = "tallyman_schedule"
"""Header that holds the times of a message, where Celery does not act on them itself."""

_CONTENT_TYPE = "application/json"
_ENCODINGS = frozenset({None, "", "utf-8", "us-ascii", "ascii", "binary"})
_PARTS = 3
_CALLBACKS = ("callbacks", "errbacks", "chain", "chord")
_ORIGIN = ("root_id", "parent_id", "group", "origin", "traceparent", "tracestate")


class Unfit(Exception):
    """A message is no job; the text says why and quotes nothing of it."""

    def __init__(
        self, reason: Reason, detail: str, *, job_ids: tuple[str, ...] | None = None
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.job_ids = job_ids or ()
        super().__init__(reason, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a producer wants its job to run."""

    eta: datetime | None = field(default=None)
    """Not before this."""
    expires: datetime | None = field(default=None)
    """Not after this."""

    @classmethod
    def of(cls, headers: Mapping[str, Any] | None) -> "Schedule":
        """Read it from what `admit` has made of a message's headers."""
        texts = (headers or {}).get(SCHEDULE) or {}
        return cls(**{name: datetime.fromisoformat(text) for name, text in texts.items()})


def is_id(value: object) -> bool:
    """Tell whether `value` can be the id of a job, or of what caused one."""
    return isinstance(value, str) and 1 <= len(value) <= JOB_ID_LENGTH and value.isprintable()


def admit(message: Message, kinds: Container[str]) -> None:
    """Leave on a message what Celery may act on.

    Raises:
        Unfit: It is no job of these kinds.
    """
    headers = message.headers
    if not isinstance(headers, dict):
        raise Unfit(Reason.PROTOCOL, "its headers are not an object")
    task = headers.get("task")
    if not isinstance(task, str):
        raise Unfit(
            Reason.PROTOCOL,
            "its headers name no task: they do in version 2 of Celery's task protocol",
        )
    arguments, payload, embed = _parts(message)
    _check_callbacks(headers, embed)
    try:
        job_ids = _job_ids(arguments, payload)
    except Unfit:
        # Who knows what a kind takes that is not known here.
        if task in kinds:
            raise
        job_ids = ()
    if task not in kinds:
        raise Unfit(Reason.UNKNOWN_KIND, "no job kind has this name", job_ids=job_ids)
    message_id = headers.get("id")
    if not isinstance(message_id, str):
        raise Unfit(Reason.PROTOCOL, "its headers give it no id")
    if not is_id(message_id):
        raise Unfit(Reason.JOB_ID, f"a job id is 1 to {JOB_ID_LENGTH} printable characters")
    times = {name: time for name in ("eta", "expires") if (time := _time(headers, name))}
    properties = message.properties
    # Celery's own is the job's id, whatever its clients would rather say.
    origins = (headers.get(CORRELATION), properties.get("correlation_id"))
    message.properties = {
        "correlation_id": next(filter(is_id, origins), None),
        "priority": properties.get("priority"),
    }
    message.headers = {
        "task": task,
        "id": message_id,
        "ignore_result": headers.get("ignore_result") is True,
        # What may be shown of a payload depends on its kind.
        "argsrepr": _shown_ids(job_ids, about=headers.get(ABOUT)),
        "kwargsrepr": HIDDEN,
        **{name: headers[name] for name in _ORIGIN if is_id(headers.get(name))},
        **({SCHEDULE: times} if times and not job_ids else {}),
        **({PACED: headers[PACED]} if job_ids and _is_pace(headers.get(PACED)) else {}),
    }


def _parts(message: Message) -> tuple[Any, Any, Any]:
    if message.content_type != _CONTENT_TYPE:
        raise Unfit(Reason.CONTENT_TYPE, f"its content type is not {_CONTENT_TYPE}")
    encoding = message.content_encoding
    if not (encoding is None or isinstance(encoding, str)) or encoding not in _ENCODINGS:
        raise Unfit(Reason.UNDECODABLE, "its content encoding is not utf-8")
    size = len(message.body or b"")
    if size > MOST_BODY_BYTES:
        raise Unfit(
            Reason.OVERSIZED, f"its body has {size} bytes, at most {MOST_BODY_BYTES} are taken"
        )
    try:
        parts = message.payload
    except Exception as error:  # noqa: BLE001  whatever ails it, it is no JSON
        raise Unfit(
            Reason.UNDECODABLE, f"its body is not the JSON it says: {type(error).__name__}"
        ) from None
    if not isinstance(parts, list) or len(parts) != _PARTS:
        raise Unfit(Reason.PROTOCOL, "its body is not a list of arguments, payload and options")
    if is_too_deep(parts, message.body):
        raise Unfit(Reason.NESTED, f"its arguments go deeper than {MOST_LEVELS} levels")
    return parts[0], parts[1], parts[2]


def _is_pace(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


def _check_callbacks(headers: Mapping[str, Any], embed: object) -> None:
    if embed is not None and not (isinstance(embed, dict) and embed.keys() <= {*_CALLBACKS}):
        raise Unfit(Reason.PROTOCOL, "the third part of its body is not an object of callbacks")
    for name in _CALLBACKS:
        if headers.get(name) or (embed or {}).get(name):
            raise Unfit(
                Reason.CALLBACKS,
                f"it has {name} (from link, link_error, chain or chord), and no job calls another"
                " task: listen to the events, or send the next job when this one is done",
            )


def _job_ids(arguments: object, payload: object) -> tuple[str, ...]:
    if not isinstance(arguments, list) or not isinstance(payload, dict):
        raise Unfit(
            Reason.ARGUMENTS, "its arguments are not a list, or its keyword arguments no object"
        )
    if not arguments:
        return ()
    ids = arguments[0]
    if len(arguments) > 1 or payload or not isinstance(ids, list) or not all(map(is_id, ids)):
        raise Unfit(
            Reason.ARGUMENTS, "the payload of a job is its keyword arguments, and no others"
        )
    if not 1 <= len(ids) <= MOST_IDS:
        raise Unfit(Reason.ARGUMENTS, f"it asks for {len(ids)} jobs, and 1 to {MOST_IDS} are taken")
    return tuple(ids)


def _shown_ids(job_ids: tuple[str, ...], *, about: object) -> str:
    match job_ids:
        case ():
            return HIDDEN
        case (job_id,):
            is_told = isinstance(about, str) and about.isprintable() and len(about) <= MOST_ABOUT
            return str(about) if about and is_told else f"job {job_id}"
        case _:
            return f"{len(job_ids)} jobs, first {job_ids[0]}"


def _time(headers: Mapping[str, Any], name: str) -> str | None:
    text = headers.get(name)
    if text is None or text == "":
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return time.astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        raise Unfit(Reason.SCHEDULE, f"its {name} is not a time in the form of ISO 8601") from None
