"""A connection that does not wait for ever for a server that holds still."""

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Dialect, Engine, event

T = TypeVar("T")

LOOK_SECONDS = 0.1
"""How often a wait looks for signals, as psycopg's own do."""
MARGIN_SECONDS = 5.0
"""A server that works ends a statement itself when its time is up, and has this long to say so."""


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up a server that keeps its connections open and says nothing.

    A server's own limits do not hold while it is stopped, or waits for its disk; and its machine
    still answers the network's questions whether it is there.
    """

    patience: float | None = None
    """Seconds; None to wait as long as it takes."""

    def wait(
        self, gen: PQGen[T], interval: float = LOOK_SECONDS, timeout: float | None = None
    ) -> T:
        if timeout is not None or self.patience is None:
            return super().wait(gen, interval, timeout)
        deadline = time.monotonic() + self.patience
        try:
            return super().wait(gen, interval, self.patience)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None or time.monotonic() < deadline:
                raise
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL did not answer within {self.patience:.0f} seconds"
            ) from None


def bound(engine: Engine, *, statement_seconds: float) -> None:
    """Have an engine's connections wait little longer than a statement may take."""

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> BoundedConnection:
        connection = BoundedConnection.connect(*arguments, **options)
        connection.patience = statement_seconds + MARGIN_SECONDS
        return connection
