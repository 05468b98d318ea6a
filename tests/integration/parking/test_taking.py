"""How messages that wait are taken: whoever is killed has lost none of them."""

import json

import redis
from kombu import Connection, Consumer, Message, Queue
from kombu.asynchronous import Hub

from adapters import redis_transport
from tests.e2e.bad_messages import envelope

MESSAGES = 5


class TestWhatWaits:
    def test_is_noted_before_any_of_it_is_delivered(self, broker_url: str) -> None:
        redis_transport.install()
        noted: list[tuple[int, int]] = []
        hub = Hub()
        with redis.Redis.from_url(broker_url) as broker, Connection(broker_url) as connection:

            def note(_: Message) -> None:
                noted.append((int(broker.hlen("unacked")), int(broker.llen("allocation"))))

            for _ in range(MESSAGES):
                broker.lpush("allocation", json.dumps(envelope()))
            connection.connect()
            connection.transport.register_with_event_loop(connection.connection, hub)
            consumer = Consumer(
                connection.default_channel,
                queues=[Queue("allocation", routing_key="allocation")],
                on_message=note,
            )
            consumer.consume()
            while len(noted) < MESSAGES:
                hub.run_once()
        hub.close()

        # Who is killed at the first of them has lost none of the others.
        assert noted == [(MESSAGES, 0)] * MESSAGES
