"""The relay, between a real ledger and a real broker."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from threading import Event, Thread

import pytest
import redis
from celery import Celery
from sqlalchemy import Engine

from adapters.broker import EPOCH_KEY, BrokerAway, CeleryBroker
from adapters.postgres.dispatches import PostgresDispatches
from domain.jobs.dispatching import Grouping
from tests.conftest import wait_until
from tests.jobs import accept, find, submission
from worker.relay import ENOUGH_WAITING, FULL_SECONDS, IN_HAND_SECONDS, Relay


@pytest.fixture
def valkey(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def relay(engine: Engine, broker_url: str) -> Relay:
    return build_relay(engine, broker_url)


def build_relay(engine: Engine, broker_url: str, *, depth: int = 100) -> Relay:
    return Relay(
        dispatches=PostgresDispatches(engine),
        broker=CeleryBroker(Celery(broker=broker_url), url=broker_url),
        queues=("allocation",),
        grouping=Grouping(most=10, spread=4),
        depth=depth,
        poll_seconds=0.05,
    )


class Waits(Event):
    """Takes no time, and notes how long it was to wait until it was so often."""

    def __init__(self, *, most: int) -> None:
        super().__init__()
        self.seconds: list[float | None] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        if len(self.seconds) >= self._most:
            self.set()
        return self.is_set()


def messages(valkey: redis.Redis) -> list[tuple[str, list[str]]]:
    """Return (task id, job ids) of each message that waits, oldest first."""
    found = []
    for raw in reversed(valkey.lrange("allocation", 0, -1)):
        message = json.loads(raw)
        [[job_ids], _, _] = json.loads(b64decode(message["body"]))
        found.append((message["headers"]["id"], job_ids))
    return found


class TestRelay:
    def test_sends_a_job_alone_under_its_own_id(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        accept(engine, submission("a"))
        assert relay.relay_once() == (1, False)
        assert messages(valkey) == [("a", ["a"])]

    def test_groups_a_backlog_and_keeps_its_order(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        ids = [f"j{n:03}" for n in range(100)]
        accept(engine, *(submission(i) for i in ids))
        relay.relay_once()
        sent = messages(valkey)
        assert [len(job_ids) for _, job_ids in sent] == [10] * 10
        assert sorted(job_id for _, job_ids in sent for job_id in job_ids) == ids

    def test_sends_jobs_in_company_once_they_come_fast(
        self,
        engine: Engine,
        relay: Relay,
        valkey: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        accept(engine, *(submission(f"slow-{n}") for n in range(4)))
        relay.relay_once()
        assert [len(job_ids) for _, job_ids in messages(valkey)] == [1] * 4
        # A worker takes them at once.
        valkey.delete("allocation")
        accept(engine, *(submission(f"fast-{n}") for n in range(6)))
        with monkeypatch.context() as patch:
            # However slow this machine is, they come fast.
            patch.setattr("worker.relay.IN_HAND_SECONDS", 3_600.0)
            relay.relay_once()
        assert [len(job_ids) for _, job_ids in messages(valkey)] == [6]

        valkey.delete("allocation")
        time.sleep(IN_HAND_SECONDS)
        accept(engine, *(submission(f"later-{n}") for n in range(2)))
        relay.relay_once()
        assert [len(job_ids) for _, job_ids in messages(valkey)] == [1] * 2

    def test_sends_what_was_dispatched_before_alone(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        accept(engine, *(submission(f"j{n}") for n in range(12)))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET dispatches = 1 WHERE id = 'j3'")
        relay.relay_once()
        assert ["j3"] in [job_ids for _, job_ids in messages(valkey)]

    def test_sends_nothing_twice(self, engine: Engine, relay: Relay, valkey: redis.Redis) -> None:
        accept(engine, submission("a"))
        assert [relay.relay_once()[0] for _ in range(2)] == [1, 0]

    def test_sends_the_urgent_first(
        self, engine: Engine, broker_url: str, valkey: redis.Redis
    ) -> None:
        accept(engine, submission("calm"), submission("urgent"))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE job SET priority = 9 WHERE id = 'urgent'")
        build_relay(engine, broker_url).relay_once()
        assert [job_id for job_id, _ in messages(valkey)] == ["urgent", "calm"]

    def test_leaves_a_full_queue_alone(
        self, engine: Engine, broker_url: str, valkey: redis.Redis
    ) -> None:
        relay = build_relay(engine, broker_url, depth=1)
        accept(engine, *(submission(f"j{n}") for n in range(30)))
        first, _ = relay.relay_once()
        assert relay.relay_once() == (0, True)
        assert (
            first + len(relay.dispatches.claim_due("allocation", limit=100, is_idle=False).jobs)
            == 30
        )

    def test_keeps_few_jobs_back_while_messages_wait(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        valkey.lpush("allocation", *("waits",) * ENOUGH_WAITING)
        accept(engine, *(submission(f"j{n}") for n in range(9)))
        assert relay.relay_once() == (0, True)

        valkey.rpop("allocation")
        assert relay.relay_once() == (9, False)
        valkey.delete("allocation")

        valkey.lpush("allocation", *("waits",) * ENOUGH_WAITING)
        accept(engine, *(submission(f"k{n}") for n in range(10)))
        assert relay.relay_once() == (10, False)

    def test_looks_ever_less_often_while_nobody_takes_what_waits(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        valkey.lpush("allocation", *("waits",) * ENOUGH_WAITING)
        accept(engine, submission("a"))
        relay.stopping = waits = Waits(most=6)

        relay.run()

        assert waits.seconds == [0.002, 0.004, 0.008, 0.016, 0.032, FULL_SECONDS]

    def test_sends_all_again_when_the_broker_forgot(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        relay.notice_lost_memory()
        accept(engine, submission("a"))
        relay.relay_once()
        valkey.flushall()
        relay.notice_lost_memory()
        relay.relay_once()
        assert messages(valkey) == [("a", ["a"])]
        # The broker was at fault, not the job: it is under no suspicion.
        assert find(engine, "a").dispatches == 1

    def test_sends_again_soon_what_an_idle_queue_has_lost(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        accept(engine, submission("lost"), submission("held"))
        relay.relay_once()
        valkey.delete("allocation")
        assert relay.relay_once() == (0, False)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET next_dispatch = next_dispatch - interval '11 seconds'"
            )
        with engine.connect() as worker:
            worker.exec_driver_sql("SELECT FROM job WHERE id = 'held' FOR UPDATE")
            relay.relay_once()
        assert messages(valkey) == [("lost", ["lost"])]

    def test_leaves_what_may_still_wait_in_a_busy_queue(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        accept(engine, submission("a"))
        relay.relay_once()
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE job SET next_dispatch = next_dispatch - interval '11 seconds'"
            )
        assert relay.relay_once() == (0, False)

    def test_gives_back_what_the_broker_does_not_take(self, engine: Engine) -> None:
        accept(engine, submission("a"))
        nowhere = build_relay(engine, "redis://127.0.0.1:1/0")
        with pytest.raises(BrokerAway):
            nowhere.publish_due("allocation", waiting=0)
        assert find(engine, "a").dispatches == 0

    def test_hears_of_a_new_job_and_stops_when_told(
        self, engine: Engine, relay: Relay, valkey: redis.Redis
    ) -> None:
        relay.poll_seconds = 1
        thread = Thread(target=relay.run)
        thread.start()
        try:
            wait_until(lambda: valkey.exists(EPOCH_KEY))
            accept(engine, submission("a"))
            wait_until(lambda: valkey.llen("allocation") == 1)
        finally:
            relay.stopping.set()
            thread.join(60)
        assert not thread.is_alive()
