"""Celery's Redis transport, safe from what anybody may push into a list that it reads.

The stock one parses what it has taken before it has noted it anywhere: what cannot be parsed
ends the worker, or its connection, and is gone. Here it is wrapped into a message of the type
`UNREADABLE`, noted and delivered like every other, for the consumer to park.
"""

import base64
from collections.abc import Mapping
from queue import Empty
from typing import Any, NoReturn, cast
from uuid import uuid4

import structlog
from kombu import transport as transports
from kombu.transport import redis as stock
from kombu.transport.virtual.base import Base64
from kombu.utils.json import dumps, loads
from redis.client import Pipeline, Redis

from domain.jobs.parking import is_too_deep

log = structlog.get_logger()

UNREADABLE = "application/vnd.tallyman.unreadable"
"""Content type of what lay in a list and is no message."""

_MAPPINGS = ("headers", "properties")
_BODY_ENCODINGS = frozenset({None, "base64", "utf-8"})


def install() -> None:
    """Have `redis://` and `rediss://` mean this transport in this process."""
    # By its alias, not by Celery's `broker_transport`: for kombu, TLS is in the alias's name.
    for scheme in ("redis", "rediss"):
        transports.TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        # Who has connected in this process before may have had it looked up.
        transports._transport_cache.pop(scheme, None)  # noqa: SLF001  nothing public forgets it


def read_message(item: bytes, queue: str) -> dict[str, Any]:
    """Return the message that lay in the list of `queue`, or one that wraps what lay there."""
    try:
        message = loads(item.decode())
        # It is written again when it is noted, by code that recurses.
        if is_too_deep(message, item):
            return _unreadable(item, queue)
        return _settled(message, queue)
    except Exception:  # noqa: BLE001  whatever it is that cannot be read, it is wrapped
        return _unreadable(item, queue)


def _settled(message: dict[str, Any], queue: str) -> dict[str, Any]:
    """Check the shape of a message, and replace what its sender must not decide.

    Raises:
        Exception: It has another shape.
    """
    headers, properties = (message[name] for name in _MAPPINGS)
    if not (isinstance(headers, dict) and isinstance(properties, dict)):
        raise TypeError(_MAPPINGS)
    encoding = properties.get("body_encoding")
    if encoding not in _BODY_ENCODINGS or not isinstance(message.get("body"), str | None):
        raise TypeError("body")
    if encoding == "base64":
        Base64().decode(message["body"] or "")
    info = properties.get("delivery_info")
    priority = properties.get("priority")
    message["properties"] = {
        **properties,
        # Under a tag that was used before, the note of another message would be lost.
        "delivery_tag": str(uuid4()),
        # It goes back to where it came from, not where it says.
        "delivery_info": {
            "exchange": "",
            "routing_key": queue,
            "redelivered": bool(isinstance(info, dict) and info.get("redelivered")),
        },
        "priority": priority if type(priority) is int else 0,
    }
    return message


def _unreadable(item: bytes, queue: str) -> dict[str, Any]:
    return {
        "body": base64.b64encode(item).decode(),
        "content-type": UNREADABLE,
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": False},
            "priority": 0,
        },
    }


class QoS(stock.QoS):
    """Gives back what was taken and not acknowledged, whatever has been written among it."""

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
        def restore(pipe: Pipeline) -> None:
            noted = cast("bytes | None", pipe.hget(self.unacked_key, tag))
            queue, message = self._read(noted) if noted else (None, None)
            pipe.multi()
            if noted and queue is None:
                # Nobody here reads any queue it could go to.
                return
            self._remove_from_indices(tag, pipe)
            if message:
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
                return queue, _settled(message, queue)
        except Exception as error:
            # kombu counts a KeyError among those of the connection.
            if isinstance(error, self.channel.connection_errors) and not isinstance(
                error, KeyError
            ):
                raise
        queues = self.channel.active_queues
        return (queues[0], _unreadable(noted, queues[0])) if queues else (None, None)

    def _put_back(
        self, pipe: Pipeline, queue: str, message: dict[str, Any], *, leftmost: bool
    ) -> None:
        message["headers"]["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
        priority = self.channel._get_message_priority(message)  # noqa: SLF001  as kombu's does
        push = pipe.lpush if leftmost else pipe.rpush
        push(self.channel._q_for_pri(queue, priority), dumps(message))  # noqa: SLF001  as above


class Channel(stock.Channel):
    """Delivers what cannot be read, wrapped, where the stock one raises."""

    QoS = QoS

    @property
    def is_adrift(self) -> bool:
        """Tell whether kombu has let go of this channel's connection, which broke."""
        return self.connection is None or self.connection.client is None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  kombu's signature
        if self.is_adrift:
            # Jobs that were in hand end later and are acknowledged here. The stock channel fails
            # in a way that ends the worker.
            raise ConnectionError("the connection that the message came by is gone")
        return dict(super()._connparams(asynchronous=asynchronous))

    def _brpop_read(self, **options: Any) -> bool:
        connection = self.client.connection
        try:
            taken = self.client.parse_response(connection, "BRPOP", **options)
        except self.connection_errors:
            # The next round connects again.
            connection.disconnect()
            raise
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()
        if not taken:
            raise Empty
        key, item = taken
        queue = key.decode().rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        self.connection._deliver(read_message(item, queue), queue)  # noqa: SLF001  as kombu's does
        return True

    def _receive_one(self, client: Any) -> Any:  # noqa: ANN401  kombu's signature
        try:
            return super()._receive_one(client)
        except RecursionError:
            _ignore()

    def _deliver_fanout_message(self, message: object, exchange: str) -> bool:
        # These are commands to all workers: who cannot be understood is not obeyed.
        if exchange not in self._fanout_to_queue:
            _ignore()
        queue = self._fanout_to_queue[exchange]
        try:
            settled = _settled(dict(cast("Mapping[str, Any]", message)), queue)
        except Exception:  # noqa: BLE001  as in `read_message`
            _ignore()
        self.connection._deliver(settled, queue)  # noqa: SLF001  as kombu's does
        return True

    def put_bytes(self, queue: str, item: bytes) -> None:
        """Lay into the list of `queue` what lay there before and is no message."""
        with self.conn_or_acquire() as client:
            client.lpush(self._q_for_pri(queue, 0), item)


def _ignore() -> NoReturn:
    log.warning("control_message_ignored")
    raise Empty


class Transport(stock.Transport):
    """The stock transport with these channels."""

    Channel = Channel
