"""Celery's result backend: the ledger itself, and a mirror for clients that know only Redis."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import structlog
from celery import Celery, states
from celery.backends.base import BaseBackend
from celery.backends.redis import RedisBackend

from adapters.breakers import Breaker, CircuitOpen
from adapters.postgres.engine import create
from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.persistence import OUTAGES
from adapters.postgres.queries import JobQueries
from domain.errors import DomainError
from domain.imports.commands import ImportFile
from domain.jobs.executor import failure_of
from domain.jobs.model import Failure, Job, JobState

log = structlog.get_logger()

QUEUED = "QUEUED"
"""Celery state of a job that the ledger has accepted; PENDING is a job nobody knows."""

PROGRESS = "PROGRESS"
"""Celery state of an import's run that is not over; its info counts the rows that are done."""

STATES = {
    JobState.QUEUED: QUEUED,
    JobState.RETRY: states.RETRY,
    JobState.SUCCEEDED: states.SUCCESS,
    JobState.REJECTED: states.FAILURE,
    JobState.DEAD: states.FAILURE,
    JobState.CANCELLED: states.REVOKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the ledger is asked for."""

    jobs: JobQueries
    imports: ImportQueries
    close: Callable[[], None]


class LedgerBackend(BaseBackend):
    """Answers `AsyncResult` from the ledger; stores nothing, for what is done is committed.

    Any Celery app in whose environment Tallyman is installed can use it:
    `Celery(backend="ledger+postgresql+psycopg://user:password@host/database")`.
    """

    persistent = True
    # Flower answers 503 where it meets these.
    connection_errors = OUTAGES

    def __init__(self, app: Celery, url: str | None = None, **options: Any) -> None:
        super().__init__(app, url=url, **options)

    @cached_property
    def ledger(self) -> Ledger:
        # Built at first use, which in a worker is after the fork.
        engine = create(self.url, application="tallyman results")
        return Ledger(jobs=JobQueries(engine), imports=ImportQueries(engine), close=engine.dispose)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        job = self.ledger.jobs.find(task_id)
        if job is None:
            return {"status": states.PENDING, "result": None, "task_id": task_id}
        if job.kind == ImportFile.kind and not job.state.is_terminal:
            return {
                "status": PROGRESS,
                "result": self.ledger.imports.progress(_run_of(job)),
                "task_id": task_id,
            }
        return dict(
            self.meta_from_decoded(
                {
                    "status": STATES[job.state],
                    "result": _celery_result(job),
                    "traceback": job.error.traceback if job.error else None,
                    "children": [],
                    "date_done": job.finished_at.isoformat() if job.finished_at else None,
                    "task_id": task_id,
                }
            )
        )

    def _store_result(self, *_: Any, **__: Any) -> None:
        """Do nothing: the executor has committed the outcome with its effect."""

    def _forget(self, task_id: str) -> None:
        """Do nothing: the ledger's retention decides what is forgotten."""

    def __reduce__(
        self, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> tuple[Any, ...]:
        reduced: tuple[Any, ...] = super().__reduce__(args, {**(kwargs or {}), "url": self.url})
        return reduced


class RedisMirror:
    """Copies outcomes to Redis in Celery's own format, for stock clients of any language."""

    def __init__(self, app: Celery, url: str, *, expires_seconds: int) -> None:
        self._backend = _HastyRedis(app=app, url=url, expires=expires_seconds)
        # A worker that has a job to run should not wait for this one often, nor long; but what
        # is not copied stays so: it is tried again soon.
        self._breaker = Breaker("redis_mirror", failures=1, seconds=3.0)

    def copy(self, *jobs: Job) -> None:
        """Store how `jobs` stand; where Redis is away the ledger still answers."""
        # Of these, nothing that is to be kept can be there: they are stored in one go.
        done = {job.id: job.result for job in jobs if job.state is JobState.SUCCEEDED}
        if done:
            self._try(lambda: self._backend.store_successes(done), *done)
        for job in jobs:
            if job.id not in done:
                traceback = job.error.traceback if job.error else None
                self._store(job.id, _celery_result(job), STATES[job.state], traceback=traceback)

    def refuse(self, job_id: str, error: DomainError) -> None:
        """Store a refusal that the ledger cannot: there is no job by such an id."""
        self._store(job_id, _celery_exception(failure_of(error)), states.FAILURE)

    def _store(
        self, job_id: str, outcome: object, state: str, *, traceback: str | None = None
    ) -> None:
        self._try(
            lambda: self._backend.store_result(job_id, outcome, state, traceback=traceback), job_id
        )

    def _try(self, store: Callable[[], object], *job_ids: str) -> None:
        try:
            with self._breaker.calling():
                store()
        except CircuitOpen:
            for job_id in job_ids:
                log.debug("mirror_left_out", job_id=job_id)
        except Exception as error:  # noqa: BLE001  the outcome is committed, whatever fails here
            for job_id in job_ids:
                log.warning("mirror_failed", job_id=job_id, error=str(error))


class _HastyRedis(RedisBackend):
    """Gives up soon: its worker still holds the message, and has other jobs to run."""

    retry_policy: ClassVar[dict[str, float]] = {
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.connparams["socket_timeout"] = 1.0
        self.connparams["socket_connect_timeout"] = 1.0

    def store_successes(self, results: Mapping[str, object]) -> None:
        """Store the results of jobs that have succeeded, in one round trip.

        Celery's own way takes two for each, to keep a success from being overwritten.
        """
        values = {
            self.get_key_for_task(job_id): self.encode(
                {
                    "status": states.SUCCESS,
                    "result": result,
                    "traceback": None,
                    "children": [],
                    "date_done": self.app.now().isoformat(),
                    "task_id": job_id,
                }
            )
            for job_id, result in results.items()
        }
        self.ensure(self._set_all, (values,))

    def _set_all(self, values: Mapping[bytes, bytes]) -> None:
        with self.client.pipeline() as pipeline:
            for key, value in values.items():
                pipeline.set(key, value, ex=self.expires or None)
                pipeline.publish(key, value)
            pipeline.execute()


def _run_of(job: Job) -> str:
    # Who may not read payloads is told by what the job belongs to.
    return str(job.payload.get("run_id", job.correlation_id))


def _celery_result(job: Job) -> object:
    if job.state is JobState.CANCELLED:
        return {
            "exc_type": "TaskRevokedError",
            "exc_module": "celery.exceptions",
            "exc_message": ["cancelled"],
        }
    if job.error:
        return _celery_exception(job.error)
    return job.result


def _celery_exception(failure: Failure) -> dict[str, Any]:
    arguments: list[Any] = [failure.message]
    if failure.traceback is None:
        arguments.append(failure.details)
    # What is not ours goes by its name alone: a client may not have its class, or cannot make
    # one from a message, as those of SQLAlchemy.
    is_ours = failure.module.partition(".")[0] == "domain"
    return {
        "exc_type": failure.type,
        "exc_module": failure.module if is_ours else None,
        "exc_message": arguments,
    }
