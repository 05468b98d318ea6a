"""Trying a transaction again while it fails for reasons that pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg
import sqlalchemy.exc
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from adapters.breakers import Breaker, CircuitOpen
from domain.errors import Contended, OutOfRoom, Unavailable

T = TypeVar("T")

# Conditions of PostgreSQL that a second try may not meet (appendix A of its manual).
CONTENTION = frozenset({"40001", "40P01", "55P03"})
DISK_FULL = "53100"
OUTAGE = frozenset({"57P01", "57P02", "57P03", "53300", "53400", "25006", DISK_FULL})

OUTAGES = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
)
"""What is raised while PostgreSQL is away."""


def postgresql_breaker() -> Breaker:
    """Build a breaker for calls to PostgreSQL."""
    return Breaker(
        "postgresql",
        failures=2,
        seconds=2.0,
        # Who waits in vain for a connection of his own pool knows nothing of the server.
        is_failure=lambda error: (
            is_outage(error) and not isinstance(error, sqlalchemy.exc.TimeoutError)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistently:
    """Runs a transaction again, with jitter, at most `attempts` times within `seconds`.

    Where that was in vain twice in a row, PostgreSQL is left alone for a moment.
    """

    attempts: int = 10
    seconds: float = 5.0
    breaker: Breaker = field(default_factory=postgresql_breaker)

    def __call__(self, transaction: Callable[[], T], *, patient: bool = True) -> T:
        retrying = Retrying(
            retry=retry_if_exception(
                lambda error: (patient and is_contention(error)) or is_outage(error)
            ),
            wait=wait_random_exponential(multiplier=0.01, max=1.0),
            stop=stop_after_attempt(self.attempts) | stop_after_delay(self.seconds),
            reraise=True,
        )
        try:
            with self.breaker.calling():
                return retrying(transaction)
        except CircuitOpen as error:
            raise Unavailable(str(error)) from None
        except sqlalchemy.exc.TimeoutError as error:
            raise Unavailable(f"no connection to PostgreSQL is free: {error}") from error
        except sqlalchemy.exc.DBAPIError as error:
            if _sqlstate(error) == DISK_FULL:
                raise OutOfRoom(f"PostgreSQL has no room to write: {error.orig}") from error
            if is_outage(error):
                raise Unavailable(f"PostgreSQL is away: {error.orig}") from error
            if is_contention(error):
                raise Contended(str(error)) from error
            raise


def is_contention(error: BaseException) -> bool:
    """Tell a deadlock, a serialization failure or a lock timeout."""
    return _sqlstate(error) in CONTENTION


def is_outage(error: BaseException) -> bool:
    """Tell a server or a connection that went away, or a server that can write nothing."""
    if isinstance(error, sqlalchemy.exc.TimeoutError | CircuitOpen):
        return True
    state = _sqlstate(error)
    return (
        (isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated)
        or state in OUTAGE
        or (state or "").startswith("08")
        or (state is None and isinstance(_driver_error(error), psycopg.OperationalError))
    )


def _sqlstate(error: BaseException) -> str | None:
    return getattr(_driver_error(error), "sqlstate", None)


def _driver_error(error: BaseException) -> psycopg.Error | None:
    """Return what the driver raised; what it raises past SQLAlchemy, while it listens, is bare."""
    found = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    return found if isinstance(found, psycopg.Error) else None
