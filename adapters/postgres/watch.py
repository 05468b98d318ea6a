"""Watching PostgreSQL: whether jobs can run on it now, asked without ever waiting long."""

import select
import time
from typing import Any

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import make_url

from adapters.postgres import roles, schema
from adapters.postgres.access import Role

ANSWER_SECONDS = 2
"""Who needs longer for an answer is away."""
_IS_READ_ONLY = b"SHOW transaction_read_only"
_REVISION = b"SELECT max(version_num) FROM alembic_version"
_LACKS = roles.lacking(Role.WORKER).encode()
_UNDEFINED_TABLE = b"42P01"


class ServerWatch:
    """Asks over a connection of its own, for the use of one thread.

    The wait for an answer is bounded here: a server that is frozen keeps its connections open
    and says nothing, which no timeout of its own ends.
    """

    def __init__(self, url: str, *, application: str) -> None:
        address = make_url(url)
        _, options = address.get_dialect()().create_connect_args(address)
        self._options = {
            **options,
            "application_name": application[:63],
            "connect_timeout": ANSWER_SECONDS,
            "autocommit": True,
        }
        self._connection: psycopg.Connection[Any] | None = None
        self._has_schema = False

    def objection(self) -> str | None:
        """Say why no job can run now; None where PostgreSQL answers and takes writes."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(**self._options)
            if _ask(self._connection.pgconn, _IS_READ_ONLY) == "on":
                return "PostgreSQL takes no writes: it is read-only"
            if not self._has_schema:
                # A database never gets older: once is enough.
                return self._objection_to_schema(self._connection.pgconn)
        except (psycopg.Error, OSError) as error:
            self.close()
            return f"PostgreSQL is away: {str(error).partition(chr(10))[0]}"
        return None

    def _objection_to_schema(self, connection: PGconn) -> str | None:
        # Before the revision, which such a login may not be allowed to read.
        problem = roles.objection(_ask(connection, _LACKS), Role.WORKER)
        problem = problem or schema.objection(_ask(connection, _REVISION))
        self._has_schema = problem is None
        return problem

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _ask(connection: PGconn, question: bytes) -> str | None:
    """Return the value that answers a question; None where there is none, or no such table."""
    deadline = time.monotonic() + ANSWER_SECONDS
    connection.send_query(question)
    connection.flush()
    answer: PGresult | None = None
    while True:
        while connection.is_busy():
            _wait_readable(connection, deadline)
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            break
        answer = result
    if answer and answer.error_field(DiagnosticField.SQLSTATE) == _UNDEFINED_TABLE:
        return None
    if answer is None or answer.status != ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError(connection.error_message.decode(errors="replace"))
    value = answer.get_value(0, 0)
    return value.decode() if value is not None else None


def _wait_readable(connection: PGconn, deadline: float) -> None:
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(1_000 * left):
        raise psycopg.OperationalError(f"no answer within {ANSWER_SECONDS} seconds")
