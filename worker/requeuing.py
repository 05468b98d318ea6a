"""Sending parked messages again, as they came."""

from base64 import b64decode
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.json import loads

from adapters.broker import BrokerAway
from adapters.postgres.parked import ParkedMessages, ParkedView
from adapters.redis_transport import Channel
from domain.jobs.errors import NotRequeued, ParkedNotFound
from domain.jobs.parking import Form


def requeue(app: Celery, parked: ParkedMessages, message_id: int) -> None:
    """Send a parked message to its queue again, and close it.

    Raises:
        ParkedNotFound: It is not there, or closed.
        NotRequeued: It is not kept whole, or cannot be sent; it stays open.
        BrokerAway: The broker does not take it; it stays open.
    """
    try:
        with parked.requeuing(message_id) as found, app.connection_for_write() as connection:
            if found is None:
                raise ParkedNotFound.of(message_id)
            message, content = found
            if content is None or len(content) < message.size:
                raise NotRequeued.of(message.id, "was not kept whole")
            connection.ensure_connection(max_retries=1, timeout=5)
            _send(connection.default_channel, message, content)
    except (OperationalError, ConnectionError) as error:
        raise BrokerAway(f"the broker does not answer: {error}") from error


def _send(
    channel: Any,  # noqa: ANN401  of whichever transport
    message: ParkedView,
    content: bytes,
) -> None:
    if message.form is Form.BYTES:
        if not isinstance(channel, Channel):
            raise NotRequeued.of(message.id, "is no message, and lay in a list of Redis")
        channel.put_bytes(message.queue, content)
        return
    came = loads(content)
    properties = came["properties"]
    try:
        prepared = channel.prepare_message(
            b64decode(came["body"]),
            properties.pop("priority", None),
            came["content-type"],
            came["content-encoding"],
            came["headers"],
            properties,
        )
        channel.basic_publish(prepared, exchange="", routing_key=message.queue)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise NotRequeued.of(message.id, f"cannot be written: {type(error).__name__}") from None
