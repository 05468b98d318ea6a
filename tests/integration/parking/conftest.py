"""Workers as far as the transport goes: a connection, a consumer and an event loop."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import redis
from kombu import Connection, Consumer, Message, Queue
from kombu.asynchronous import Hub

from adapters import redis_transport
from tests.conftest import wait_until
from tests.e2e.bad_messages import envelope


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def plain_url(broker: redis.Redis, broker_url: str) -> Iterator[str]:
    """Give the address of the broker for a user whose rights may be taken."""
    broker.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "&*", "+@all")
    parts = urlsplit(broker_url)
    yield parts._replace(netloc=f"plain:secret@{parts.hostname}:{parts.port}").geturl()
    broker.execute_command("ACL", "DELUSER", "plain")


def push(broker: redis.Redis, queue: str = "allocation", **of: Any) -> None:
    broker.lpush(queue, json.dumps(envelope(**of)))


@dataclass(kw_only=True)
class Worker:
    """What a worker has of this transport: it turns in an event loop."""

    connection: Connection
    hub: Hub = field(default_factory=Hub)
    taken: list[Message] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)

    def consume(self, *queues: str) -> None:
        self.connection.connect()
        self.connection.transport.register_with_event_loop(self.connection.connection, self.hub)
        consumer = Consumer(
            self.connection.default_channel,
            queues=[Queue(name, routing_key=name) for name in queues],
            on_message=self.taken.append,
        )
        consumer.consume()
        self.consumers.append(consumer)

    def turn(self, until: Callable[[], object]) -> None:
        """Go round until something is so."""

        def goes_round() -> object:
            self.hub.run_once()
            return until()

        wait_until(goes_round)

    def take(self, count: int) -> list[Message]:
        """Take at least so many in all."""
        self.turn(lambda: len(self.taken) >= count)
        return self.taken


@pytest.fixture
def start(broker_url: str) -> Iterator[Callable[..., Worker]]:
    """Start workers; they end with the test."""
    redis_transport.install()
    started: list[Worker] = []

    def start_worker(*queues: str, url: str = broker_url) -> Worker:
        started.append(Worker(connection=Connection(url)))
        started[-1].consume(*queues or ["allocation"])
        return started[-1]

    yield start_worker
    for worker in started:
        worker.connection.release()
        worker.hub.close()


Start = Callable[..., Worker]


def ids(messages: list[Message]) -> list[str]:
    return [message.headers["id"] for message in messages]


def held(broker: redis.Redis) -> tuple[int, int]:
    """Count what is noted as taken."""
    return int(broker.hlen("unacked")), int(broker.zcard("unacked_index"))


def age(broker: redis.Redis) -> None:
    """Let all that is taken be taken long ago."""
    tags = cast("list[bytes]", broker.zrange("unacked_index", 0, -1))
    broker.zadd("unacked_index", dict.fromkeys(tags, 0))
