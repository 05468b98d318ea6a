"""What was taken and not yet acknowledged, as Redis has it noted."""

from typing import Any, cast

from kombu import Message
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps, loads
from redis.client import Pipeline, Redis

from adapters.redis_transport.reading import settled, unreadable
from domain.jobs.parking import is_too_deep


class QoS(stock.QoS):
    """Gives back what was taken and not acknowledged, whatever has been written among it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.noted: set[str] = set()
        """Tags of messages that were noted as they were taken, and are not delivered yet."""
        self._acknowledged: list[str] = []

    def append(self, message: Message, delivery_tag: str) -> None:
        """Note a message that is delivered."""
        if delivery_tag in self.noted:
            self.noted.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, together with others where an event loop goes round."""
        if self.channel.is_adrift or not self.channel.connection.bell:
            super().ack(delivery_tag)
            return
        if not self._acknowledged:
            self.channel.connection.settle_soon()
        self._acknowledged.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)

    def settle(self) -> None:
        """Tell Redis what was acknowledged; where it is away, these messages come again."""
        tags, self._acknowledged = self._acknowledged, []
        if tags:
            self.channel.reached("messages.settling")
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags)
                pipe.hdel(self.unacked_key, *tags)
                pipe.execute()

    def give_back(self, delivery_tag: str) -> None:
        """Put a message back as if it had not been taken: nobody has begun with it."""
        self._restore(delivery_tag, is_begun=False)
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ANN401  kombu's signature
        """Tell Redis what was acknowledged last, and give back the rest."""
        if not self.channel.is_adrift:
            self.settle()
        super().restore_unacked_once(stderr)

    def restore_unacked(self, client: Redis | None = None) -> None:
        """Give back all that is taken; where the connection broke, it comes again by itself."""
        if self.channel.is_adrift:
            self._delivered.clear()
        else:
            super().restore_unacked(client)

    def restore_by_tag(
        self,
        tag: bytes | str,
        client: Redis | None = None,
        leftmost: bool = False,  # noqa: FBT001, FBT002  kombu's signature
    ) -> None:
        self._restore(tag, client, leftmost=leftmost)

    def _restore(
        self,
        tag: bytes | str,
        client: Redis | None = None,
        *,
        leftmost: bool = False,
        is_begun: bool = True,
    ) -> None:
        def restore(pipe: Pipeline) -> None:
            noted = cast("bytes | None", pipe.hget(self.unacked_key, tag))
            queue, message = self._read(noted) if noted else (None, None)
            pipe.multi()
            if noted and queue is None:
                # Nobody here reads any queue it could go to.
                return
            self._remove_from_indices(tag, pipe)
            if message:
                if is_begun:
                    message["headers"]["redelivered"] = True
                    message["properties"]["delivery_info"]["redelivered"] = True
                self._put_back(pipe, str(queue), message, leftmost=leftmost)

        with self.channel.conn_or_acquire(client) as connected:
            connected.transaction(restore, self.unacked_key)

    def _read(self, noted: bytes) -> tuple[str | None, dict[str, Any] | None]:
        """Return what was noted, and its queue; what is no note goes to a queue that is read."""
        try:
            message, exchange, routing_key = loads(noted.decode())
            bound = self.channel._lookup(exchange, routing_key)  # noqa: SLF001  as kombu's does
            queue = routing_key if routing_key in bound else next(iter(bound))
            if isinstance(queue, str) and queue and not is_too_deep(message, noted):
                return queue, settled(message, queue)
        except Exception as error:
            # kombu counts a KeyError among those of the connection.
            if isinstance(error, self.channel.connection_errors) and not isinstance(
                error, KeyError
            ):
                raise
        queues = self.channel.active_queues
        for queue in queues:
            # What cannot be read was noted as it lay there, and may be all there is of a message.
            end = f', "", {dumps(queue)}]'.encode()
            if noted.startswith(b"[") and noted.endswith(end):
                return queue, unreadable(noted[1 : -len(end)], queue)
        return (queues[0], unreadable(noted, queues[0])) if queues else (None, None)

    def _put_back(
        self, pipe: Pipeline, queue: str, message: dict[str, Any], *, leftmost: bool
    ) -> None:
        priority = self.channel._get_message_priority(message)  # noqa: SLF001  as kombu's does
        push = pipe.lpush if leftmost else pipe.rpush
        push(self.channel._q_for_pri(queue, priority), dumps(message))  # noqa: SLF001  as above
