"""How much waits in queues, as a relay measures it."""

import pytest
from sqlalchemy import Engine

from adapters.postgres.queue_gauges import LOCK, PostgresQueueGauges
from adapters.postgres.unit_of_work import BeginPostgresWork
from tests.jobs import submission

NAMES = ("allocation", "users")


@pytest.fixture
def gauges(engine: Engine) -> PostgresQueueGauges:
    return PostgresQueueGauges(engine)


def queued(engine: Engine, queue: str, jobs: int, *, priority: int = 0) -> None:
    with BeginPostgresWork(engine=engine)() as work:
        work.jobs.accept(
            [(submission(f"{queue}-{priority}-{number}"), queue, 3) for number in range(jobs)]
        )
        work.commit()
    do(engine, f"UPDATE job SET priority = {priority} WHERE starts_with(id, '{queue}-{priority}-')")


def do(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def finish(engine: Engine, where: str, *, seconds_ago: float) -> None:
    do(
        engine,
        "UPDATE job SET state = 'succeeded', result = '{}', next_dispatch = NULL,"
        f" finished_at = now() - interval '{seconds_ago} seconds' WHERE {where}",
    )


class TestMeasuring:
    def test_counts_what_has_not_finished(
        self, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        queued(engine, "allocation", 5)
        finish(engine, "id = 'allocation-0-1'", seconds_ago=60)
        do(
            engine,
            "UPDATE job SET state = 'retry', run_after = now() + interval '1 day',"
            " next_dispatch = now() + interval '1 day' WHERE id = 'allocation-0-2'",
        )
        assert gauges.measure(NAMES, messages={"allocation": 7}, every=1)
        _, levels = gauges.read()
        assert (levels["allocation"].waiting, levels["allocation"].messages) == (4, 7)
        assert (levels["users"].waiting, levels["users"].messages) == (0, None)
        assert levels["allocation"].is_good

    def test_tells_since_when_the_first_is_due_of_whatever_priority(
        self, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        queued(engine, "allocation", 2)
        queued(engine, "allocation", 2, priority=9)
        do(
            engine,
            "UPDATE job SET next_dispatch = now() - interval '2 hours' WHERE id = 'allocation-0-1'",
        )
        gauges.measure(NAMES, messages={}, every=1)
        _, levels = gauges.read()
        with engine.connect() as connection:
            [since] = connection.exec_driver_sql("SELECT min(next_dispatch) FROM job").scalars()
        assert levels["allocation"].due_since == since

    def test_tells_of_none_where_all_are_handed_out_or_wait_for_their_next_attempt(
        self, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        queued(engine, "allocation", 2)
        do(engine, "UPDATE job SET next_dispatch = now() + interval '50 seconds'")
        gauges.measure(NAMES, messages={}, every=1)
        _, levels = gauges.read()
        assert levels["allocation"].due_since is None

    def test_averages_how_many_finish(self, engine: Engine, gauges: PostgresQueueGauges) -> None:
        queued(engine, "allocation", 100)
        finish(engine, "true", seconds_ago=2)
        gauges.measure(NAMES, messages={}, every=1)
        _, levels = gauges.read()
        # A hundred in the ten seconds before.
        assert levels["allocation"].jobs_per_second == pytest.approx(10)
        do(engine, "UPDATE queue_gauge SET measured_at = now() - interval '0.5 seconds'")
        gauges.measure(NAMES, messages={}, every=0)
        _, levels = gauges.read()
        assert 0 < levels["allocation"].jobs_per_second < 10
        assert levels["users"].jobs_per_second == 0

    def test_is_done_by_one_relay(self, engine: Engine, gauges: PostgresQueueGauges) -> None:
        with engine.begin() as other:
            other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            assert not gauges.measure(NAMES, messages={}, every=1)
        assert gauges.measure(NAMES, messages={}, every=1)
        assert not gauges.measure(NAMES, messages={}, every=60)

    def test_holds_until_the_next_is_overdue(
        self, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        gauges.measure(NAMES, messages={}, every=20 * 60)
        do(
            engine,
            "UPDATE queue_gauge SET measured_at = measured_at - interval '59 minutes',"
            " good_until = good_until - interval '59 minutes'",
        )
        assert gauges.read()[1]["users"].is_good
        do(engine, "UPDATE queue_gauge SET good_until = good_until - interval '2 minutes'")
        assert not gauges.read()[1]["users"].is_good


class TestCounting:
    def test_stops_at_its_bound(self, engine: Engine, gauges: PostgresQueueGauges) -> None:
        queued(engine, "allocation", 20)
        assert gauges.count("allocation", most=8) == 8
        assert gauges.count("allocation", most=80) == 20

    @pytest.mark.parametrize("statistics", ["none", "fresh"])
    def test_looks_at_an_index_and_at_no_table(self, engine: Engine, statistics: str) -> None:
        queued(engine, "allocation", 2_000)
        if statistics == "fresh":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM ANALYZE job")
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(
                "EXPLAIN SELECT count(*) FROM (SELECT FROM job WHERE queue = 'users'"
                " AND state IN ('queued', 'retry') LIMIT 1000) AS waiting"
            ).scalars()
            assert "Index Only Scan using ix_job_due" in "\n".join(plan)
