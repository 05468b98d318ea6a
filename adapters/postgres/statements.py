"""What a transaction says to PostgreSQL, in as few round trips as its answers allow."""

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

Parameters: TypeAlias = Mapping[str, Any] | None
UNKNOWN = -1
"""What the driver counts of a statement that was not done."""
Row: TypeAlias = Any
"""A named tuple of a statement's columns."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What is sent."""

    text: str
    parameters: Parameters = None
    check: Callable[[int], None] | None = None
    """Told how many rows it has written."""


class Statements:
    """Sends the statements of one transaction, in the order in which they were given.

    Those that need no answer wait for the next that does, and go with it: on its way a lone job
    spends more time than at work. What is raised is what SQLAlchemy raises, and for a statement
    that waited it is raised when that is sent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        if not connection.in_transaction():
            connection.begin()
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)  # noqa: S101  as the engine makes them
        self._driver = driver
        self._waiting: list[Statement] = []

    def ask(self, text: str, parameters: Parameters = None) -> list[Row]:
        """Return the rows of a statement."""
        [cursor] = self._send(Statement(text, parameters))
        return cursor.fetchall()

    def ask_together(self, *statements: Statement) -> list[list[Row]]:
        """Return the rows of each of some statements."""
        return [cursor.fetchall() for cursor in self._send(*statements)]

    def write(self, text: str, parameters: Parameters = None) -> int:
        """Return how many rows a statement has written."""
        [cursor] = self._send(Statement(text, parameters))
        return cursor.rowcount

    def tell(
        self,
        text: str,
        parameters: Parameters = None,
        *,
        check: Callable[[int], None] | None = None,
    ) -> None:
        """Have a statement wait for the next that is sent."""
        self._waiting.append(Statement(text, parameters, check))

    def settle(self) -> None:
        """Send what waits."""
        if self._waiting:
            self._send()

    def forget(self) -> None:
        """Never send what waits."""
        self._waiting.clear()

    def _send(self, *statements: Statement) -> "list[psycopg.Cursor[Row]]":
        """Send what waits, then these; return the cursors of these."""
        waiting, self._waiting = self._waiting, []
        together = [*waiting, *statements]
        is_alone = len(together) == 1 and self._has_begun
        cursors: list[psycopg.Cursor[Row]] = []
        failure: psycopg.Error | None = None
        in_hand = sys.exception()
        try:
            with nullcontext() if is_alone else self._driver.pipeline():
                cursors += map(self._execute, together)
        except psycopg.Error as error:
            interruption = error.__context__
            if interruption is not in_hand and not isinstance(interruption, psycopg.Error | None):
                # The driver complains of what it left undone, not of what has interrupted it.
                raise interruption from None
            failure = error
        # What one has not written may be why the next has failed.
        for each, cursor in zip(together, cursors, strict=False):
            if each.check and cursor.rowcount != UNKNOWN:
                each.check(cursor.rowcount)
        if failure:
            raise self._told(failure) from failure
        return cursors[len(waiting) :]

    def _told(self, failure: psycopg.Error) -> BaseException:
        """Return what SQLAlchemy would raise, and forget a connection that broke, as it would."""
        is_broken = self._driver.closed
        if is_broken:
            self._connection.invalidate()
        return DBAPIError.instance(
            None, None, failure, psycopg.Error, connection_invalidated=is_broken
        )

    @property
    def _has_begun(self) -> bool:
        # The driver says BEGIN by itself, with the first statement.
        return self._driver.pgconn.transaction_status != TransactionStatus.IDLE

    def _execute(self, statement: Statement) -> "psycopg.Cursor[Row]":
        cursor = self._driver.cursor(row_factory=namedtuple_row)
        return cursor.execute(statement.text, statement.parameters)
