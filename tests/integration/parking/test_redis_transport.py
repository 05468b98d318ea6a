"""The transport alone: what it takes is noted, and goes back to where it came from."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Message, Queue

from adapters import redis_transport
from adapters.redis_transport import UNREADABLE
from tests.e2e.bad_messages import envelope

Take = Callable[[int], list[Message]]


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def take(broker_url: str) -> Iterator[Take]:
    """Take so many messages from the queue and acknowledge none."""
    redis_transport.install()
    taken: list[Message] = []
    with Connection(broker_url) as connection:
        consumer = Consumer(
            connection.default_channel,
            queues=[Queue("allocation", routing_key="allocation")],
            on_message=taken.append,
        )

        def take_some(count: int) -> list[Message]:
            before = len(taken)
            while len(taken) < before + count:
                connection.drain_events(timeout=10)
            return taken[before:]

        consumer.consume()
        yield take_some


def push(broker: redis.Redis, **of: Any) -> None:
    broker.lpush("allocation", json.dumps(envelope(**of)))


class TestWhatIsTaken:
    def test_is_noted_by_itself_whatever_tag_it_bears(
        self, broker: redis.Redis, take: Take
    ) -> None:
        for _ in range(2):
            push(broker, properties={"delivery_tag": "the same"})

        one, other = take(2)

        assert broker.hlen("unacked") == 2
        one.ack()
        [noted] = broker.hvals("unacked")
        assert json.loads(noted)[0]["headers"]["id"] == other.headers["id"]

    @pytest.mark.parametrize(
        "properties",
        [
            {"delivery_info": {"exchange": "", "routing_key": "elsewhere"}},
            {"delivery_info": {"exchange": "no-such", "routing_key": "elsewhere"}},
            {"delivery_info": "nowhere"},
            {"delivery_info": None},
            {"priority": float("inf")},
            {"priority": {}},
            {"priority": "high"},
        ],
        ids=str,
    )
    def test_goes_back_to_where_it_came_from(
        self, broker: redis.Redis, take: Take, properties: dict[str, Any]
    ) -> None:
        push(broker, properties=properties)

        [message] = take(1)
        message.reject(requeue=True)

        [again] = take(1)
        assert again.headers["id"] == message.headers["id"]
        assert again.delivery_info["redelivered"] is True
        assert broker.exists("elsewhere") == 0

    def test_keeps_its_priority(self, broker: redis.Redis, take: Take) -> None:
        push(broker, properties={"priority": 9})

        [message] = take(1)
        message.reject(requeue=True)

        assert broker.llen("allocation\x06\x169") == 1

    def test_that_nobody_can_read_is_wrapped_until_it_is_acknowledged(
        self, broker: redis.Redis, take: Take
    ) -> None:
        broker.lpush("allocation", b"\x00garbage\xff")

        [message] = take(1)
        assert (message.content_type, message.body) == (UNREADABLE, b"\x00garbage\xff")
        message.reject(requeue=True)
        [again] = take(1)
        assert again.body == message.body
        again.ack()

        assert broker.hlen("unacked") == broker.llen("allocation") == 0


class TestTheAddress:
    @pytest.mark.parametrize(
        ("url", "is_encrypted"),
        [("redis://h:1/0", False), ("rediss://h:1/0?ssl_cert_reqs=required", True)],
    )
    def test_means_what_it_says(self, url: str, is_encrypted: bool) -> None:  # noqa: FBT001
        redis_transport.install()
        connection = Connection(url)
        assert connection.get_transport_cls() is redis_transport.Transport
        assert bool(connection.ssl) is is_encrypted
