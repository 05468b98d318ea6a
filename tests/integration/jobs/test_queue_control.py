"""The relay, as operators tell it to treat queues."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
import redis
from celery import Celery
from sqlalchemy import Engine

from adapters.broker import CeleryBroker
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.queue_settings import PostgresQueueSettings
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.dispatching import Grouping
from domain.jobs.queues import BURST_SECONDS, PACED
from tests.conftest import wait_until
from tests.jobs import find, submission
from worker.relay import Relay

NAMES = ("allocation", "users")

NOTE_TURNS = """
CREATE TABLE turn (began timestamptz, ended timestamptz, jobs integer);
CREATE FUNCTION note_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO turn
    SELECT now(), clock_timestamp(), count(*) FROM former JOIN latter USING (id)
    WHERE latter.dispatches > former.dispatches;
    RETURN NULL;
END $$;
CREATE TRIGGER note_turn AFTER UPDATE ON job REFERENCING OLD TABLE AS former NEW TABLE AS latter
FOR EACH STATEMENT EXECUTE FUNCTION note_turn()"""
"""Has PostgreSQL write down when jobs were handed out: when a transaction began, and a moment after
it was decided how many may be."""


@pytest.fixture
def valkey(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def control(engine: Engine) -> PostgresQueueSettings:
    return PostgresQueueSettings(engine)


@pytest.fixture
def relay(engine: Engine, broker_url: str) -> Relay:
    return build_relay(engine, broker_url)


def build_relay(engine: Engine, broker_url: str, *, poll_seconds: float = 0.05) -> Relay:
    return Relay(
        dispatches=PostgresDispatches(engine),
        broker=CeleryBroker(Celery(broker=broker_url), url=broker_url),
        queues=NAMES,
        grouping=Grouping(most=10, spread=4),
        depth=20,
        poll_seconds=poll_seconds,
    )


def queued(engine: Engine, queue: str, jobs: int, *, first: int = 0) -> list[str]:
    """Accept jobs in a queue; return their ids."""
    ids = [f"{queue}-{number}" for number in range(first, first + jobs)]
    with BeginPostgresWork(engine=engine)() as work:
        work.jobs.accept([(submission(job_id), queue, 3) for job_id in ids])
        work.commit()
    return ids


def handed_out(engine: Engine, queue: str) -> int:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT count(*) FROM job WHERE queue = %(queue)s AND dispatches > 0", {"queue": queue}
        )
        return int(rows.scalar_one())


def age(engine: Engine, seconds: int) -> None:
    """Make everything that was handed out look so much older."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE job SET next_dispatch = next_dispatch - make_interval(secs => %(seconds)s)",
            {"seconds": seconds},
        )


class TestAPausedQueue:
    def test_is_left_alone_and_others_are_not(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        queued(engine, "allocation", 3)
        queued(engine, "users", 3)
        control.pause(["allocation"], reason=None)
        assert relay.relay_once() == (3, False)
        assert (handed_out(engine, "allocation"), handed_out(engine, "users")) == (0, 3)

    def test_goes_on_when_it_is_resumed(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        queued(engine, "allocation", 3)
        control.pause(["allocation"], reason="stock take")
        relay.relay_once()
        assert control.resume(["allocation"]) == ["allocation"]
        assert relay.relay_once()[0] == 3

    @pytest.mark.parametrize("seconds", [11, 3_600])
    def test_has_nothing_handed_out_again_however_long_ago_it_was(
        self,
        engine: Engine,
        relay: Relay,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
        seconds: int,
    ) -> None:
        queued(engine, "allocation", 3)
        relay.relay_once()
        control.pause(["allocation"], reason=None)
        # Neither the end of their lease, nor an idle queue, makes jobs due in a paused one.
        valkey.delete("allocation")
        age(engine, seconds)
        assert relay.relay_once() == (0, False)
        assert find(engine, "allocation-0").dispatches == 1

    def test_is_left_alone_by_relays_that_forgot(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings, valkey: redis.Redis
    ) -> None:
        relay.notice_lost_memory()
        queued(engine, "allocation", 3)
        relay.relay_once()
        control.pause(["allocation"], reason=None)
        valkey.flushall()
        relay.notice_lost_memory()
        assert relay.relay_once() == (0, False)
        control.resume(["allocation"])
        assert relay.relay_once() == (3, False)

    def test_wakes_a_relay_when_it_is_resumed(
        self,
        engine: Engine,
        broker_url: str,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
    ) -> None:
        relay = build_relay(engine, broker_url, poll_seconds=100)
        control.pause(["allocation"], reason=None)
        queued(engine, "allocation", 1)
        thread = Thread(target=relay.run)
        thread.start()
        try:
            wait_until(lambda: relay.messages)
            control.resume(["allocation"])
            wait_until(lambda: valkey.llen("allocation"))
        finally:
            relay.stopping.set()
            thread.join(10)

    def test_keeps_its_first_moment_and_the_latest_reason(
        self, control: PostgresQueueSettings
    ) -> None:
        [(_, since, _)] = control.pause(["users"], reason="why")
        assert control.pause(["users"], reason=None) == [("users", since, "why")]
        assert control.pause(["users"], reason="else") == [("users", since, "else")]
        control.resume(["users"])
        assert control.resume(["users"]) == []
        [(_, later, why)] = control.pause(["users"], reason=None)
        assert (later > since, why) == (True, None)


class TestPriority:
    def test_holds_back_the_less_urgent_while_messages_wait(
        self,
        engine: Engine,
        relay: Relay,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
    ) -> None:
        control.set_priority("users", 5)
        queued(engine, "allocation", 3)
        queued(engine, "users", 3)
        assert relay.relay_once() == (3, True)
        assert relay.relay_once() == (0, True)
        assert handed_out(engine, "allocation") == 0
        valkey.delete("users")
        assert relay.relay_once() == (3, False)
        assert handed_out(engine, "allocation") == 3

    def test_may_be_below_that_of_all_others(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        control.set_priority("allocation", -1)
        queued(engine, "allocation", 3)
        queued(engine, "users", 3)
        relay.relay_once()
        assert (handed_out(engine, "allocation"), handed_out(engine, "users")) == (0, 3)

    def test_where_it_is_equal_holds_nobody_back(self, engine: Engine, relay: Relay) -> None:
        for queue in NAMES:
            queued(engine, queue, 3)
        assert relay.relay_once() == (6, False)

    def test_of_a_paused_queue_holds_nobody_back(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        control.set_priority("users", 5)
        queued(engine, "users", 3)
        relay.relay_once()
        control.pause(["users"], reason=None)
        queued(engine, "allocation", 3)
        assert relay.relay_once() == (3, False)

    def test_of_a_queue_that_waits_for_its_rate_holds_nobody_back(
        self,
        engine: Engine,
        relay: Relay,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
    ) -> None:
        control.set_priority("users", 5)
        control.set_rate("users", 0.01)
        queued(engine, "users", 3)
        queued(engine, "allocation", 3)
        assert relay.relay_once() == (1, True)
        valkey.delete("users")
        assert relay.relay_once() == (3, False)


class TestALimitedQueue:
    def test_hands_out_what_its_rate_allows_and_marks_it(
        self,
        engine: Engine,
        relay: Relay,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
    ) -> None:
        control.set_rate("allocation", 40)
        queued(engine, "allocation", 30)
        published, _ = relay.relay_once()
        assert published == 1 + 40 * BURST_SECONDS
        headers = [json.loads(raw)["headers"] for raw in valkey.lrange("allocation", 0, -1)]
        assert {header[PACED] for header in headers} == {40}

    def test_marks_nothing_where_there_is_no_rate(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        queued(engine, "allocation", 1)
        relay.relay_once()
        [raw] = valkey.lrange("allocation", 0, -1)
        assert PACED not in json.loads(raw)["headers"]

    def test_has_few_messages_in_the_broker(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings, valkey: redis.Redis
    ) -> None:
        # Workers that were away would run all that waits there at once.
        control.set_rate("allocation", 4)
        queued(engine, "allocation", 30)
        assert relay.relay_once()[0] == 2
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE queue SET next_job_at = NULL")
        relay._paced_at.clear()
        assert relay.relay_once() == (0, True)

    def test_says_that_it_is_its_turn_soon_where_that_is_so(
        self,
        engine: Engine,
        relay: Relay,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
    ) -> None:
        # The next turn is in a thousand seconds.
        control.set_rate("allocation", 0.001)
        queued(engine, "allocation", 30)
        relay.relay_once()
        valkey.delete("allocation")
        relay.poll_seconds = 10_000
        assert relay.relay_once() == (0, True)
        relay.poll_seconds = 100
        assert relay.relay_once() == (0, False)

    def test_does_not_take_a_turn_for_what_is_not_there(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        control.set_rate("allocation", 1)
        relay.relay_once()
        queued(engine, "allocation", 5)
        relay._paced_at.clear()
        assert relay.relay_once()[0] == 1

    def test_is_not_paced_by_what_was_set_before(
        self, engine: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        control.set_rate("allocation", 0.001)
        queued(engine, "allocation", 50)
        assert relay.relay_once()[0] == 1
        control.set_rate("allocation", 100)
        relay._paced_at.clear()
        assert relay.relay_once()[0] > 1
        control.set_rate("allocation", None)
        relay.relay_once()
        assert handed_out(engine, "allocation") == 50

    def test_is_served_by_one_relay_after_the_other(
        self, engine: Engine, patient: Engine, relay: Relay, control: PostgresQueueSettings
    ) -> None:
        control.set_rate("allocation", 100)
        queued(engine, "allocation", 50)
        relay.dispatches = PostgresDispatches(patient)
        with ThreadPoolExecutor(max_workers=1) as threads, engine.begin() as first:
            first.exec_driver_sql("SELECT FROM queue FOR UPDATE")
            second = threads.submit(
                relay.dispatches.claim_paced, "allocation", limit=50, is_idle=True
            )
            wait_until(lambda: second.done() or _waits_for_a_lock(engine))
            # The first takes all that there is for an hour, while the second waits for its turn.
            first.exec_driver_sql("UPDATE queue SET next_job_at = now() + interval '1 hour'")
            first.commit()
            assert second.result(60).jobs == ()

    def test_keeps_its_rate_across_relays(
        self,
        engine: Engine,
        patient: Engine,
        broker_url: str,
        control: PostgresQueueSettings,
        valkey: redis.Redis,
    ) -> None:
        rate, jobs = 200, 400
        control.set_rate("allocation", rate)
        queued(engine, "allocation", jobs)
        with engine.begin() as connection:
            connection.exec_driver_sql(NOTE_TURNS)
        relays = [build_relay(patient, broker_url) for _ in range(3)]
        threads = [Thread(target=relay.run) for relay in relays]

        def all_out() -> bool:
            # Workers that are fast enough: nothing waits in the broker for long.
            valkey.delete("allocation")
            return handed_out(engine, "allocation") == jobs

        with engine.begin() as nobody:
            # All of them come to its turn before any of them has it.
            nobody.exec_driver_sql("SELECT FROM queue FOR UPDATE")
            for thread in threads:
                thread.start()
            wait_until(lambda: all(relay._paced_at for relay in relays))
        try:
            wait_until(all_out, seconds=60)
        finally:
            for relay in relays:
                relay.stopping.set()
            for thread in threads:
                thread.join(10)
        with engine.connect() as connection:
            turns = connection.exec_driver_sql(
                "SELECT began, ended, jobs, sum(jobs) OVER (ORDER BY ended) AS so_far FROM turn"
            ).all()
        assert turns[-1].so_far >= jobs
        # What a turn hands out was decided between the two moments, so that no more time passed
        # from one to another than this, however long each of them took.
        burst = rate * BURST_SECONDS + 1
        for place, first in enumerate(turns):
            for last in turns[place:]:
                out = last.so_far - first.so_far + first.jobs
                assert out <= rate * (last.ended - first.began).total_seconds() + burst


def _waits_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(rows.scalar_one())
