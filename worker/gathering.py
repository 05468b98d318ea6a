"""Gathering: messages that wait for a free process are given to it together."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.concurrency.prefork import TaskPool
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.common import ignore_errors

from adapters.redis_transport import Channel, give_back
from tasks.jobs import JobTask
from tasks.together import run_together
from worker.parking import ParkingConsumer

MOST_TOGETHER = 50
"""Messages in one transaction."""
FIRST_TOGETHER = 1
"""Messages in one transaction of a task of which nobody knows yet how long it takes."""
TOGETHER_SECONDS = 0.1
"""How long messages in one transaction should take together: slow ones go by themselves."""
MOST_MORE = 250
"""Messages that a worker takes beyond one for each of its processes."""
EVENTS_SECONDS = 0.05
"""How long events for Flower wait for further ones."""


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """Messages of one task that a process has in hand together."""

    gathering: "Gathering"
    requests: Sequence[Request]
    began: list[float] = field(default_factory=list)

    def start(self, pool: TaskPool) -> None:
        """Hand the messages to a process."""
        task = self.requests[0].task
        pool.apply_async(
            run_together,
            args=(task.name, [_message(request) for request in self.requests]),
            accept_callback=self._on_accepted,
            timeout_callback=self._on_timeout,
            callback=self._on_traced,
            error_callback=self._on_failure,
            soft_timeout=task.soft_time_limit,
            timeout=task.time_limit,
            correlation_id=self.requests[0].id,
        )

    def _on_accepted(self, pid: int, time_accepted: float) -> None:
        self.began.append(time_accepted)
        for request in self.requests:
            request.on_accepted(pid, time_accepted)

    def _on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001  Celery's signature
        for request in self.requests:
            request.on_timeout(soft, timeout)

    def _on_traced(self, traced: Sequence[tuple[object, ...]]) -> None:
        with self._ending():
            for began in self.began:
                self.gathering.learn(self.requests, time.monotonic() - began)
            for request, result in zip(self.requests, traced, strict=True):
                request.on_success(result)

    def _on_failure(self, exc_info: ExceptionInfo) -> None:
        with self._ending():
            for request in self.requests:
                if _has_process_gone(exc_info):
                    request.on_failure(exc_info)
                else:
                    # Nobody knows which of them have run: Celery would acknowledge them all.
                    state.task_ready(request)
                    request.reject(requeue=True)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.gathering.end(self)


@dataclass(kw_only=True, eq=False)
class Gathering:
    """Has messages that carry payloads and wait for a process go to it together.

    As long as a process is free, each goes to one at once. The busier a worker, the more of them
    share a transaction.
    """

    consumer: Consumer
    pool: TaskPool
    _waiting: deque[Request] = field(default_factory=deque)
    _runs: set[Run] = field(default_factory=set)
    _most: dict[str, int] = field(default_factory=dict)
    """Messages of a task in one transaction."""
    _more: int = 0
    """Messages that the broker delivers now beyond one for each process."""

    def take(self, request: Request) -> bool:
        """Have a message wait; false where it has to go by itself, now."""
        if not (isinstance(request.task, JobTask) and request.task.may_gather(request)):
            return False
        self._waiting.append(request)
        self._ask_for_more()
        return True

    def hand_over(self) -> None:
        """Give what waits to processes that are free."""
        while self._waiting and self._free_processes() > 0:
            run = Run(self, self._next())
            self._runs.add(run)
            run.start(self.pool)
            self._ask_for_more()

    def learn(self, requests: Sequence[Request], seconds: float) -> None:
        """Let more messages of a task go together where these were soon done, fewer where not."""
        name = requests[0].task.name
        most = self._most_together(name)
        if seconds > TOGETHER_SECONDS:
            self._most[name] = max(1, len(requests) // 2)
        elif len(requests) >= most:
            self._most[name] = min(2 * most, MOST_TOGETHER)

    def end(self, run: Run) -> None:
        """Note that a process is done with what it was given."""
        self._runs.discard(run)
        self._ask_for_more()

    def give_back(self) -> None:
        """Let others have what waits: no process here will."""
        waiting = [request.message for request in self._waiting]
        self._waiting.clear()
        give_back(reversed(waiting))

    def forget(self) -> None:
        """Forget all: the connection broke, and what was taken by it is delivered again."""
        self._waiting.clear()
        self._runs.clear()
        self._more = 0

    def _next(self) -> list[Request]:
        """Take what has waited longest, and what came right after it for the same task."""
        task = self._waiting[0].task
        requests: list[Request] = []
        most = self._most_together(task.name)
        while self._waiting and self._waiting[0].task is task and len(requests) < most:
            requests.append(self._waiting.popleft())
        return requests

    def _most_together(self, name: str) -> int:
        return self._most.get(name, FIRST_TOGETHER)

    def _ask_for_more(self) -> None:
        """Have the broker deliver one more for each that takes up no process of its own.

        And, while processes are busy, as many as these soon have in hand: what takes long is
        left to workers that have a process for it.
        """
        connection = self.consumer.connection
        if connection is None or connection.transport.driver_type == "amqp":
            # RabbitMQ tells a consumer of a quorum queue once and for all how many it may have.
            return
        most = max(
            (self._most_together(run.requests[0].task.name) for run in self._runs), default=1
        )
        soon = most * int(self.pool.num_processes) if most > 1 else 0
        more = min(self._together() - len(self._runs) + soon, MOST_MORE)
        if more > self._more:
            self.consumer.qos.increment_eventually(more - self._more)
        elif more < self._more:
            self.consumer.qos.decrement_eventually(self._more - more)
        else:
            return
        self._more = more
        self.consumer.qos.update()

    def _free_processes(self) -> int:
        alone = len(state.reserved_requests) - len(self._waiting) - self._together()
        return int(self.pool.num_processes) - len(self._runs) - alone

    def _together(self) -> int:
        return sum(len(run.requests) for run in self._runs)


def _has_process_gone(exc_info: ExceptionInfo) -> bool:
    error = exc_info.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    return isinstance(
        error,
        WorkerLostError | Terminated | TimeLimitExceeded | SystemExit | KeyboardInterrupt,
    )


def _message(request: Request) -> tuple[Any, ...]:
    return (
        request.id,
        request.request_dict,
        request.body,
        request.content_type,
        request.content_encoding,
    )


class GatheringConsumer(ParkingConsumer):
    """Celery's consumer, with messages and events gathered."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._gathering: Gathering | None = None
        self._sends_soon = False
        if self.hub and isinstance(self.pool, TaskPool):
            self._gathering = Gathering(consumer=self, pool=self.pool)
            self._hand_over_alone: Callable[[Request], None] = self.on_task_request
            self.on_task_request: Callable[[Request], None] = self._hand_over
        self._loops = 0
        """Event loops that were begun: each connection has one of its own."""

    def loop_args(self) -> tuple[Any, ...]:
        """Have the loop that begins hand over what waits, whatever the last one left undone.

        A loop forgets all that it still had to do when one thing of it fails.
        """
        self._loops += 1
        if self._gathering:
            self.hub.call_soon(self._turn, self._gathering, self._loops)
        arguments: tuple[Any, ...] = super().loop_args()
        return arguments

    def on_send_event_buffered(self) -> None:
        """Send events of many messages together: a message more takes longer than what it says."""
        if self.hub and not self._sends_soon:
            self._sends_soon = True
            self.timer.call_after(EVENTS_SECONDS, self._send_events)

    def on_close(self) -> None:
        """Give back what waits; where the connection is gone, it comes again by itself."""
        if self._gathering:
            if self.connection is not None and self.task_consumer is not None:
                with ignore_errors(self.connection):
                    self._give_back(self._gathering)
            self._gathering.forget()
        super().on_close()
        # What connecting has begun, Celery ends, and this with it.
        self._sends_soon = False

    def _give_back(self, gathering: Gathering) -> None:
        channel = self.task_consumer.channel
        if isinstance(channel, Channel):
            # Or it would be handed what it gives back.
            channel.take_no_more()
        gathering.give_back()

    def _send_events(self) -> None:
        self._sends_soon = False
        self._flush_events()

    def _hand_over(self, request: Request) -> None:
        if not (self._gathering and self._gathering.take(request)):
            self._hand_over_alone(request)

    def _turn(self, gathering: Gathering, loop: int) -> None:
        # In each round of the loop, before it looks for what processes can be written to. Of a loop
        # that has ended it may be left over, or not.
        if loop == self._loops:
            gathering.hand_over()
            self.hub.call_soon(self._turn, gathering, loop)
