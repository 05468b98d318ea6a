"""What KEDA asks the ledger, and what the ledger answers."""

import psycopg
import pytest
from sqlalchemy import Engine

from adapters.embedded.servers import Addresses
from adapters.postgres.access import Role
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.queue_settings import PostgresQueueSettings
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.queues import QUEUES
from tests.integration.metrics.conftest import do
from tests.jobs import submission
from tests.manifests import of_kind
from tests.roles import connected, site


@pytest.fixture
def query() -> str:
    [scaled] = of_kind("ScaledObject")
    found: str = scaled["spec"]["triggers"][0]["metadata"]["query"]
    return found


@pytest.fixture
def depth(engine: Engine, query: str) -> "Depth":
    return Depth(engine, query)


class Depth:
    """Asks what KEDA asks."""

    def __init__(self, engine: Engine, query: str) -> None:
        self._engine = engine
        self._query = query

    def __call__(self) -> int:
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(self._query).scalar_one()
        # KEDA takes numbers alone.
        assert isinstance(found, int)
        return found


def accept(engine: Engine, *ids: str, queue: str = "allocation") -> None:
    with BeginPostgresWork(engine=engine)() as work:
        work.jobs.accept([(submission(each), queue, 3) for each in ids])
        work.commit()


class TestDepth:
    def test_is_nothing_where_nothing_waits(self, depth: Depth) -> None:
        assert depth() == 0

    def test_is_what_could_run_now(self, engine: Engine, depth: Depth) -> None:
        accept(engine, "due", "out", "retry-due", "later", "kept", "over")
        accept(engine, "user", queue="users")
        hour = "interval '1 hour'"
        do(
            engine,
            f"UPDATE job SET dispatches = 1, next_dispatch = now() + {hour} WHERE id = 'out'",
        )
        do(engine, "UPDATE job SET state = 'retry', run_after = now() WHERE id = 'retry-due'")
        do(
            engine,
            f"UPDATE job SET state = 'retry', run_after = now() + {hour},"
            f" next_dispatch = now() + {hour} WHERE id = 'later'",
        )
        do(engine, "UPDATE job SET dispatches = 1, next_dispatch = 'infinity' WHERE id = 'kept'")
        do(
            engine,
            "UPDATE job SET state = 'succeeded', result = '{}', next_dispatch = NULL,"
            " finished_at = now() WHERE id = 'over'",
        )
        # due, out, retry-due and user
        assert depth() == 4

    def test_counts_messages_that_the_ledger_does_not_know(
        self, engine: Engine, depth: Depth
    ) -> None:
        accept(engine, "a")
        gauges = PostgresQueueGauges(engine)
        gauges.measure(QUEUES, messages={"users": 30}, every=0)
        assert depth() == 31
        do(engine, "UPDATE queue_gauge SET good_until = now() - interval '1 second'")
        assert depth() == 1

    def test_is_nothing_of_a_queue_that_is_paused(self, engine: Engine, depth: Depth) -> None:
        accept(engine, "a", "b")
        accept(engine, "c", queue="users")
        PostgresQueueSettings(engine).pause(["allocation"], reason=None)
        assert depth() == 1

    def test_is_a_seconds_worth_of_a_queue_with_a_rate(self, engine: Engine, depth: Depth) -> None:
        accept(engine, *(f"a-{number}" for number in range(20)))
        accept(engine, "u", queue="users")
        PostgresQueueSettings(engine).set_rate("allocation", 5)
        PostgresQueueSettings(engine).set_rate("users", 50)
        assert depth() == 6


class TestTheQuery:
    def test_is_the_readers_to_ask(self, servers: Addresses, template: str, query: str) -> None:
        with (
            site(servers, template=template) as roles,
            connected(roles[Role.READER]) as connection,
        ):
            assert connection.execute(query.encode()).fetchone() == (0,)

    def test_finds_jobs_by_index(self, engine: Engine, database_url: str, query: str) -> None:
        accept(engine, "a")
        url = database_url.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            # On a table this small any plan would do: what cannot go by index is told by this.
            connection.execute("SET enable_seqscan = off")
            plan = "\n".join(row[0] for row in connection.execute(b"EXPLAIN " + query.encode()))
        assert "ix_job_due" in plan
        assert "Seq Scan on job" not in plan
