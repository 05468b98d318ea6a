"""The engine: connections with every wait bounded."""

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from sqlalchemy import Engine, create_engine

from adapters.postgres.bounded import bound

# Old plans are forgotten with their connection: one made while a table was empty would scan it
# whole for as long as the session lives.
RECYCLE_SECONDS = 60


@contextmanager
def opened(url: str, *, application: str) -> Iterator[Engine]:
    """Give an engine for a moment."""
    engine = create(url, application=application)
    try:
        yield engine
    finally:
        engine.dispose()


def create(
    url: str,
    *,
    pool_size: int = 1,
    application: str = "tallyman",
    lock_timeout_ms: int = 5_000,
    statement_timeout_ms: int = 60_000,
    by_index: bool = False,
    plans_once: bool = False,
    is_durable: bool = True,
) -> Engine:
    """Build an engine; not fork-safe, so a worker child builds its own.

    One that plans once does so for whatever values: PostgreSQL takes half as long for a lone order.
    It would plan anew, each time, what looks up fewer keys than it expects of a list.

    One that is not durable does not wait for the disk when it commits: a PostgreSQL that crashes
    may forget the last moments of what it was told by it, and never more than that.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=10,
        pool_recycle=RECYCLE_SECONDS,
        json_deserializer=orjson.loads,
        # Parameters are payloads, and payloads may be of people: no error may quote them.
        hide_parameters=True,
        connect_args={
            "application_name": application[:63],
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            "options": (
                f"-c lock_timeout={lock_timeout_ms}"
                f" -c statement_timeout={statement_timeout_ms}"
                # A statement of a dead client gives up its locks soon, not when it is done.
                " -c client_connection_check_interval=1000"
                # Who looks up rows by key alone must not be held to a plan that was made while
                # the tables were empty, as the checks of foreign keys are: it scans them whole.
                f" -c enable_seqscan={'off' if by_index else 'on'}"
                f"{' -c plan_cache_mode=force_generic_plan' if plans_once else ''}"
                f"{'' if is_durable else ' -c synchronous_commit=off'}"
                " -c idle_in_transaction_session_timeout=300000"
                " -c jit=off"
                " -c timezone=UTC"
            ),
        },
    )
    bound(engine, statement_seconds=statement_timeout_ms / 1_000)
    return engine
