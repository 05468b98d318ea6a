"""Waiting at empty queues: nothing is taken before it is noted, and nothing waits in vain."""

import random
import threading
import time

import pytest
import redis
from kombu import Queue

from adapters import redis_transport
from adapters.redis_transport import Channel
from tests.conftest import wait_until
from tests.integration.parking.conftest import Start, Worker, held, ids, push

NEVER = 3_600.0
MESSAGES = 2_000
PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody look unless Redis has told."""
    monkeypatch.setattr(redis_transport, "LOOK_SECONDS", NEVER)


def channel_of(worker: Worker) -> Channel:
    channel = worker.connection.default_channel
    assert isinstance(channel, Channel)
    return channel


def waits(worker: Worker) -> bool:
    """Tell whether a worker is at rest, and Redis tells it what comes."""
    channel = channel_of(worker)
    return bool(channel.looks_out and channel._in_poll and channel._lookout.is_answered)


def idle(start: Start, *queues: str, **options: str) -> Worker:
    worker = start(*queues, **options)
    worker.turn(lambda: waits(worker))
    return worker


@pytest.mark.usefixtures("untold")
class TestAWorkerAtEmptyQueues:
    def test_has_taken_nothing_when_it_dies(self, broker: redis.Redis, start: Start) -> None:
        idle(start)
        push(broker)
        # It stands still here, as one that is frozen does.
        assert (broker.llen("allocation"), held(broker)) == (1, (0, 0))

    def test_is_told_again_and_again(self, broker: redis.Redis, start: Start) -> None:
        worker = idle(start, "allocation", "users")
        for number in range(1, 20):
            push(broker, ("allocation", "users")[number % 2] + PRIORITIES[number % 4])
            assert len(worker.take(number)) == number
            assert held(broker) == (number, number)

    def test_leaves_one_message_to_one_of_many(self, broker: redis.Redis, start: Start) -> None:
        workers = [idle(start) for _ in range(5)]
        for number in range(1, 20):
            push(broker)
            for worker in workers:
                worker.turn(lambda: broker.llen("allocation") == 0)
            assert sum(len(worker.taken) for worker in workers) == number
        for worker in workers:
            worker.turn(lambda: waits(worker))  # noqa: B023  called here

    def test_takes_what_goes_back(self, broker: redis.Redis, start: Start) -> None:
        worker, other = start(), idle(start)
        push(broker)
        [message] = worker.take(1)
        message.reject(requeue=True)
        assert ids(other.take(1)) == ids([message])

    def test_that_may_have_no_more_keeps_its_connection(
        self, broker: redis.Redis, start: Start
    ) -> None:
        worker = start("allocation", "users")
        channel = channel_of(worker)
        worker.connection.default_channel.basic_qos(0, 1, False)  # noqa: FBT003  kombu's signature
        worker.turn(lambda: waits(worker))
        connected = channel.client.connection._sock
        push(broker)
        [message] = worker.take(1)
        push(broker, "users")
        worker.turn(lambda: not channel.client.connection.can_read())
        assert channel.client.connection._sock is connected
        assert broker.llen("users") == 1
        message.ack()
        worker.take(2)

    def test_that_is_cancelled_takes_nothing_more(self, broker: redis.Redis, start: Start) -> None:
        worker = idle(start)
        [consumer] = worker.consumers
        consumer.cancel()
        push(broker)
        worker.turn(lambda: not waits(worker))
        for _ in range(3):
            worker.connection.transport.bell.ring()
            worker.hub.run_once()
        assert (broker.llen("allocation"), worker.taken) == (1, [])
        consumer.consume()
        worker.take(1)

    def test_takes_from_a_queue_that_is_added(self, broker: redis.Redis, start: Start) -> None:
        worker = idle(start)
        [consumer] = worker.consumers
        consumer.add_queue(Queue("users", routing_key="users"))
        consumer.consume()
        push(broker, "users")
        # It looks once more at what it asked about; after that it knows of the queue.
        push(broker)
        worker.take(2)

    def test_stops_at_once(self, broker: redis.Redis, start: Start) -> None:
        worker = idle(start)
        channel_of(worker).take_no_more()
        push(broker)
        worker.connection.release()
        assert (broker.llen("allocation"), held(broker), worker.taken) == (1, (0, 0), [])

    def test_connects_again_where_redis_closed_its_connection(
        self, broker: redis.Redis, start: Start
    ) -> None:
        worker = idle(start)
        before = channel_of(worker).client.connection._sock
        [waiting] = [each for each in broker.client_list() if "t" in each["flags"]]
        broker.client_kill_filter(_id=waiting["id"])
        worker.turn(lambda: waits(worker) and channel_of(worker).client.connection._sock != before)
        push(broker)
        worker.take(1)

    def test_connects_again_where_that_was_while_it_could_have_no_more(
        self, broker: redis.Redis, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = idle(start)
        channel = channel_of(worker)
        monkeypatch.setattr(channel.qos, "can_consume", lambda: False)
        before = channel.client.connection._sock
        worker.turn(lambda: worker.connection.transport.cycle._paused_brpop)
        channel.look_again()
        for client in broker.client_list():
            if "t" in client["flags"]:
                broker.client_kill_filter(_id=client["id"])
        worker.connection.transport.bell.ring()
        worker.hub.run_once()
        monkeypatch.undo()
        worker.turn(lambda: waits(worker) and channel.client.connection._sock != before)
        push(broker)
        worker.take(1)

    def test_connects_again_where_redis_does_not_answer(
        self, broker: redis.Redis, start: Start
    ) -> None:
        worker = idle(start)
        channel = channel_of(worker)
        before = channel.client.connection._sock
        # As where it asked long ago, and has not been answered since.
        channel._lookout.is_answered, channel._brpop_sent_at = False, 0.0
        worker.connection.transport.cycle.maybe_check_brpop_health()
        worker.turn(lambda: waits(worker) and channel.client.connection._sock != before)
        # One that was answered owes nothing, however long ago that was.
        after = channel.client.connection._sock
        worker.connection.transport.cycle.maybe_check_brpop_health()
        assert channel.client.connection._sock is after
        assert channel._brpop_sent_at is None
        push(broker)
        worker.take(1)

    def test_misses_nothing(self, broker: redis.Redis, broker_url: str, start: Start) -> None:
        """Push at random instants, often while somebody asks."""
        workers = [idle(start) for _ in range(2)]
        chance = random.Random(7)
        all_taken = threading.Event()
        threads = [threading.Thread(target=work, args=(each, all_taken)) for each in workers]
        for thread in threads:
            thread.start()
        try:
            for number in range(MESSAGES):
                push(broker, "allocation" + chance.choice(PRIORITIES), headers={"id": str(number)})
                # What they push at is the moment, not the state.
                time.sleep(chance.choice((0, chance.uniform(0, 0.003))))
            wait_until(lambda: sum(len(each.taken) for each in workers) >= MESSAGES)
        finally:
            all_taken.set()
            for thread in threads:
                thread.join()
        taken = [each for worker in workers for each in ids(worker.taken)]
        assert sorted(taken, key=int) == [str(number) for number in range(MESSAGES)]
        wait_until(lambda: held(broker) == (0, 0))


def work(worker: Worker, until: threading.Event) -> None:
    """Take and acknowledge."""
    done = 0
    while not until.is_set():
        worker.hub.run_once()
        for message in worker.taken[done:]:
            message.ack()
            done += 1
    worker.connection.transport._settle()


class TestAWorkerThatIsToldNothing:
    def test_looks_all_the_same(self, broker: redis.Redis, start: Start) -> None:
        worker = idle(start)
        connection = channel_of(worker).client.connection
        connection.send_command("CLIENT", "TRACKING", "OFF")
        assert connection.read_response() == b"OK"
        push(broker)
        worker.take(1)

    @pytest.mark.parametrize("forbidden", ["-client|tracking", "-@connection +ping", "-exists"])
    def test_is_handed_messages_as_stock_celery_where_it_may_not_be_told(
        self,
        broker: redis.Redis,
        start: Start,
        plain_url: str,
        forbidden: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        worker = start(url=plain_url)
        broker.execute_command("ACL", "SETUSER", "plain", *forbidden.split())
        channel = channel_of(worker)
        worker.turn(lambda: not channel._may_look_out and channel._in_poll)
        push(broker)
        worker.take(1)
        for _ in range(20):
            push(broker)
        for message in worker.take(21):
            message.ack()
        worker.turn(lambda: held(broker) == (0, 0))
        assert capsys.readouterr().out.count("arrivals_not_told") == 1

    def test_that_may_run_no_script_any_more_is_handed_them_too(
        self, broker: redis.Redis, start: Start, plain_url: str
    ) -> None:
        worker = idle(start, url=plain_url)
        broker.execute_command("ACL", "SETUSER", "plain", "-@scripting")
        for number in range(1, 5):
            push(broker)
            worker.take(number)
        assert not channel_of(worker).looks_out
