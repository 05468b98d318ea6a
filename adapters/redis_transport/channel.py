"""Channels: what is taken from lists of Redis, and delivered."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Empty
from time import monotonic, time
from typing import Any, NoReturn, cast
from uuid import uuid4

import structlog
from kombu.transport import redis as stock
from kombu.utils.json import dumps
from redis.client import Redis
from redis.commands.core import Script
from redis.exceptions import NoPermissionError, ResponseError

from adapters.redis_transport.lookout import Lookout
from adapters.redis_transport.qos import QoS
from adapters.redis_transport.reading import read_message, settled

log = structlog.get_logger()

MOST_TAKEN = 50
"""Messages taken at once: Redis does nothing else meanwhile."""

TAKE = """
local room = tonumber(ARGV[1])
local taken = {}
for place = 1, #KEYS - 2 do
    while #taken < room do
        local item = redis.call('RPOP', KEYS[place + 2])
        if not item then
            break
        end
        local tag = ARGV[2] .. ':' .. #taken
        -- As kombu notes a message: the message, its exchange, its routing key.
        redis.call('HSET', KEYS[2], tag, '[' .. item .. ', "", ' .. ARGV[place + 3] .. ']')
        redis.call('ZADD', KEYS[1], ARGV[3], tag)
        taken[#taken + 1] = {place, tag, item}
    end
end
return taken"""
"""Takes from lists, the first first, and notes what it takes, in one step of Redis."""


class Channel(stock.Channel):
    """Delivers what cannot be read, wrapped, where the stock one raises.

    What waits is taken many at a time and noted in the same step, and while nothing waits Redis
    only tells that something has come: who is killed has lost nothing. The stock channel takes
    one, and then notes it; so does this one where Redis does not let it do better.
    """

    QoS = QoS
    reached: Callable[[str], None] = staticmethod(lambda _: None)
    """Told the name of each boundary as it is reached; tests interrupt there."""
    _own_client: Redis | None = None
    _taking: Script | None = None
    _may_take_many = True
    _may_look_out = True
    _in_poll: Any = False
    _brpop_sent_at: Any = None
    _held: dict[str, list[str]] | None = None
    """What is published together, by list."""
    looks_out = False
    """Whether by the connection to wait with Redis only tells, and hands nothing over."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._lookout = Lookout()
        super().__init__(*arguments, **options)

    def _create_client(self, asynchronous: bool = False) -> Redis:  # noqa: FBT001, FBT002  kombu's signature
        if asynchronous:
            return cast("Redis", super()._create_client(asynchronous=True))
        # The stock channel makes one for each command, which takes longer than the command.
        pool = self.pool
        if self._own_client is None or self._own_client.connection_pool is not pool:
            self._own_client = cast("Redis", super()._create_client())
        return self._own_client

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._takes_many:
            self._take_what_waits()
        if not self.qos.can_consume():
            return
        if self._takes_many and self._may_look_out:
            self._look_out()
        elif self.looks_out:
            self._look_out_no_more()
        else:
            super()._brpop_start(timeout)

    @property
    def _takes_many(self) -> bool:
        # Without a loop somebody waits for one message.
        return bool(self.connection.bell and self._may_take_many and not self.global_keyprefix)

    def _look_out(self) -> None:
        """Have Redis tell when something comes."""
        connection = self.client.connection
        lists = self._lists(self._queue_cycle.consume(len(self.active_queues)))
        self.looks_out = True
        self._in_poll, self._brpop_sent_at = connection, monotonic()
        self._lookout.ask(connection, [key for key, _ in lists])

    def _look_out_no_more(self) -> None:
        # Redis goes on telling as long as the connection lasts. The next round makes another.
        self.looks_out = False
        self.client.connection.disconnect()

    def look_again(self) -> None:
        """Take what waits in the next round, whatever Redis has told or not."""
        is_at_rest = self._in_poll and self.looks_out and self._lookout.is_answered
        # Where it may have no more, it still has to notice that its connection was closed.
        if is_at_rest and self.qos.can_consume():
            self._take_soon()

    def hear(self) -> None:
        """Read what Redis tells, which takes nothing."""
        connection = self.client.connection
        try:
            has_come = self._lookout.hear(connection)
        except self.connection_errors:
            connection.disconnect()
            # It is closed where nobody asked for long; the next round connects again.
            if not self._lookout.is_answered:
                raise
            return
        except ResponseError as error:
            log.warning("arrivals_not_told", reason=str(error))
            self._may_look_out = False
            self._look_out_no_more()
            return
        if self._lookout.is_answered:
            self._brpop_sent_at = None
        if has_come:
            self._take_soon()

    def _take_soon(self) -> None:
        # The next round finds that nobody waits.
        self._in_poll = None
        self._flush_brpop_reauth()

    def _take_what_waits(self) -> None:
        """Deliver what waits, as much as may be had."""
        while self.qos.can_consume():
            room = min(self.qos.can_consume_max_estimate() or MOST_TAKEN, MOST_TAKEN)
            queues = self._queue_cycle.consume(len(self.active_queues))
            if not queues:
                return
            try:
                taken = self._take(queues, room)
            except ResponseError as error:
                # Its user may run no script, or none that takes: it takes one at a time.
                if not _is_forbidden(error):
                    raise
                log.warning("messages_taken_singly")
                self._may_take_many = False
                return
            if taken:
                self.reached("messages.taken")
            for queue, tag, item in taken:
                self._queue_cycle.rotate(queue)
                self.qos.noted.add(tag)
                message = read_message(item, queue, tag=tag)
                self.connection._deliver(message, queue)  # noqa: SLF001  as kombu's does
            if taken:
                # They came after the loop reckoned how long it may rest.
                self.connection.bell.ring()
            if len(taken) < room:
                return

    def _take(self, queues: Sequence[str], room: int) -> list[tuple[str, str, bytes]]:
        """Return at most `room` messages: their queues, their tags and what lay there."""
        lists = self._lists(queues)
        client = self._create_client()
        if self._taking is None or self._taking.registered_client is not client:
            self._taking = client.register_script(TAKE)
        taken = cast(
            "list[tuple[int, bytes, bytes]]",
            self._taking(
                keys=[self.unacked_index_key, self.unacked_key, *(key for key, _ in lists)],
                args=[room, uuid4().hex, time(), *(dumps(queue) for _, queue in lists)],
            ),
        )
        return [(lists[place - 1][1], tag.decode(), item) for place, tag, item in taken]

    def _lists(self, queues: Sequence[str]) -> list[tuple[str, str]]:
        """Return the lists of queues, and whose each is, the first to take from first."""
        return [
            (self._q_for_pri(queue, priority), queue)
            for priority in self.priority_steps
            for queue in queues
        ]

    def take_no_more(self) -> None:
        """Take what Redis may be about to hand over, and nothing after it."""
        if self._in_poll:
            with suppress(Empty):
                self._brpop_read()

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
        if self.looks_out:
            self.hear()
            return False
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
            command = settled(dict(cast("Mapping[str, Any]", message)), queue)
        except Exception:  # noqa: BLE001  as in `read_message`
            _ignore()
        self.connection._deliver(command, queue)  # noqa: SLF001  as kombu's does
        return True

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """Count the messages that wait in each of `queues`, in one round trip."""
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
            for queue in queues:
                for priority in self.priority_steps:
                    pipeline.llen(self._q_for_pri(queue, priority))
            lengths = iter(pipeline.execute())
        return {queue: sum(islice(lengths, len(self.priority_steps))) for queue in queues}

    @contextmanager
    def together(self) -> Iterator[None]:
        """Lay all that is published within the context into its lists in one step, at its end.

        Where that fails, or the context does, nothing of it lies there.
        """
        self._held = defaultdict(list)
        try:
            yield
            held = self._held
        finally:
            self._held = None
        if held:
            with self.conn_or_acquire() as client, client.pipeline() as pipeline:
                for key, items in held.items():
                    pipeline.lpush(key, *items)
                pipeline.execute()

    def _put(self, queue: str, message: Mapping[str, Any], **options: Any) -> None:
        if self._held is None:
            super()._put(queue, message, **options)
        else:
            priority = self._get_message_priority(message, reverse=False)
            self._held[self._q_for_pri(queue, priority)].append(dumps(message))

    def put_bytes(self, queue: str, item: bytes) -> None:
        """Lay into the list of `queue` what lay there before and is no message."""
        with self.conn_or_acquire() as client:
            client.lpush(self._q_for_pri(queue, 0), item)


def _is_forbidden(error: ResponseError) -> bool:
    # Of a command in a script, Redis tells in words alone; those of version 6 are others.
    words = ("ACL failure in script", "The user executing the script can't run")
    return isinstance(error, NoPermissionError) or any(each in str(error) for each in words)


def _ignore() -> NoReturn:
    log.warning("control_message_ignored")
    raise Empty
