"""The transport alone: what it takes is noted, and goes back to where it came from."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Message, Queue
from kombu.exceptions import EncodeError

from adapters import redis_transport
from adapters.redis_transport import UNREADABLE, give_back
from tests.e2e.bad_messages import envelope
from tests.integration.parking.conftest import Start, age, held, ids, push

Take = Callable[[int], list[Message]]


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
                connection.drain_events(timeout=60)
            return taken[before:]

        consumer.consume()
        yield take_some


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

    def test_is_counted_whatever_its_priority(self, broker: redis.Redis, broker_url: str) -> None:
        redis_transport.install()
        broker.lpush("allocation", "a", "b")
        broker.lpush("allocation\x06\x169", "c")

        with Connection(broker_url) as connection:
            waiting = connection.default_channel.waiting(["allocation", "users"])

        assert waiting == {"allocation": 3, "users": 0}

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


class TestWhatIsTakenManyAtATime:
    COUNT = 120

    @pytest.fixture
    def pushed(self, broker: redis.Redis) -> list[str]:
        """Have more messages wait than are taken at once."""
        names = [f"job-{number}" for number in range(self.COUNT)]
        for name in names:
            push(broker, headers={"id": name})
        return names

    def test_is_noted_and_comes_in_order(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        assert ids(start().take(self.COUNT)) == pushed
        assert held(broker) == (self.COUNT, self.COUNT)

    def test_is_taken_no_further_than_may_be_had(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        worker = start()
        worker.connection.default_channel.basic_qos(0, 7, False)  # noqa: FBT003  kombu's signature
        assert ids(worker.take(7)) == pushed[:7]
        worker.taken[0].ack()
        assert ids(worker.take(8)) == pushed[:8]
        worker.turn(lambda: held(broker) == (7, 7))

    def test_is_gone_when_it_is_acknowledged(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        worker = start()
        for message in worker.take(self.COUNT):
            message.ack()
        worker.turn(lambda: held(broker) == (0, 0))

    def test_is_gone_though_the_worker_stops_at_once(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        worker = start()
        for message in worker.take(self.COUNT):
            message.ack()
        worker.connection.release()
        assert held(broker) == (0, 0)
        assert broker.llen("allocation") == 0

    def test_comes_again_marked_where_the_worker_stops_with_it(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        worker = start()
        worker.take(self.COUNT)
        worker.connection.release()
        assert held(broker) == (0, 0)
        again = start().take(self.COUNT)
        assert sorted(ids(again)) == sorted(pushed)
        assert all(message.delivery_info["redelivered"] for message in again)

    def test_comes_again_after_its_worker_died(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        dead = start()
        dead.connection.default_channel.basic_qos(0, self.COUNT, False)  # noqa: FBT003  as above
        dead.take(self.COUNT)
        age(broker)
        other = start()
        other.connection.default_channel.qos.restore_visible(num=None, interval=1)
        assert sorted(ids(other.take(self.COUNT))) == sorted(pushed)

    def test_goes_back_as_it_was_where_nobody_has_begun_with_it(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        worker = start()
        worker.connection.default_channel.basic_qos(0, 7, False)  # noqa: FBT003  as above
        give_back(reversed(worker.take(7)[2:]))
        assert held(broker) == (2, 2)
        assert broker.llen("allocation") == self.COUNT - 2
        other = start().take(self.COUNT - 2)
        assert ids(other) == pushed[2:]
        assert not any(message.delivery_info["redelivered"] for message in other)

    def test_is_noted_though_redis_is_full(
        self, broker: redis.Redis, start: Start, pushed: list[str]
    ) -> None:
        worker = start()
        broker.config_set("maxmemory", "1")
        try:
            assert ids(worker.take(self.COUNT)) == pushed
        finally:
            broker.config_set("maxmemory", "0")
        assert held(broker) == (self.COUNT, self.COUNT)

    def test_comes_from_all_queues(self, broker: redis.Redis, start: Start) -> None:
        for queue in ("users", "allocation", "imports"):
            for number in range(60):
                broker.lpush(queue, json.dumps(envelope(headers={"id": f"{queue}-{number}"})))
        worker = start("allocation", "users", "imports")
        routes = [message.delivery_info["routing_key"] for message in worker.take(180)]
        assert len(routes) == 180
        # Each has its turn before any has a second one.
        assert set(routes[:150]) == {"users", "allocation", "imports"}

    def test_comes_by_priority(self, broker: redis.Redis, start: Start) -> None:
        for priority in (9, 0, 6, 3):
            suffix = f"\x06\x16{priority}" if priority else ""
            item = envelope(headers={"id": str(priority)}, properties={"priority": priority})
            broker.lpush(f"allocation{suffix}", json.dumps(item))
        assert ids(start().take(4)) == ["0", "3", "6", "9"]

    @pytest.mark.parametrize(
        "item",
        [b"\x00garbage\xff", b"{", b'{}, "", "users"], [{}', b'{"headers": {}}', b"[" * 500],
        ids=["bytes", "cut off", "a forged note", "no message", "nested"],
    )
    def test_stays_what_it_was_though_nobody_can_read_it(
        self, broker: redis.Redis, start: Start, item: bytes
    ) -> None:
        broker.lpush("allocation", item)
        for _ in range(2):
            worker = start()
            [message] = worker.take(1)
            assert (message.content_type, message.body) == (UNREADABLE, item)
            # As when its worker died, and as when it goes back.
            age(broker)
            worker.connection.default_channel.qos.restore_visible(num=None, interval=1)
            assert held(broker) == (0, 0)
            worker.taken.clear()
            [message] = worker.take(1)
            assert message.body == item
            message.reject(requeue=True)
            worker.connection.release()

    @pytest.mark.parametrize("forbidden", ["-@scripting", "-rpop"])
    def test_is_taken_singly_by_whom_may_not(
        self, broker: redis.Redis, start: Start, pushed: list[str], plain_url: str, forbidden: str
    ) -> None:
        worker = start(url=plain_url)
        broker.execute_command("ACL", "SETUSER", "plain", forbidden)
        assert ids(worker.take(self.COUNT)) == pushed
        assert held(broker) == (self.COUNT, self.COUNT)
        for message in worker.taken:
            message.ack()
        worker.turn(lambda: held(broker) == (0, 0))


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


class TestWhatIsPublishedTogether:
    def test_lies_there_at_the_end_in_its_order(
        self, broker: redis.Redis, broker_url: str, take: Take
    ) -> None:
        with Connection(broker_url) as connection:
            producer = connection.Producer()
            with producer.channel.together():
                for number in range(3):
                    producer.publish({"number": number}, routing_key="allocation")
                assert not broker.llen("allocation")
            producer.publish({"number": 3}, routing_key="allocation")
        assert [message.payload["number"] for message in take(4)] == [0, 1, 2, 3]

    def test_is_nowhere_where_that_breaks_off(self, broker: redis.Redis, broker_url: str) -> None:
        redis_transport.install()
        with Connection(broker_url) as connection:
            producer = connection.Producer()

            def publish(*bodies: object) -> None:
                with producer.channel.together():
                    for body in bodies:
                        producer.publish(body, routing_key="allocation")

            with pytest.raises(EncodeError):
                publish("text", object())
            assert not broker.llen("allocation")
            producer.publish({"number": 1}, routing_key="allocation")
        assert broker.llen("allocation") == 1
