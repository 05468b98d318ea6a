"""Draining: a worker that stops finishes what it has in hand, or gives it back in time."""

import os
import threading
from contextlib import suppress
from typing import ClassVar

import structlog
from celery import Celery, bootsteps
from celery.worker import WorkController, state

from tasks import giving_back

log = structlog.get_logger()


class Drain(bootsteps.StartStopStep):
    """Part of a worker: at its stop, gives jobs time, and has them given back after that.

    A job that is given back is rolled back in its child, where no attempt is counted; its message
    returns to the broker, and another worker takes it.
    """

    requires = ("celery.worker.components:Pool",)
    seconds: ClassVar[float]

    def __init__(self, worker: WorkController, **_: object) -> None:
        super().__init__(worker)
        self._timer: threading.Timer | None = None

    def start(self, _: WorkController) -> None:
        """Do nothing: it is the stop that matters."""

    def stop(self, worker: WorkController) -> None:
        """Let the jobs in hand have their time; steps that the pool stops with come after this."""
        self._timer = threading.Timer(self.seconds, _give_back, [worker])
        self._timer.daemon = True
        self._timer.start()

    def terminate(self, _: WorkController) -> None:
        """Do nothing: Celery ends the children itself."""


def install(app: Celery, *, seconds: float) -> None:
    """Have the workers of `app` drain."""
    app.steps["worker"].add(type("Drain", (Drain,), {"seconds": seconds, "__module__": __name__}))


def _give_back(worker: WorkController) -> None:
    jobs = len(state.active_requests)
    if not jobs:
        return
    log.warning("jobs_given_back", messages=jobs)
    for child in worker.pool.info.get("processes", []):
        # A child that has no job in hand does nothing about it.
        with suppress(ProcessLookupError):
            os.kill(child, giving_back.SIGNAL)
