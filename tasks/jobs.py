"""The task behind every job kind: take a message, have it executed, say how it went."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import UTC, datetime
from time import sleep
from typing import Any, ClassVar, Protocol

import structlog
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import Celery, Task
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.dispatch import Signal
from celery.utils.saferepr import saferepr
from celery.worker.request import Request

from domain.errors import DomainError, Interrupted, InvalidPayload, Unavailable
from domain.jobs.errors import Expired, IdempotencyConflict
from domain.jobs.executor import Executor, Report
from domain.jobs.holding import Holder
from domain.jobs.kinds import JobKind
from domain.jobs.model import NOT_STORABLE, Door, Failure, Job, JobState, Submission
from domain.jobs.queues import PACED
from tasks.ahead import ahead
from tasks.giving_back import hand
from tasks.protocol import HIDDEN, SCHEDULE, Schedule, is_id

log = structlog.get_logger()

ledger_away = Signal(name="ledger_away")
"""Sent in the worker's main process when a job went back because the ledger was away."""

PAUSE_SECONDS = 1.0
"""How long to wait before a message goes back that is the only trace of its job."""
TERMINATED = "its process was terminated; it runs again"
NOT_DUE = "it is not due yet"
REPR_LENGTH = 1_024
"""Characters of a value that are shown in Flower and in Celery's events."""


class Mirror(Protocol):
    """Where the outcome of a job that came as a message is copied for its producer."""

    def copy(self, *jobs: Job) -> None: ...


class Gate(Protocol):
    """What operators have set for queues."""

    def objection(self, queue: str, *, pace: float | None) -> str | None:
        """Say why a message may not run now that was handed out at `pace`; None where it may."""


class Traces(Protocol):
    """What is told of the journey of jobs."""

    def running(self, message: Context, *, queue: str) -> AbstractContextManager[None]:
        """Run the jobs of a message within the context."""

    def adopt(self, submission: Submission) -> Submission:
        """Say where in a trace a job is that a message carries, if its producer did not."""


class Runtime(Protocol):
    """What a worker process has built after its fork."""

    @property
    def executor(self) -> Executor: ...

    @property
    def gate(self) -> Gate: ...

    @property
    def holder(self) -> Holder: ...

    @property
    def mirror(self) -> Mirror: ...

    @property
    def traces(self) -> Traces: ...


class JobDead(Exception):
    """The job is out of attempts; the message says what its last one failed with."""


class AttemptFailed(Exception):
    """Stands for an exception that may quote what is of a person, or that must not reach Celery."""


class QueueHeld(Exception):
    """The queue may not run jobs now; the relay hands the job out again when it may."""


class LedgerAway(Reject):
    """Nothing was decided: the message goes back, to be taken when the ledger is there."""


class JobRequest(Request):
    """A message on its way to a job's task."""

    _has_to_end = False
    """Its process is being told."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kwargsrepr = self._request_dict["kwargsrepr"] = self._shown()
        if not self.args:
            self._argsrepr = self._request_dict["argsrepr"] = self.task.summary(self.kwargs)

    def _shown(self) -> str:
        known = {field: self.kwargs[field] for field in self.task.fields if field in self.kwargs}
        told = [
            f"{field!r}: {HIDDEN if self.task.is_personal else saferepr(value, REPR_LENGTH)}"
            for field, value in known.items()
        ]
        # What is no field of the kind may be of a person, whatever the kind.
        more = [HIDDEN] if len(known) < len(self.kwargs) else []
        return "{" + ", ".join(told + more) + "}"

    def revoked(self) -> bool:
        """Run it all the same: its job is due in the ledger, where alone jobs are withdrawn."""
        return False

    def terminate(self, *arguments: Any, **options: Any) -> None:
        self._has_to_end = True
        super().terminate(*arguments, **options)
        self._has_to_end = False

    def _announce_revoked(self, *_: Any) -> None:
        # Celery calls this when it tells a process to end, and drops the message then. It goes
        # back when the process has gone: not before, for its request would be taken for this one.
        if not self._has_to_end:
            self.reject(requeue=True)
            self.send_event("task-retried", exception=TERMINATED, traceback=None)

    def on_failure(self, exc_info: ExceptionInfo, *arguments: Any, **options: Any) -> None:
        super().on_failure(exc_info, *arguments, **options)
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        match error:
            case LedgerAway():
                ledger_away.send(sender=self.task)
            # Celery tells nobody of these, and Flower would show them as running.
            case Ignore(args=(JobState.CANCELLED,)):
                self.send_event("task-revoked", terminated=False, signum=None, expired=False)
            case Ignore(args=(JobState.QUEUED,)):
                self.send_event("task-retried", exception=NOT_DUE, traceback=None)
            case _:
                pass


class JobTask(Task):
    """Runs jobs of one kind.

    A message is one of two: a producer's, with the payload as keyword arguments and the job id
    as task id; or the relay's, with a list of job ids as its only argument.
    """

    abstract = True
    Request = JobRequest
    acks_late = True
    reject_on_worker_lost = True
    # A child that ignored the time limit is killed in the middle of a job: its message goes back,
    # to be delivered again as a suspect.
    acks_on_timeout = False
    throws: ClassVar[tuple[type[Exception], ...]] = (DomainError, JobDead)
    is_personal: bool
    home: str
    """The queue of its kind; `queue` is Celery's word for something else."""
    fields: Sequence[str]
    """Names of what a payload may hold."""
    summary: Callable[[Mapping[str, Any]], str]
    """Says what a job is about."""
    runtime: Callable[[], Runtime]

    def __call__(self, /, *job_ids: Sequence[str], **payload: Any) -> dict[str, Any]:
        # Celery's own would take a field named `self` of the payload for the task.
        try:
            if self.request.id in ahead:
                return self.run(*job_ids, **payload)
            with self.runtime().traces.running(self.request, queue=self.home):
                return self.run(*job_ids, **payload)
        except MemoryError:
            # In the hands of Celery's parent process this one ends the worker and all its children.
            raise AttemptFailed(MemoryError.__name__) from None

    def run(self, /, *job_ids: Sequence[str], **payload: Any) -> dict[str, Any]:
        delivery = self.request.delivery_info or {}
        redelivered = bool(delivery.get("redelivered"))
        try:
            with hand.taking():
                objection = self._objection()
                if job_ids:
                    reports = self._run_dispatched(
                        job_ids[0], redelivered=redelivered, is_held=objection is not None
                    )
                else:
                    reports = [
                        self._run_submitted(
                            payload, redelivered=redelivered, is_held=objection is not None
                        )
                    ]
        except Interrupted as error:
            log.info("message_given_back", reason=str(error))
            raise Reject(str(error), requeue=True) from None
        except Unavailable as error:
            log.info("message_given_back", reason=type(error).__name__)
            raise LedgerAway(str(error), requeue=True) from error
        if any(_is_held(report, is_held=objection is not None) for report in reports):
            log.info("message_held", jobs=len(reports), reason=objection)
            raise Retry(objection, exc=QueueHeld(objection))
        if len(reports) == 1:
            return self._answer(reports[0])
        return _summary(reports)

    def _objection(self) -> str | None:
        pace = (self.request.headers or {}).get(PACED)
        return self.runtime().gate.objection(self.home, pace=pace)

    def _run_dispatched(
        self, job_ids: Sequence[str], *, redelivered: bool, is_held: bool
    ) -> list[Report]:
        if not isinstance(job_ids, list) or not all(map(is_id, job_ids)):
            raise InvalidPayload(f"{self.name} takes a list of job ids, or keyword arguments")
        runtime = self.runtime()
        run = runtime.holder.hold_dispatched if is_held else runtime.executor.run_dispatched
        reports = run(self.name, job_ids, redelivered=redelivered)
        runtime.mirror.copy(
            *(
                report.job
                for report in reports
                if report.job.door is Door.CELERY and not _is_held(report, is_held=is_held)
            )
        )
        return reports

    def _run_submitted(
        self, payload: dict[str, Any], *, redelivered: bool, is_held: bool
    ) -> Report:
        try:
            submission = self.submission(self.request, payload)
        except InvalidPayload as error:
            # It cannot be stored as it is; what can be, is, so that the refusal is on record.
            submission = self.submission(self.request, {NOT_STORABLE: error.message})
        if report := ahead.report(submission.job_id):
            return report
        runtime = self.runtime()
        try:
            report = _run(
                runtime,
                runtime.traces.adopt(submission),
                Schedule.of(self.request.headers),
                redelivered=redelivered,
                is_held=is_held,
            )
        except IdempotencyConflict:
            log.warning("job_conflicts")
            raise
        except (DomainError, Unavailable):
            raise
        except Exception as error:
            # The attempt is not on record, as while the database still works for a worker that
            # died. The message is all there is of this job: it goes back, not too fast.
            log.error(  # noqa: TRY400  a traceback may quote what is of a person
                "attempt_not_recorded",
                job_id=submission.job_id,
                kind=self.name,
                error=type(error).__name__,
                exc_info=not self.is_personal,
            )
            sleep(PAUSE_SECONDS)
            raise Reject(type(error).__name__, requeue=True) from None
        if not (self.request.ignore_result or _is_held(report, is_held=is_held)):
            runtime.mirror.copy(report.job)
        return report

    def submission(self, context: Context, payload: Mapping[str, Any]) -> Submission:
        """Return the job that a message carries.

        Raises:
            InvalidPayload: The ledger cannot hold it.
        """
        headers = context.headers or {}
        origin = {
            "correlation_id": context.correlation_id or context.id,
            "parent_id": context.parent_id,
            "traceparent": headers.get("traceparent"),
        }
        return Submission(
            job_id=context.id,
            kind=self.name,
            payload=payload,
            # Garbage about where a job comes from is left out: the job is none the worse for it.
            **{name: text for name, text in origin.items() if is_id(text)},
        )

    def may_gather(self, request: JobRequest) -> bool:
        """Tell whether a message may run together with others: it carries a payload, due now."""
        return not (
            request.args
            or request.delivery_info.get("redelivered")
            or SCHEDULE in request.request_dict
        )

    def _answer(self, report: Report) -> dict[str, Any]:
        job = report.job
        match job.state:
            case JobState.SUCCEEDED:
                return dict(job.result or {})
            case JobState.REJECTED:
                raise _refusal(job.error)
            case JobState.DEAD:
                raise self._shown(report) or JobDead(job.error.message if job.error else job.id)
            case JobState.RETRY:
                # The ledger holds the next attempt: nothing is published here.
                raise Retry(
                    f"attempt {job.attempts} of {job.max_attempts} failed",
                    exc=self._shown(report),
                    when=job.run_after,
                )
            case JobState.CANCELLED | JobState.QUEUED:
                raise Ignore(job.state)

    def _shown(self, report: Report) -> Exception | None:
        if report.exception is None or not self.is_personal:
            return report.exception
        return AttemptFailed(type(report.exception).__name__)


def register(app: Celery, kinds: Iterable[JobKind], runtime: Callable[[], Runtime]) -> None:
    """Give `app` a task for each job kind."""
    for kind in kinds:
        task = type(
            "JobTask",
            (JobTask,),
            {
                "name": kind.name,
                "is_personal": kind.personal,
                "home": kind.queue,
                "fields": tuple(field.name for field in fields(kind.command)),
                "summary": staticmethod(kind.summary),
                "runtime": staticmethod(runtime),
                "__doc__": kind.command.__doc__,
                "__module__": __name__,
            },
        )
        app.register_task(task())


def _refusal(failure: Failure | None) -> DomainError:
    if failure is None:
        return DomainError("refused")
    known = {error.__name__: error for error in _subclasses(DomainError)}
    return known.get(failure.type, DomainError)(failure.message, failure.details)


def _subclasses(error: type[DomainError]) -> Iterable[type[DomainError]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _is_held(report: Report, *, is_held: bool) -> bool:
    # Where a job is held, its next worker may have told its outcome by now: say nothing of it.
    return is_held and not report.job.state.is_terminal


def _run(
    runtime: Runtime,
    submission: Submission,
    schedule: Schedule,
    *,
    redelivered: bool,
    is_held: bool,
) -> Report:
    """Run a job now, or put on record what becomes of it: no worker waits with a job in hand."""
    now = datetime.now(tz=UTC)
    run_at = max(now, schedule.eta or now)
    executor = runtime.executor
    if schedule.expires and schedule.expires <= run_at:
        return executor.cancel_expired(submission, expired=Expired.at(schedule.expires))
    if run_at > now:
        return executor.postpone(submission, run_after=run_at)
    held = runtime.holder.hold_submitted(submission, redelivered=redelivered) if is_held else None
    return held or executor.run_submitted(submission, redelivered=redelivered)


def _summary(reports: Sequence[Report]) -> dict[str, Any]:
    return dict(Counter(str(report.job.state) for report in reports))
