"""Events on their way from a real outbox to a real stream."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from redis.client import Pipeline
from sqlalchemy import Engine, text

from adapters.event_stream import EPOCH_KEY, STREAM, RedisEventStream
from adapters.postgres.outbox_feed import READER_LOCK, OutboxReader, PostgresOutboxFeed
from domain.jobs.model import Submission
from domain.kinds import KINDS
from tests.conftest import wait_until
from tests.jobs import build_executor
from worker.event_relay import EventRelay


@pytest.fixture
def valkey(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def relay(engine: Engine, broker_url: str) -> EventRelay:
    return EventRelay(
        feed=PostgresOutboxFeed(engine), stream=RedisEventStream(broker_url, length=1_000)
    )


def happen(engine: Engine, *references: str) -> None:
    for reference in references:
        build_executor(engine, KINDS).run_submitted(
            Submission(
                job_id=reference,
                kind="allocation.create_batch",
                payload={"reference": reference, "sku": "LAMP", "quantity": 5},
                correlation_id="why",
            ),
            redelivered=False,
        )


def entries(valkey: redis.Redis) -> list[dict[str, str]]:
    found = cast("list[tuple[str, dict[str, str]]]", valkey.xrange(STREAM))
    return [fields for _, fields in found]


def nobody_reads(feed: PostgresOutboxFeed) -> bool:
    """Tell whether PostgreSQL has noticed that the reader before has gone."""
    with feed._engine.connect() as connection:
        locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock")
        return not connection.execute(locks, {"lock": READER_LOCK}).scalar_one()


def relay_all(relay: EventRelay) -> int:
    wait_until(lambda: nobody_reads(relay.feed))
    with relay.feed.reading() as reader:
        assert reader is not None
        return relay.relay_once(reader)


class TestEventRelay:
    def test_publishes_each_event_with_its_origin(
        self, engine: Engine, relay: EventRelay, valkey: redis.Redis
    ) -> None:
        happen(engine, "B1")
        assert relay_all(relay) == 1
        [event] = entries(valkey)
        assert {key: event[key] for key in ("schema", "name", "aggregate", "job_id")} == {
            "schema": "1",
            "name": "BatchCreated",
            "aggregate": "product:LAMP",
            "job_id": "B1",
        }
        assert event["correlation_id"] == "why"
        assert '"quantity": 5' in event["payload"]

    def test_keeps_the_order_of_an_aggregate_and_sends_nothing_again(
        self, engine: Engine, relay: EventRelay, valkey: redis.Redis
    ) -> None:
        happen(engine, "B1", "B2", "B3")
        assert [relay_all(relay), relay_all(relay)] == [3, 0]
        assert [event["job_id"] for event in entries(valkey)] == ["B1", "B2", "B3"]

    def test_sends_again_what_it_did_not_note_under_the_same_id(
        self, engine: Engine, relay: EventRelay, valkey: redis.Redis
    ) -> None:
        class Killed(BaseException):
            """Stands for SIGKILL."""

        def kill(_: str) -> None:
            raise Killed

        happen(engine, "B1")
        relay.reached = kill
        with pytest.raises(Killed):
            relay_all(relay)
        relay.reached = lambda _: None
        assert relay_all(relay) == 1
        first, second = (event["event_id"] for event in entries(valkey))
        assert first == second

    def test_leaves_the_outbox_to_one_reader(self, engine: Engine, relay: EventRelay) -> None:
        with relay.feed.reading() as first, relay.feed.reading() as second:
            assert first is not None
            assert second is None
        wait_until(lambda: nobody_reads(relay.feed))
        with relay.feed.reading() as third:
            assert third is not None

    def test_fills_a_stream_that_was_emptied_with_what_it_would_hold(
        self, engine: Engine, relay: EventRelay, valkey: redis.Redis
    ) -> None:
        happen(engine, "B1", "B2")
        assert relay_all(relay) == 2
        before = [event["event_id"] for event in entries(valkey)]
        valkey.flushall()
        happen(engine, "B3")

        assert relay_all(relay) == 3

        after = entries(valkey)
        assert [event["event_id"] for event in after][:2] == before
        assert [event["job_id"] for event in after] == ["B1", "B2", "B3"]
        assert relay_all(relay) == 0

    @pytest.mark.parametrize("moment", [(OutboxReader, "unpublished"), (Pipeline, "multi")])
    def test_begins_no_stream_with_the_events_in_hand_when_it_is_emptied(
        self,
        engine: Engine,
        relay: EventRelay,
        valkey: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
        moment: tuple[type, str],
    ) -> None:
        happen(engine, "B1", "B2")
        assert relay_all(relay) == 2
        happen(engine, "B3")
        owner, name = moment
        go_on = getattr(owner, name)

        def be_emptied(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  as it is
            valkey.flushall()
            return go_on(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, be_emptied)
            assert relay_all(relay) == 0
        assert entries(valkey) == []
        assert relay_all(relay) == 3

        assert [event["job_id"] for event in entries(valkey)] == ["B1", "B2", "B3"]

    @pytest.mark.parametrize("is_new", [False, True], ids=["the same relay", "another relay"])
    def test_sends_again_what_redis_had_taken_and_lost(
        self,
        engine: Engine,
        broker_url: str,
        relay: EventRelay,
        valkey: redis.Redis,
        *,
        is_new: bool,
    ) -> None:
        happen(engine, "B1", "B2")
        assert relay_all(relay) == 2
        with redis.Redis.from_url(broker_url) as client:
            saved = {key: cast("bytes", client.dump(key)) for key in (STREAM, EPOCH_KEY)}
            happen(engine, "B3", "B4")
            assert relay_all(relay) == 2
            # As a Redis is that was killed before it wrote its last second down.
            for key, content in saved.items():
                client.restore(key, 0, content, replace=True)
        if is_new:
            relay = EventRelay(
                feed=PostgresOutboxFeed(engine), stream=RedisEventStream(broker_url, length=1_000)
            )
        happen(engine, "B5")

        assert relay_all(relay) == 3

        assert [event["job_id"] for event in entries(valkey)] == ["B1", "B2", "B3", "B4", "B5"]
        assert relay_all(relay) == 0

    def test_misses_nothing_that_an_earlier_version_published(
        self, engine: Engine, relay: EventRelay, valkey: redis.Redis
    ) -> None:
        happen(engine, "B1")
        assert relay_all(relay) == 1
        valkey.set(EPOCH_KEY, "01a2000c-be95-736a-a59c-767d986fe001")
        happen(engine, "B2")

        assert relay_all(relay) == 1

        assert [event["job_id"] for event in entries(valkey)] == ["B1", "B2"]

    def test_does_not_fill_a_stream_with_more_than_it_holds(
        self, engine: Engine, broker_url: str, valkey: redis.Redis
    ) -> None:
        relay = EventRelay(
            feed=PostgresOutboxFeed(engine), stream=RedisEventStream(broker_url, length=2)
        )
        happen(engine, "B1", "B2", "B3")
        assert relay_all(relay) == 3
        valkey.flushall()

        assert relay_all(relay) == 2

        assert [event["job_id"] for event in entries(valkey)] == ["B2", "B3"]
