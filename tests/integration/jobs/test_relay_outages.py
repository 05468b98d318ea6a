"""The relay while PostgreSQL goes away and comes back: it never ends by itself."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Engine

from adapters.postgres.engine import create
from tests.conftest import wait_until
from tests.integration.jobs.test_relay import build_relay
from tests.jobs import accept, find, submission
from worker.relay import Relay

END = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'tested relay' AND state = 'idle'
  AND state_change < clock_timestamp() - interval '0.2 seconds'"""


@pytest.fixture
def relay(database_url: str, broker_url: str) -> Iterator[Relay]:
    """Give a relay that rests for long where nothing rings."""
    own = create(database_url, application="tested relay", pool_size=4)
    relay = build_relay(own, broker_url)
    relay.poll_seconds = 30.0
    yield relay
    own.dispose()


@pytest.fixture
def running(relay: Relay) -> Iterator["Future[None]"]:
    """Run it in a thread."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        running = threads.submit(relay.run)
        yield running
        relay.stopping.set()


class TestASessionThatIsEnded:
    def test_while_the_relay_listens_does_not_end_the_relay(
        self, engine: Engine, database_url: str, running: "Future[None]"
    ) -> None:
        accept(engine, submission("before"))
        wait_until(lambda: find(engine, "before").dispatches == 1)

        for _ in range(3):
            # It is at rest, and hears of nothing but the end.
            wait_until(lambda: _end_sessions(database_url) or running.done())
        accept(engine, submission("after"))

        wait_until(lambda: find(engine, "after").dispatches == 1 or running.done())
        assert not running.done(), running.exception()


def _end_sessions(database_url: str) -> bool:
    """End every session of the relay's that has been at rest for a while, if there is one."""
    url = database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(END).fetchone()
    assert row is not None
    return bool(row[0])
