"""The broker as the relay sees it: publish ids, count what waits, notice lost memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis
import redis.backoff
import redis.retry
from celery import Celery
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError
from uuid6 import uuid7

from domain.jobs.dispatching import Dispatch

EPOCH_KEY = "tallyman:epoch"


class BrokerAway(Exception):
    """The broker did not take a message."""


class CeleryBroker:
    """Publishes through a Celery app's own connection pool, on any transport."""

    def __init__(self, app: Celery, *, url: str) -> None:
        self._app = app
        self._asking: Connection | None = None
        self._memory = EpochKey(url) if url.startswith(("redis", "valkey")) else None

    def publish(self, dispatches: Sequence[Dispatch], *, queue: str) -> int:
        """Publish in order; return how many were taken before one was not."""
        done = 0
        try:
            with self._app.producer_or_acquire() as producer:
                for dispatch in dispatches:
                    alone = len(dispatch.job_ids) == 1
                    self._app.send_task(
                        dispatch.kind,
                        args=[list(dispatch.job_ids)],
                        # A job alone is found in Flower by its own id.
                        task_id=dispatch.job_ids[0] if alone else str(uuid7()),
                        queue=queue,
                        producer=producer,
                        ignore_result=True,
                        retry=False,
                        argsrepr=f"(<{len(dispatch.job_ids)} jobs>,)" if not alone else None,
                    )
                    done += 1
        except (OperationalError, ConnectionError, redis.RedisError):
            pass
        return done

    def depth(self, queue: str) -> int:
        """Count the messages that wait in `queue`.

        Raises:
            BrokerAway: The broker cannot be asked.
        """
        with _translated():
            connection = self._asking or self._app.connection_for_read()
            # One that failed is not asked again.
            self._asking = None
            try:
                declared = connection.default_channel.queue_declare(queue=queue, passive=True)
            except ChannelError:
                # Nobody has declared the queue yet, so nothing waits in it.
                connection.release()
                return 0
            self._asking = connection
            return int(declared.message_count)

    def lost_its_memory(self) -> bool:
        """Tell whether the broker has forgotten since `remember` was last called."""
        with _translated():
            return self._memory is not None and not self._memory.is_known()

    def remember(self) -> None:
        """Leave a mark that vanishes when the broker forgets."""
        with _translated():
            if self._memory:
                self._memory.leave()


class EpochKey:
    """A key in Redis that is gone when Redis was emptied, replaced or lost its disk."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
        )

    def is_known(self) -> bool:
        return bool(self._redis.exists(EPOCH_KEY))

    def leave(self) -> None:
        self._redis.set(EPOCH_KEY, str(uuid7()))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, ConnectionError, OSError, redis.RedisError) as error:
        raise BrokerAway(str(error)) from error
