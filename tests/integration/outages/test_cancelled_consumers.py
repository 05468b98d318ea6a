"""A message that Redis hands out while its consumer is being cancelled."""

from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Message

from adapters.redis_transport import Channel
from tests.conftest import wait_until
from worker.addresses import Addresses
from worker.app import build_app
from worker.settings import Settings

QUEUE = "allocation"


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    addresses = Addresses(database_url=nowhere, broker_url=broker_url, mirror_url=None)
    with build_app(Settings(), addresses) as app:
        yield app


@pytest.fixture
def connection(app: Celery) -> Iterator[Connection]:
    with app.connection_for_read() as connection:
        yield connection


class TestAMessageTakenForACancelledConsumer:
    def test_goes_back_and_is_delivered_to_the_next(
        self, app: Celery, connection: Connection, broker_url: str
    ) -> None:
        channel = connection.default_channel
        assert isinstance(channel, Channel)
        taken: list[str] = []

        def take(message: Message) -> None:
            taken.append(message.headers["id"])
            message.ack()

        consumer = Consumer(channel, [app.amqp.queues[QUEUE]], on_message=take)
        with redis.Redis.from_url(broker_url) as client:
            consumer.consume()
            # The question is under way when the consumer is cancelled, and is answered after that.
            channel.connection.cycle.on_poll_start()
            consumer.cancel()
            app.send_task("any", task_id="popped", queue=QUEUE)
            wait_until(lambda: client.llen(QUEUE) == 0)
            channel._brpop_read()

            assert taken == []
            assert client.llen(QUEUE) == 1
            assert client.hlen("unacked") == 0

            consumer.consume()
            connection.drain_events(timeout=60)

            assert taken == ["popped"]
            assert client.llen(QUEUE) == client.hlen("unacked") == 0
