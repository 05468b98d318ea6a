"""Producers, refused while too many jobs wait."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, event

from adapters.postgres.queries import JobQueries
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.queue_settings import PostgresQueueSettings
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.errors import UNKNOWN_WAIT_SECONDS, IdempotencyConflict, QueueFull
from domain.jobs.model import Submission
from domain.jobs.queues import QUEUES
from tests.e2e.how_to import snippets
from worker.producer import Producer
from worker.queue_room import COUNT_SECONDS, FRESH_SECONDS, NOTE_SECONDS, QueueRoom

KIND = "allocation.create_batch"
LIMIT = 5


class Clock:
    """Stands still until it is told not to."""

    moment = 1_000.0

    def __call__(self) -> float:
        return self.moment

    def passes(self, seconds: float) -> None:
        self.moment += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gauges(engine: Engine) -> PostgresQueueGauges:
    return PostgresQueueGauges(engine)


@pytest.fixture
def build_producer(engine: Engine, clock: Clock) -> Callable[[], Producer]:
    def build() -> Producer:
        producer = Producer(
            begin_work=BeginPostgresWork(engine=engine),
            queries=JobQueries(engine),
            most_waiting=LIMIT,
        )
        producer._room = QueueRoom(PostgresQueueGauges(engine), most_waiting=LIMIT, clock=clock)
        return producer

    return build


@pytest.fixture
def producer(build_producer: Callable[[], Producer]) -> Producer:
    return build_producer()


def a_job(number: int, quantity: int = 1) -> Submission:
    return Submission(
        job_id=f"j{number}",
        kind=KIND,
        payload={"reference": f"b{number}", "sku": "LAMP", "quantity": quantity},
    )


def submit(producer: Producer, number: int) -> None:
    producer.submit(KIND, a_job(number).payload, job_id=f"j{number}")


def waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM job").scalar_one())


def finish(engine: Engine, jobs: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE job SET state = 'succeeded', result = '{}', next_dispatch = NULL,"
            " finished_at = now() - interval '2 seconds' WHERE id IN"
            " (SELECT id FROM job WHERE state = 'queued' ORDER BY id LIMIT %(jobs)s)",
            {"jobs": jobs},
        )


class TestWhereNoRelayRuns:
    def test_submit_is_refused_above_the_limit(self, producer: Producer, engine: Engine) -> None:
        for number in range(LIMIT):
            submit(producer, number)
        with pytest.raises(QueueFull) as refusal:
            submit(producer, LIMIT)
        assert refusal.value.details == {
            "queue": "allocation",
            "waiting": LIMIT,
            "limit": LIMIT,
            "retry_after_seconds": UNKNOWN_WAIT_SECONDS,
        }
        assert waiting(engine) == LIMIT

    def test_many_are_accepted_whole_or_refused_whole(
        self, producer: Producer, engine: Engine
    ) -> None:
        producer.submit_many(map(a_job, range(3)))
        with pytest.raises(QueueFull, match="3 more do not fit"):
            producer.submit_many(map(a_job, range(3, 6)))
        assert waiting(engine) == 3
        producer.submit_many(map(a_job, range(3, 5)))
        assert waiting(engine) == LIMIT

    def test_what_others_accepted_is_counted(
        self, build_producer: Callable[[], Producer], clock: Clock
    ) -> None:
        one, other = build_producer(), build_producer()
        submit(one, 0)
        for number in range(1, LIMIT):
            submit(other, number)
        clock.passes(FRESH_SECONDS)
        with pytest.raises(QueueFull):
            submit(one, LIMIT)

    def test_one_is_accepted_as_soon_as_there_is_room(
        self, producer: Producer, engine: Engine, clock: Clock
    ) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        with pytest.raises(QueueFull):
            submit(producer, LIMIT)
        finish(engine, 1)
        clock.passes(1)
        submit(producer, LIMIT)

    def test_other_queues_have_room(self, producer: Producer) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        producer.submit("maintenance.prune_ledger", {"older_than_days": 1})

    def test_a_chunk_of_two_queues_is_refused_for_either(self, producer: Producer) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        other = Submission(
            job_id="m", kind="maintenance.prune_ledger", payload={"older_than_days": 1}
        )
        with pytest.raises(QueueFull):
            producer.submit_many([other, a_job(LIMIT)])
        assert producer.find("m") is None


class TestWhatIsKnown:
    def test_is_answered_however_full_the_queue(self, producer: Producer) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        receipts = producer.submit_many(map(a_job, range(LIMIT)))
        assert [receipt.is_new for receipt in receipts] == [False] * LIMIT
        with pytest.raises(IdempotencyConflict):
            producer.submit(KIND, a_job(0, quantity=2).payload, job_id="j0")

    def test_takes_no_room(self, producer: Producer) -> None:
        producer.submit_many(map(a_job, range(LIMIT - 1)))
        receipts = producer.submit_many(map(a_job, range(LIMIT)))
        assert [receipt.is_new for receipt in receipts] == [False] * (LIMIT - 1) + [True]

    def test_does_not_bring_in_what_is_new(self, producer: Producer, engine: Engine) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        with pytest.raises(QueueFull):
            producer.submit_many(map(a_job, range(LIMIT + 1)))
        assert waiting(engine) == LIMIT


class TestWhereARelayMeasures:
    def test_its_measurement_is_believed_and_nothing_is_counted(
        self, producer: Producer, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        gauges.measure(QUEUES, messages={}, every=60)
        statements: list[str] = []

        @event.listens_for(engine, "before_cursor_execute")
        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        for number in range(LIMIT):
            submit(producer, number)
        assert not [each for each in statements if "count(*)" in each]
        # Once for all of them, what is set and what was measured are read.
        assert len([each for each in statements if "FROM queue_gauge" in each]) == 1

    def test_a_refusal_is_decided_on_a_count(
        self, producer: Producer, engine: Engine, gauges: PostgresQueueGauges, clock: Clock
    ) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        clock.passes(FRESH_SECONDS)
        gauges.measure(QUEUES, messages={}, every=60)
        submit(producer, 0)
        finish(engine, LIMIT)
        clock.passes(COUNT_SECONDS)
        assert gauges.read()[1]["allocation"].waiting == LIMIT
        submit(producer, LIMIT)

    def test_it_tells_when_to_try_again(
        self,
        build_producer: Callable[[], Producer],
        engine: Engine,
        gauges: PostgresQueueGauges,
        clock: Clock,
    ) -> None:
        # Twenty in the last ten seconds: two a second.
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO queue (name, most_waiting) VALUES ('allocation', 20)"
            )
        producer = build_producer()
        producer.submit_many(map(a_job, range(20)))
        finish(engine, 20)
        gauges.measure(QUEUES, messages={}, every=60)
        producer = build_producer()
        producer.submit_many(map(a_job, range(20, 40)))
        # What is handed in at the moment of a count may be in it or not: it would count twice.
        clock.passes(2 * NOTE_SECONDS)
        with pytest.raises(QueueFull) as refusal:
            producer.submit_many(map(a_job, range(40, 48)))
        assert refusal.value.details["retry_after_seconds"] == 4

    def test_it_tells_nothing_of_when_a_paused_queue_goes_on(
        self, producer: Producer, engine: Engine, gauges: PostgresQueueGauges, clock: Clock
    ) -> None:
        producer.submit_many(map(a_job, range(LIMIT)))
        finish(engine, 1)
        gauges.measure(QUEUES, messages={}, every=60)
        PostgresQueueSettings(engine).pause(["allocation"], reason=None)
        clock.passes(FRESH_SECONDS)
        with pytest.raises(QueueFull) as refusal:
            producer.submit_many(map(a_job, range(10, 13)))
        assert refusal.value.details["retry_after_seconds"] == UNKNOWN_WAIT_SECONDS

    def test_one_that_is_overdue_is_not_believed(
        self, producer: Producer, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        gauges.measure(QUEUES, messages={}, every=60)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE queue_gauge SET good_until = now()")
        for number in range(LIMIT):
            submit(producer, number)
        with pytest.raises(QueueFull):
            submit(producer, LIMIT)

    def test_operators_set_the_limit_of_a_queue(
        self, producer: Producer, engine: Engine, clock: Clock
    ) -> None:
        settings = PostgresQueueSettings(engine)
        settings.set_limit("allocation", 2)
        producer.submit_many(map(a_job, range(2)))
        with pytest.raises(QueueFull):
            submit(producer, 2)
        settings.set_limit("allocation", 3)
        clock.passes(FRESH_SECONDS)
        submit(producer, 2)
        settings.set_limit("allocation", None)
        clock.passes(FRESH_SECONDS)
        submit(producer, 3)


class TestProducersInThreads:
    def test_overrun_the_limit_by_no_more_than_there_are(
        self, build_producer: Callable[[], Producer], engine: Engine
    ) -> None:
        producer = build_producer()

        def try_to(number: int) -> bool:
            try:
                submit(producer, number)
            except QueueFull:
                return False
            return True

        with ThreadPoolExecutor(max_workers=8) as threads:
            accepted = sum(threads.map(try_to, range(60)))
        assert accepted == waiting(engine)
        assert LIMIT <= accepted <= LIMIT + 8


class TestTheGuide:
    def test_waits_for_room_and_prints_what_it_says(
        self, database_url: str, engine: Engine, gauges: PostgresQueueGauges
    ) -> None:
        [(code, prints)] = snippets("control-queues.md", "python")
        with Producer.at(database_url) as producer:
            producer.submit_many(map(a_job, range(2)))
        finish(engine, 1)
        PostgresQueueSettings(engine).set_limit("allocation", 1)
        # One has finished lately: another is to be looked for soon.
        gauges.measure(QUEUES, messages={}, every=60)
        # It begins to wait when it is told to: nothing here has to be done while it does.
        telling = code.replace("time.sleep(", "print('full', flush=True), input(), time.sleep(")
        script = subprocess.Popen(
            [sys.executable, "-c", telling],
            env={**os.environ, "TALLYMAN_DATABASE_URL": database_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with script:
            assert script.stdout is not None
            assert script.stdout.readline() == "full\n"
            assert waiting(engine) == 2
            finish(engine, 1)
            out, _ = script.communicate("there is room\n", timeout=200)
        assert (out, waiting(engine)) == (prints, 3)
