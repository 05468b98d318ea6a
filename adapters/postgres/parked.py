"""Parked messages: kept for an operator, counted where they repeat, bounded in all."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row

from adapters.postgres.roles import may_read
from domain.jobs.parking import Form, Misfit, Parked, Reason

LOOK_SECONDS = 5.0
"""How often it is asked how much room the parked messages take."""
ROW_BYTES = 1_024
"""What a row takes beside its content, about."""

_TAKEN = f"""
SELECT coalesce(sum(octet_length(content)), 0) + {ROW_BYTES} * count(*) AS bytes
FROM parked_message WHERE closed_at IS NULL"""

_PARK = """
INSERT INTO parked_message (queue, reason, detail, task, message_id, content_type, form, content,
                            size, digest)
VALUES (%(queue)s, %(reason)s, %(detail)s, %(task)s, %(message_id)s, %(content_type)s, %(form)s,
        %(content)s, %(size)s, %(digest)s)
ON CONFLICT (digest) WHERE closed_at IS NULL
DO UPDATE SET copies = parked_message.copies + 1, last_parked_at = now()
RETURNING id, copies"""

_KNOWN = "SELECT count(*) FROM job WHERE id = ANY(%(ids)s)"

_COLUMNS = """id, queue, reason, detail, task, message_id, content_type, form, size, copies,
    parked_at, last_parked_at, closed_as, closed_at, {kept} AS kept"""

_KEPT = "octet_length(content)"

_FITTING = """
(%(closed)s OR closed_at IS NULL)
AND (%(reason)s::text IS NULL OR reason = %(reason)s)
AND (%(queue)s::text IS NULL OR queue = %(queue)s)"""

_CLOSE = """
UPDATE parked_message
SET closed_as = %(closed_as)s, closed_at = now(), content = NULL
WHERE id = %(id)s"""

_DROP = """
UPDATE parked_message SET closed_as = 'dropped', closed_at = now(), content = NULL
WHERE id = ANY(%(ids)s) AND closed_at IS NULL
RETURNING id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedView:
    """A parked message, without its content."""

    id: int
    queue: str
    reason: Reason
    detail: str
    task: str | None
    message_id: str | None
    content_type: str | None
    form: Form
    size: int
    kept: int | None
    """Bytes of its content that are there; None where there was no room, or it is closed, or the
    login may not look."""
    copies: int
    parked_at: datetime
    last_parked_at: datetime
    closed_as: str | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedCount:
    """Open messages of one reason."""

    reason: Reason
    messages: int
    copies: int


class PostgresParked:
    """Keeps what is no job; each call is a transaction of its own."""

    def __init__(
        self, engine: Engine, *, most_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._most_bytes = most_bytes
        self._clock = clock
        self._taken = 0
        self._look_at = 0.0

    def park(self, misfit: Misfit) -> Parked:
        """Keep a message; where it is here already, or there is no room, count it."""
        with self._engine.begin() as connection:
            if misfit.job_ids and self._knows(connection, misfit.job_ids):
                return Parked.LEFT
            has_room = self._has_room(connection)
            row = connection.exec_driver_sql(
                _PARK, _row(misfit) if has_room else _count(misfit)
            ).one()
        if not has_room:
            return Parked.COUNTED
        if row.copies > 1:
            return Parked.AGAIN
        self._taken += ROW_BYTES + len(misfit.content)
        return Parked.NEW

    def is_of_a_job(self, message_id: str) -> bool:
        """Tell whether the ledger has a job by this id."""
        if not message_id.isprintable():
            return False
        with self._engine.connect() as connection:
            return self._knows(connection, [message_id])

    def _knows(self, connection: Connection, job_ids: Sequence[str]) -> bool:
        asked = set(job_ids)
        found = connection.exec_driver_sql(_KNOWN, {"ids": list(asked)}).scalar_one()
        return bool(found == len(asked))

    def _has_room(self, connection: Connection) -> bool:
        if self._clock() >= self._look_at:
            self._taken = int(connection.exec_driver_sql(_TAKEN).scalar_one())
            self._look_at = self._clock() + LOOK_SECONDS
        return self._taken < self._most_bytes


class ParkedMessages:
    """What operators ask of parked messages, and do to them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest(
        self,
        *,
        reason: Reason | None = None,
        queue: str | None = None,
        closed: bool = False,
        limit: int = 50,
    ) -> list[ParkedView]:
        """Return the messages that fit, the newest first; `closed` ones as well where asked."""
        rows = self._read(
            f"SELECT {self._columns()} FROM parked_message WHERE {_FITTING}"
            " ORDER BY id DESC LIMIT %(limit)s",
            **_filters(reason, queue, closed=closed),
            limit=limit,
        )
        return [_view(row) for row in rows]

    def open_ids(self, *, reason: Reason | None = None, queue: str | None = None) -> list[int]:
        """Return the ids of open messages that fit, the oldest first."""
        rows = self._read(
            f"SELECT id FROM parked_message WHERE {_FITTING} ORDER BY id",
            **_filters(reason, queue, closed=False),
        )
        return [row.id for row in rows]

    def counts(self) -> list[ParkedCount]:
        """Count the open messages by reason."""
        rows = self._read(
            "SELECT reason, count(*) AS messages, sum(copies) AS copies FROM parked_message"
            " WHERE closed_at IS NULL GROUP BY reason ORDER BY reason"
        )
        return [
            ParkedCount(reason=Reason(row.reason), messages=row.messages, copies=int(row.copies))
            for row in rows
        ]

    def find(self, message_id: int) -> tuple[ParkedView, bytes | None] | None:
        """Return a message with its content."""
        rows = self._read(
            f"SELECT {self._columns()}, {self._content()} AS content FROM parked_message"
            " WHERE id = %(id)s",
            id=message_id,
        )
        return (_view(rows[0]), rows[0].content) if rows else None

    @contextmanager
    def requeuing(self, message_id: int) -> Iterator[tuple[ParkedView, bytes | None] | None]:
        """Hold a message, so that nobody else sends it, and close it unless an error is raised."""
        with self._engine.begin() as connection:
            row = connection.exec_driver_sql(
                f"SELECT {_COLUMNS.format(kept=_KEPT)}, content FROM parked_message"
                " WHERE id = %(id)s AND closed_at IS NULL FOR UPDATE",
                {"id": message_id},
            ).one_or_none()
            yield (_view(row), row.content) if row else None
            if row:
                connection.exec_driver_sql(_CLOSE, {"id": message_id, "closed_as": "requeued"})

    def drop(self, message_ids: Sequence[int]) -> list[int]:
        """Forget the content of open messages; return the ids of those that were open."""
        with self._engine.begin() as connection:
            rows = connection.exec_driver_sql(_DROP, {"ids": list(message_ids)})
            return sorted(rows.scalars())

    @property
    def may_read_contents(self) -> bool:
        """Tell whether this login may see what messages hold, which may be of persons."""
        with self._engine.connect() as connection:
            return may_read(connection, "parked_message", "content")

    def _columns(self) -> str:
        return _COLUMNS.format(kept=_KEPT if self.may_read_contents else "NULL::integer")

    def _content(self) -> str:
        return "content" if self.may_read_contents else "NULL::bytea"

    def _read(self, statement: str, **parameters: object) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(statement, parameters).all()


def _row(misfit: Misfit) -> dict[str, object]:
    return {
        "queue": misfit.queue,
        "reason": misfit.reason,
        "detail": misfit.detail,
        "task": misfit.task,
        "message_id": misfit.message_id,
        "content_type": misfit.content_type,
        "form": misfit.form,
        "content": misfit.content,
        "size": misfit.size,
        "digest": misfit.digest,
    }


def _count(misfit: Misfit) -> dict[str, object]:
    """Return the one row for all that there was no room for, of a queue and a reason."""
    return {
        "queue": misfit.queue,
        "reason": misfit.reason,
        "detail": "there was no room: TALLYMAN_PARKED_MEGABYTES are full; these are only counted",
        "task": None,
        "message_id": None,
        "content_type": None,
        "form": Form.BYTES,
        "content": None,
        "size": 0,
        "digest": f"no room: {misfit.queue} {misfit.reason}".encode(),
    }


def _filters(reason: Reason | None, queue: str | None, *, closed: bool) -> dict[str, object]:
    return {"reason": reason, "queue": queue, "closed": closed}


def _view(row: Row[Any]) -> ParkedView:
    return ParkedView(
        id=row.id,
        queue=row.queue,
        reason=Reason(row.reason),
        detail=row.detail,
        task=row.task,
        message_id=row.message_id,
        content_type=row.content_type,
        form=Form(row.form),
        size=row.size,
        kept=row.kept,
        copies=row.copies,
        parked_at=row.parked_at,
        last_parked_at=row.last_parked_at,
        closed_as=row.closed_as,
        closed_at=row.closed_at,
    )
