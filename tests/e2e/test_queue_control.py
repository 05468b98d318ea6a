"""Queues that are paused, limited and ordered while processes run."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from adapters.postgres.queue_settings import PostgresQueueSettings
from domain.errors import InvalidPayload
from domain.jobs.model import Door, JobState
from domain.jobs.queues import BURST_SECONDS
from tests.e2e.pipeline import KIND, Pipeline, order
from tests.e2e.processes import ProcessContainer, eventually
from worker.queue_gate import FRESH_SECONDS

QUEUE = "allocation"
ORDERS = 30_000
SOON = 5_000
"""Orders that nothing keeps from being done before the pause."""

NOTES = """
CREATE TABLE handed_out (job_id text NOT NULL, moment timestamptz NOT NULL);
CREATE FUNCTION note_hand_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO handed_out VALUES (NEW.id, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER note_hand_out AFTER UPDATE ON job FOR EACH ROW
    WHEN (NEW.dispatches > OLD.dispatches) EXECUTE FUNCTION note_hand_out();
"""


@pytest.fixture
def control(engine: Engine) -> Iterator[PostgresQueueSettings]:
    """Control queues; what was set is taken back."""
    settings = PostgresQueueSettings(engine)
    yield settings
    settings.resume([QUEUE])
    settings.set_rate(QUEUE, None)


@pytest.fixture
def valkey(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def second_relay(folder: Path, environment: Mapping[str, str]) -> Iterator[ProcessContainer]:
    """Run another relay beside the first."""
    container = ProcessContainer(
        "second-relay",
        lambda _: [sys.executable, "-m", "worker.command.main", "relay"],
        folder=folder,
        environment=environment,
        answers=lambda _: "relay_started" in container.logs(),
    )
    container.start()
    assert container.ready()
    yield container
    container.teardown()


@pytest.fixture
def is_out(pipeline: Pipeline, valkey: redis.Redis) -> Callable[[], bool]:
    """Tell whether a job of the queue is with the broker, or with a worker."""

    def ask() -> bool:
        [jobs] = pipeline.one(
            "SELECT count(*) FROM job WHERE state IN ('queued', 'retry') AND dispatches > 0"
        )
        return bool(jobs or valkey.llen(QUEUE) or valkey.hlen("unacked"))

    return ask


def count(pipeline: Pipeline, prefix: str, state: JobState) -> int:
    [jobs] = pipeline.one(
        "SELECT count(*) FROM job WHERE starts_with(id, %s) AND state = %s", prefix, state
    )
    return int(jobs)


class TestAPause:
    @pytest.fixture
    def hanging(self, pipeline: Pipeline) -> Iterator[None]:
        """Have workers get no further than to some orders, or all may be done before the pause."""
        with pipeline.hanging_orders():
            pipeline.database.execute(
                "INSERT INTO hanging_order"
                " SELECT 'p-' || n FROM generate_series(%s::int, %s::int) AS n",
                [SOON, ORDERS - 1],
            )
            yield

    @pytest.mark.usefixtures("hanging")
    def test_stops_a_backlog_and_resuming_runs_each_job_once(
        self,
        pipeline: Pipeline,
        control: PostgresQueueSettings,
        is_out: Callable[[], bool],
    ) -> None:
        pipeline.has_stock("paused", ORDERS)
        pipeline.producer.submit_many(
            pipeline.producer.submission(KIND, order(f"p-{n}", "paused"), job_id=f"p-{n}")
            for n in range(ORDERS)
        )
        eventually(lambda: count(pipeline, "p-", JobState.SUCCEEDED), what="some are done")
        control.pause([QUEUE], reason="stock take")
        eventually(lambda: _has_reached_workers(pipeline), what="the pause has reached workers")
        pipeline.database.execute("DELETE FROM hanging_order")

        def is_given_back() -> bool:
            # Counts no attempt, and nothing of it is lost. A relay that has looked right before
            # the pause may hand out once more.
            done = count(pipeline, "p-", JobState.SUCCEEDED)
            waiting = pipeline.one(
                "SELECT count(*), max(attempts), max(dispatches) FROM job"
                " WHERE starts_with(id, 'p-') AND state = 'queued'"
            )
            return not is_out() and waiting == (ORDERS - done, 0, 0)

        eventually(is_given_back, what="what was handed out is given back")
        assert 0 < count(pipeline, "p-", JobState.SUCCEEDED) < ORDERS

        control.resume([QUEUE])
        eventually(
            lambda: count(pipeline, "p-", JobState.SUCCEEDED) == ORDERS,
            what="all are done",
            within=120,
        )
        assert pipeline.one(
            "SELECT min(attempts), max(attempts) FROM job WHERE starts_with(id, 'p-')"
        ) == (1, 1)
        assert pipeline.allocated("paused") == ORDERS

    def test_puts_messages_on_record_and_resuming_runs_each_once(
        self,
        pipeline: Pipeline,
        control: PostgresQueueSettings,
        is_out: Callable[[], bool],
        valkey: redis.Redis,
        worker: ProcessContainer,
    ) -> None:
        pipeline.has_stock("held", 100)
        control.pause([QUEUE], reason="stock take")
        eventually(lambda: _has_reached_workers(pipeline), what="the pause has reached workers")
        for n in range(50):
            pipeline.by_message(f"h-{n}", order(f"h-{n}", "held"))
        eventually(
            lambda: count(pipeline, "h-", JobState.QUEUED) == 50 and not is_out(),
            what="all are on record",
        )
        held = pipeline.find("h-0")
        assert held is not None
        assert (held.door, held.attempts) == (Door.CELERY, 0)
        assert pipeline.result("h-0").state == "QUEUED"
        assert valkey.get("celery-task-meta-h-0") is None
        assert "queue allocation is paused: stock take" in worker.logs()

        # What would do nothing does it now.
        refused = pipeline.by_message("bad", {"order_id": 5})
        with pytest.raises(InvalidPayload):
            refused.get(timeout=60)
        pipeline.by_message("h-1", order("h-1", "held", quantity=9))
        eventually(lambda: "job_conflicts" in worker.logs(), what="the conflict is told")

        control.resume([QUEUE])
        eventually(lambda: count(pipeline, "h-", JobState.SUCCEEDED) == 50, what="all are done")
        assert pipeline.allocated("held") == 50

        def mirrored() -> dict[str, Any] | None:
            copy = valkey.get("celery-task-meta-h-0")
            return json.loads(copy) if copy else None

        assert eventually(mirrored, what="the outcome is mirrored")["status"] == "SUCCESS"


class TestARate:
    @pytest.fixture
    def noted(self, pipeline: Pipeline) -> Iterator[None]:
        """Have it noted when a relay hands out a job: what workers do with it may stand still."""
        pipeline.database.execute(NOTES)
        yield
        pipeline.database.execute("DROP FUNCTION note_hand_out CASCADE; DROP TABLE handed_out")

    @pytest.mark.usefixtures("noted", "second_relay")
    def test_holds_for_both_doors_with_two_relays(
        self, pipeline: Pipeline, control: PostgresQueueSettings
    ) -> None:
        rate, jobs = 40, 120
        pipeline.has_stock("limited", 1_000)
        control.set_rate(QUEUE, rate)
        eventually(lambda: _has_reached_workers(pipeline), what="the rate has reached workers")
        pipeline.producer.submit_many(
            pipeline.producer.submission(KIND, order(f"r-{n}", "limited"), job_id=f"r-{n}")
            for n in range(jobs // 2)
        )
        for n in range(jobs // 2, jobs):
            pipeline.by_message(f"r-{n}", order(f"r-{n}", "limited"))
        eventually(lambda: count(pipeline, "r-", JobState.SUCCEEDED) == jobs, what="all are done")
        assert pipeline.one(
            "SELECT count(*) FROM job WHERE starts_with(id, 'r-') AND finished_at"
            " > (SELECT min(moment) FROM handed_out WHERE job_id = job.id)"
        ) == (jobs,)
        rows = pipeline.database.execute(
            "SELECT extract(epoch FROM moment)::float8 FROM handed_out ORDER BY 1"
        ).fetchall()
        moments = [float(moment) for (moment,) in rows]
        # Microseconds may be lost in a float.
        burst = rate * BURST_SECONDS + 1 + 0.001
        assert all(
            last - first + 1 <= rate * (moments[last] - moments[first]) + burst
            for first in range(len(moments))
            for last in range(first, len(moments))
        )


def _has_reached_workers(pipeline: Pipeline) -> bool:
    """Tell whether all workers know what was set: none believes what it read for so long."""
    [known] = pipeline.one(
        "SELECT bool_and(changed_at < clock_timestamp() - %s * interval '1 second') FROM queue",
        FRESH_SECONDS,
    )
    return bool(known)
