"""Tells Flower, and whoever listens to Celery's events, how far an import's run is."""

from collections.abc import Mapping
from typing import Any

import structlog
from celery import Celery, Task
from celery.signals import task_success

from adapters.result_backend import PROGRESS
from domain.imports.commands import ImportChunk, ImportFile

log = structlog.get_logger()

EVENT = f"task-{PROGRESS.lower()}"
"""Celery names a state of its own after the event; the run's job has no other until it is over."""


def install(app: Celery) -> None:
    """Send an event after each chunk that is not the last of its run."""

    def tell(sender: Task, result: Any, **_: object) -> None:  # noqa: ANN401  as it was returned
        match result:
            case {"run_id": str(run_id), "progress": dict(progress)}:
                _send(app, sender, run_id, progress)
            case _:
                pass

    task_success.connect(tell, sender=app.tasks[ImportChunk.kind], weak=False)


def _send(app: Celery, chunk: Task, run_id: str, progress: Mapping[str, Any]) -> None:
    try:
        with app.events.default_dispatcher(hostname=chunk.request.hostname) as events:
            events.send(
                EVENT,
                uuid=progress["job_id"],
                name=ImportFile.kind,
                args=f"run {run_id}",
                kwargs="",
                result="{rows_done:,} of {rows:,} rows, {state}".format(**progress),
            )
    except Exception as error:  # noqa: BLE001  the chunk is done, whether anybody hears of it or not
        log.debug("progress_not_told", run_id=run_id, error=str(error))
