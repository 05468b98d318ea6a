"""Intake: a worker takes no jobs while PostgreSQL is away, and goes on by itself."""

import threading
import time
from typing import Any, ClassVar, Protocol

import structlog
from celery import Celery, bootsteps
from celery.worker.consumer import Consumer

from tasks.jobs import ledger_away

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How often PostgreSQL is asked."""
LEAST_PAUSE_SECONDS = 1.0
MOST_PAUSE_SECONDS = 30.0
"""How long no job is taken after one found the ledger away though it answers: its disk is full, or
it has no connection to spare. The pause doubles while that goes on."""


class Watch(Protocol):
    """Asks PostgreSQL."""

    def objection(self) -> str | None:
        """Say why no job can run now; None where one can."""

    def close(self) -> None:
        """Let go of PostgreSQL."""


class Intake(bootsteps.StartStopStep):
    """Part of a worker's consumer: cancels the consumption of jobs and takes it up again.

    It is closed until PostgreSQL has answered once. Remote control, events and heartbeats are
    not consumed through here and go on.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    watch: ClassVar[Watch]

    def __init__(self, consumer: Consumer, **_: object) -> None:
        super().__init__(consumer)
        self._consumer = consumer
        self._is_open = False
        self._reason: str | None = None
        self._pause = LEAST_PAUSE_SECONDS
        self._not_before = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_tick_asked_for = False
        self.ticked_at = time.monotonic()
        """When the consumer's loop last went round."""
        self.is_connected = False
        """Whether there is a connection to the broker, so that the loop goes round."""
        consumer.intake = self

    @property
    def objection(self) -> str | None:
        """Say why no jobs are taken; None where they are."""
        return None if self._is_open else self._reason or "PostgreSQL has not answered yet"

    def start(self, _: Consumer) -> None:
        """Begin to watch; after each connection to the broker, stay as it is."""
        self.ticked_at, self.is_connected = time.monotonic(), True
        # The loop of the connection before may have forgotten that it was asked.
        self._is_tick_asked_for = False
        self._consumer.call_soon(self._settle)
        if self._thread is None:
            ledger_away.connect(self._on_ledger_away)
            self._thread = threading.Thread(target=self._watch, name="intake", daemon=True)
            self._thread.start()

    def stop(self, _: Consumer) -> None:
        """Go on with the watch: the connection to the broker is made again."""
        self.is_connected = False

    def shutdown(self, _: Consumer) -> None:
        """Watch no more."""
        self._stopping.set()

    def info(self, _: Consumer) -> dict[str, Any]:
        """Tell `celery inspect stats` and Flower."""
        return {"intake": {"is_open": self._is_open, "reason": self._reason}}

    def _watch(self) -> None:
        while not self._stopping.is_set():
            if not self._is_tick_asked_for:
                self._is_tick_asked_for = True
                self._consumer.call_soon(self._tick)
            try:
                objection = self.watch.objection()
            except Exception:
                # Better to take jobs that may fail than none for ever.
                log.exception("intake_watch_failed")
                objection = None
            if objection is not None:
                self._consumer.call_soon(self._close, objection)
            elif not self._is_open and time.monotonic() >= self._not_before:
                self._consumer.call_soon(self._open)
            self._stopping.wait(LOOK_SECONDS)
        self.watch.close()

    def _on_ledger_away(self, **_: object) -> None:
        now = time.monotonic()
        if now < self._not_before:
            return
        has_been_quiet = now > self._not_before + MOST_PAUSE_SECONDS
        self._pause = (
            LEAST_PAUSE_SECONDS if has_been_quiet else min(2 * self._pause, MOST_PAUSE_SECONDS)
        )
        self._not_before = now + self._pause
        self._consumer.call_soon(self._rest)

    # What follows runs in the consumer's own loop.

    def _tick(self) -> None:
        self.ticked_at, self._is_tick_asked_for = time.monotonic(), False

    def _open(self) -> None:
        if self._is_open or self._consumer.blueprint.state != bootsteps.RUN:
            return
        self._is_open, self._reason = True, None
        log.info("intake_open")
        self._settle()

    def _rest(self) -> None:
        # Where the watch has closed it, it knows better why.
        if self._is_open:
            self._close("a job found the ledger away")

    def _close(self, reason: str) -> None:
        # Who joins a worker where nothing was ever taken is told as well why that is.
        if self._is_open or self._reason is None:
            log.warning("intake_closed", reason=reason)
        self._is_open, self._reason = False, reason
        self._settle()

    def _settle(self) -> None:
        tasks = self._consumer.task_consumer
        if tasks is None or self._consumer.blueprint.state != bootsteps.RUN:
            return
        if self._is_open:
            tasks.consume()
        else:
            # What is delivered all the same goes back to the broker.
            tasks.cancel()


def install(app: Celery, *, watch: Watch) -> None:
    """Have the worker of `app` watch PostgreSQL."""
    app.steps["consumer"].add(type("Intake", (Intake,), {"watch": watch, "__module__": __name__}))
