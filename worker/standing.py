"""How a worker, a relay or a beat stands: asked from another thread, and answered at once."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from celery import bootsteps
from celery.worker import WorkController, state
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from worker.heartbeat import FRESH_SECONDS, Heartbeat
from worker.intake import Intake
from worker.metrics import process_catalogue as metrics
from worker.metrics.catalogue import Described, family
from worker.monitoring import Standing

WEDGED_SECONDS = 120.0
"""Whose loop did not go round for so long will not by itself: no statement may take as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Of a relay or a beat."""

    heartbeat: Heartbeat
    objection: Callable[[], str | None]
    """Says why it does nothing now; None where it does."""

    def stand(self) -> Standing:
        return _stand(self.heartbeat.age_seconds, self.objection())

    def collector(self) -> Collector:
        return _Figures(
            process=self.heartbeat.process,
            figures=lambda: {metrics.ROUND_AGE: self.heartbeat.age_seconds},
        )


@dataclass(slots=True, kw_only=True)
class Away:
    """What a process was told is away."""

    objection: str | None = None

    def tell(self, objection: str | None) -> None:
        self.objection = objection


@dataclass(frozen=True, slots=True, kw_only=True)
class Consuming:
    """Of a worker."""

    worker: WorkController
    began: float = field(default_factory=time.monotonic)

    def stand(self) -> Standing:
        consumer = getattr(self.worker, "consumer", None)
        intake = getattr(consumer, "intake", None)
        if consumer is None or not isinstance(intake, Intake):
            return _stand(time.monotonic() - self.began, "it is starting")
        if state.should_stop is not None or state.should_terminate is not None:
            return Standing(detail="it is stopping", is_ready=False)
        if not intake.is_connected or consumer.blueprint.state != bootsteps.RUN:
            # It tries again for ever: to start it again would help nobody.
            return Standing(detail="it has no connection to the broker", is_ready=False)
        return _stand(time.monotonic() - intake.ticked_at, intake.objection or self._idle())

    def _idle(self) -> str | None:
        tasks = self.worker.consumer.task_consumer
        queues = [queue.name for queue in tasks.queues] if tasks is not None else []
        if not queues:
            return "it takes jobs from no queue: `celery control add_consumer`, or start it again"
        idle = [name for name in queues if not tasks.consuming_from(name)]
        if idle:
            return f"it takes no jobs from {', '.join(idle)}"
        if not self._children():
            return "it has no process to run jobs in"
        return None

    def _children(self) -> int:
        return len(getattr(getattr(self.worker.pool, "_pool", None), "_pool", None) or ())

    def collector(self) -> Collector:
        return _Figures(process="worker", figures=self._figures)

    def _figures(self) -> Mapping[Described, float]:
        consumer = getattr(self.worker, "consumer", None)
        intake = getattr(consumer, "intake", None)
        if consumer is None or intake is None:
            return {}
        tasks = consumer.task_consumer
        return {
            metrics.INTAKE_OPEN: float(intake.objection is None),
            metrics.ROUND_AGE: time.monotonic() - intake.ticked_at,
            metrics.WORKER_QUEUES: float(len(tasks.queues) if tasks is not None else 0),
            metrics.WORKER_CHILDREN: float(self._children()),
            metrics.WORKER_MESSAGES: float(len(state.reserved_requests)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures(Collector):
    """Tells figures of one process, some of them by its name."""

    process: str
    figures: Callable[[], Mapping[Described, float]]

    def collect(self) -> Iterator[Metric]:
        for metric, value in self.figures().items():
            yield family(metric, [((self.process,) if metric.labels else (), value)])


def _stand(age_seconds: float, objection: str | None) -> Standing:
    if age_seconds > FRESH_SECONDS:
        return Standing(
            detail=f"its loop did not go round for {age_seconds:.0f} seconds",
            is_ready=False,
            is_live=age_seconds < WEDGED_SECONDS,
        )
    return Standing(detail=objection or "at work", is_ready=objection is None)
