"""Trying a transaction again while it fails for reasons that pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy.exc
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from domain.errors import Unavailable

T = TypeVar("T")

# Conditions of PostgreSQL that a second try may not meet (appendix A of its manual).
CONTENTION = frozenset({"40001", "40P01", "55P03"})
OUTAGE = frozenset({"57P01", "57P02", "57P03", "53300", "53400", "25006"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistently:
    """Runs a transaction again, with jitter, at most `attempts` times within `seconds`."""

    attempts: int = 10
    seconds: float = 5.0

    def __call__(self, transaction: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception(lambda error: is_contention(error) or is_outage(error)),
            wait=wait_random_exponential(multiplier=0.01, max=1.0),
            stop=stop_after_attempt(self.attempts) | stop_after_delay(self.seconds),
            reraise=True,
        )
        try:
            return retrying(transaction)
        except sqlalchemy.exc.DBAPIError as error:
            if is_outage(error):
                raise Unavailable(f"PostgreSQL is away: {error.orig}") from error
            raise


def is_contention(error: BaseException) -> bool:
    """Tell a deadlock, a serialization failure or a lock timeout."""
    return _sqlstate(error) in CONTENTION


def is_outage(error: BaseException) -> bool:
    """Tell a server or a connection that went away."""
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return True
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return False
    state = _sqlstate(error)
    return (
        error.connection_invalidated
        or state in OUTAGE
        or (state or "").startswith("08")
        or (state is None and isinstance(error, sqlalchemy.exc.OperationalError))
    )


def _sqlstate(error: BaseException) -> str | None:
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return None
    return getattr(error.orig, "sqlstate", None)
