"""The broker as the relay sees it: publish ids, count what waits, notice lost memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import redis
import redis.backoff
import redis.retry
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import ChannelError, OperationalError
from uuid6 import uuid7

from adapters import redis_transport
from adapters.breakers import Breaker, CircuitOpen
from domain.jobs.dispatching import ABOUT, Dispatch
from domain.jobs.queues import CORRELATION, PACED

EPOCH_KEY = "tallyman:epoch"
HASTILY = {
    "socket_timeout": 5,
    "max_retries": 1,
    **dict.fromkeys(("interval_start", "interval_step", "interval_max"), 0.1),
}
"""How the broker is asked: who wants to know will ask again."""


class BrokerAway(Exception):
    """The broker did not take a message."""


class Sending(Protocol):
    """Send a message within the context, with the headers that it gives."""

    def __call__(
        self, dispatch: Dispatch, *, queue: str
    ) -> AbstractContextManager[Mapping[str, str]]: ...


class CeleryBroker:
    """Publishes through a Celery app's own connection pool, on any transport."""

    def __init__(self, app: Celery, *, url: str, sending: Sending | None = None) -> None:
        self._app = app
        self._sending: Sending = sending or (lambda *_, **__: nullcontext({}))
        self._asking: Connection | None = None
        self._memory = EpochKey(url) if url.startswith(("redis", "valkey")) else None
        # Two: a broker that is full answers every question and takes nothing.
        self._publishing = Breaker("broker_publish", failures=2, seconds=2.0)
        self._questions = Breaker("broker_ask", failures=2, seconds=2.0)

    def publish(
        self, dispatches: Sequence[Dispatch], *, queue: str, pace: float | None = None
    ) -> int:
        """Publish in order; return how many were taken before one was not.

        Redis takes all or none. Messages of a limited queue say at which pace, in jobs a second,
        they are handed out.
        """
        done = 0
        try:
            with self._publishing.calling(), self._app.producer_or_acquire() as producer:
                channel = producer.channel
                if isinstance(channel, redis_transport.Channel):
                    with channel.together():
                        for dispatch in dispatches:
                            self._send(dispatch, producer, queue=queue, pace=pace)
                    done = len(dispatches)
                else:
                    for dispatch in dispatches:
                        self._send(dispatch, producer, queue=queue, pace=pace)
                        done += 1
        except (CircuitOpen, OperationalError, OSError, redis.RedisError):
            pass
        return done

    def _send(
        self, dispatch: Dispatch, producer: Producer, *, queue: str, pace: float | None
    ) -> None:
        told = {
            ABOUT: dispatch.about or None,
            CORRELATION: dispatch.correlation_id,
            PACED: pace,
        }
        known = {name: value for name, value in told.items() if value is not None}
        with self._sending(dispatch, queue=queue) as headers:
            self._app.send_task(
                dispatch.kind,
                args=[list(dispatch.job_ids)],
                # A job alone is found in Flower by its own id.
                task_id=dispatch.job_ids[0] if len(dispatch.job_ids) == 1 else str(uuid7()),
                queue=queue,
                producer=producer,
                ignore_result=True,
                retry=False,
                # What is shown of it, the worker says.
                argsrepr="",
                headers={**headers, **known},
            )

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Count the messages that wait in each of `queues`.

        Raises:
            BrokerAway: The broker cannot be asked, or took no message a moment ago.
        """
        if self._publishing.is_resting:
            # What cannot be published must not be claimed: to give it back costs writes.
            raise BrokerAway("the broker took no message a moment ago and is left alone")
        with self._question():
            connection = self._asking or self._app.connection_for_read(transport_options=HASTILY)
            # One that failed is not asked again.
            self._asking = None
            channel = connection.default_channel
            if isinstance(channel, redis_transport.Channel):
                depths = channel.waiting(queues)
            else:
                depths = {queue: _depth(connection, queue) for queue in queues}
            self._asking = connection
            return depths

    def lost_its_memory(self) -> bool:
        """Tell whether the broker has forgotten since `remember` was last called."""
        with self._question():
            return self._memory is not None and not self._memory.is_known()

    def remember(self) -> None:
        """Leave a mark that vanishes when the broker forgets."""
        with self._question():
            if self._memory:
                self._memory.leave()

    @contextmanager
    def _question(self) -> Iterator[None]:
        try:
            with self._questions.calling():
                yield
        except (CircuitOpen, OperationalError, OSError, redis.RedisError) as error:
            raise BrokerAway(str(error)) from error


def _depth(connection: Connection, queue: str) -> int:
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:
            # Nobody has declared the queue yet, so nothing waits in it; its channel is closed.
            return 0


class EpochKey:
    """A key in Redis that is gone when Redis was emptied, replaced or lost its disk."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=3,
            socket_connect_timeout=3,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
        )

    def is_known(self) -> bool:
        return bool(self._redis.exists(EPOCH_KEY))

    def leave(self) -> None:
        self._redis.set(EPOCH_KEY, str(uuid7()))
