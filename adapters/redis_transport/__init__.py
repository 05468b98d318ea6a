"""Celery's Redis transport, safe from what anybody may push into a list that it reads.

The stock one parses what it has taken before it has noted it anywhere: what cannot be parsed
ends the worker, or its connection, and is gone. Here it is wrapped into a message of the type
`UNREADABLE`, noted and delivered like every other, for the consumer to park.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from kombu import Connection, Message
from kombu import transport as transports
from kombu.asynchronous import Hub
from kombu.transport import redis as stock

from adapters.redis_transport.channel import Channel
from adapters.redis_transport.reading import UNREADABLE, read_message

__all__ = ["UNREADABLE", "Channel", "Transport", "give_back", "install", "read_message"]

SETTLED_SECONDS = 0.01
"""How long an acknowledgement waits for others: nothing else is done while Redis is told of one."""

LOOK_SECONDS = 1.0
"""How often queues are looked at though Redis has told of nothing."""


def install() -> None:
    """Have `redis://` and `rediss://` mean this transport in this process."""
    # By its alias, not by Celery's `broker_transport`: for kombu, TLS is in the alias's name.
    for scheme in ("redis", "rediss"):
        transports.TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        # Who has connected in this process before may have had it looked up.
        transports._transport_cache.pop(scheme, None)  # noqa: SLF001  nothing public forgets it


def give_back(messages: Iterable[Message]) -> None:
    """Put messages that nobody has begun back where they were, the last that was taken first."""
    for message in messages:
        if isinstance(message.channel, Channel):
            message.channel.qos.give_back(message.delivery_tag)
        else:
            message.requeue()


class Bell:
    """Has an event loop begin another round at once, where it would wait for something to come."""

    def __init__(self) -> None:
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)  # noqa: FBT003  its only parameter
        self._mouth.setblocking(False)  # noqa: FBT003  likewise

    def fileno(self) -> int:
        """Return what the loop listens to."""
        return self._ear.fileno()

    def ring(self) -> None:
        """Ring; once is enough."""
        with suppress(BlockingIOError):
            self._mouth.send(b".")

    def silence(self) -> None:
        """Hear it."""
        with suppress(BlockingIOError):
            self._ear.recv(4_096)

    def close(self) -> None:
        """Let go of it."""
        self._ear.close()
        self._mouth.close()


class Poller(stock.MultiChannelPoller):
    """The stock poller, which also listens where nothing may be taken."""

    def on_readable(self, fileno: int) -> None:
        """Read what came."""
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if kind == "BRPOP" and channel.looks_out and fileno not in self._paused_brpop:
            channel.hear()
        else:
            super().on_readable(fileno)


class Transport(stock.Transport):
    """The stock transport with these channels."""

    Channel = Channel
    bell: Bell | None = None
    """Rings in the event loop that this transport is part of."""
    _loop: Hub | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cycle: Any = Poller()

    def register_with_event_loop(self, connection: Connection, loop: Hub) -> None:
        """Have messages taken, and acknowledged, many at a time."""
        super().register_with_event_loop(connection, loop)
        self.bell = Bell()
        loop.add_reader(self.bell, self.bell.silence)
        loop.call_repeatedly(LOOK_SECONDS, self._look_again)
        self._loop = loop

    def close_connection(self, connection: Connection) -> None:
        """Close it, and what belongs to it."""
        super().close_connection(connection)
        if self.bell:
            self.bell.close()
            self.bell = None
        self._loop = None

    def settle_soon(self) -> None:
        """Have Redis told what was acknowledged, together with what will be in a moment."""
        if self._loop:
            # Of its timers: a worker that stops goes round no more, but heeds these.
            self._loop.call_later(SETTLED_SECONDS, self._settle)

    def _look_again(self) -> None:
        for channel in self.channels:
            channel.look_again()

    def _settle(self) -> None:
        for channel in self.channels:
            channel.qos.settle()
