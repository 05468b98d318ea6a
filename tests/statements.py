"""Statements that can be looked at as they are sent."""

from collections.abc import Callable

import psycopg
from sqlalchemy import Connection

from adapters.postgres.statements import Row, Statement, Statements


class Watched(Statements):
    """Notes what it sends, and tells each statement before it goes."""

    def __init__(
        self, connection: Connection, *, before: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(connection)
        self.sent: list[str] = []
        self._before = before

    def _execute(self, statement: Statement) -> "psycopg.Cursor[Row]":
        self._before(statement.text)
        self.sent.append(statement.text)
        return super()._execute(statement)
