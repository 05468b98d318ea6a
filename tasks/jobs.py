"""The task behind every job kind: take a message, have it executed, say how it went."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from time import sleep
from typing import Any, ClassVar, Protocol

import structlog
from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry
from celery.worker.request import Request

from domain.errors import DomainError, InvalidPayload, Unavailable
from domain.jobs.executor import Executor, Report
from domain.jobs.kinds import JobKind
from domain.jobs.model import NOT_STORABLE, Door, Failure, Job, JobState, Submission

log = structlog.get_logger()

PAUSE_SECONDS = 1.0
"""How long to wait before a message goes back that is the only trace of its job."""


class Mirror(Protocol):
    """Where the outcome of a job that came as a message is copied for its producer."""

    def copy(self, job: Job) -> None: ...

    def refuse(self, job_id: str, error: DomainError) -> None:
        """Answer for a job whose very id the ledger cannot hold."""


class Runtime(Protocol):
    """What a worker process has built after its fork."""

    @property
    def executor(self) -> Executor: ...

    @property
    def mirror(self) -> Mirror: ...


class JobDead(Exception):
    """The job is out of attempts; the message says what its last one failed with."""


class AttemptFailed(Exception):
    """Stands for an exception that may quote what is of a person."""


class JobRequest(Request):
    """A message on its way to a job's task."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.task.is_personal:
            self._kwargsrepr = "{" + ", ".join(f"{field!r}: …" for field in self.kwargs) + "}"

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001  Celery's signature
        if not soft:
            # The child is killed in the middle of a job: before Celery acknowledges the message,
            # give it back, to be delivered again as a suspect.
            self.reject(requeue=True)
        super().on_timeout(soft, timeout)


class JobTask(Task):
    """Runs jobs of one kind.

    A message is one of two: a producer's, with the payload as keyword arguments and the job id
    as task id; or the relay's, with a list of job ids as its only argument.
    """

    abstract = True
    Request = JobRequest
    acks_late = True
    reject_on_worker_lost = True
    throws: ClassVar[tuple[type[Exception], ...]] = (DomainError, JobDead)
    is_personal: bool
    runtime: Callable[[], Runtime]

    def __call__(self, /, *job_ids: Sequence[str], **payload: Any) -> dict[str, Any]:
        # Celery's own would take a field named `self` of the payload for the task.
        return self.run(*job_ids, **payload)

    def run(self, /, *job_ids: Sequence[str], **payload: Any) -> dict[str, Any]:
        delivery = self.request.delivery_info or {}
        redelivered = bool(delivery.get("redelivered"))
        try:
            if job_ids:
                reports = self._run_dispatched(job_ids[0], redelivered=redelivered)
            else:
                reports = [self._run_submitted(payload, redelivered=redelivered)]
        except Unavailable as error:
            # Nothing was decided: the message goes back, to be taken when the ledger is there.
            raise Reject(str(error), requeue=True) from error
        if len(reports) == 1:
            return self._answer(reports[0])
        return _summary(reports)

    def _run_dispatched(self, job_ids: Sequence[str], *, redelivered: bool) -> list[Report]:
        if not isinstance(job_ids, list) or not all(map(_is_text, job_ids)):
            raise InvalidPayload(f"{self.name} takes a list of job ids, or keyword arguments")
        runtime = self.runtime()
        reports = runtime.executor.run_dispatched(self.name, job_ids, redelivered=redelivered)
        for report in reports:
            if report.job.door is Door.CELERY:
                runtime.mirror.copy(report.job)
        return reports

    def _run_submitted(self, payload: dict[str, Any], *, redelivered: bool) -> Report:
        headers = self.request.headers or {}
        origin = {
            "correlation_id": self.request.correlation_id or self.request.id,
            "parent_id": self.request.parent_id,
            "traceparent": headers.get("traceparent"),
        }
        identity = {
            "job_id": self.request.id,
            "kind": self.name,
            # Garbage about where a job comes from is left out: the job is none the worse for it.
            **{name: text for name, text in origin.items() if _is_text(text)},
        }
        try:
            submission = Submission(payload=payload, **identity)
        except InvalidPayload as error:
            # It cannot be stored as it is; what can be, is, so that the refusal is on record.
            submission = self._unstorable(error, identity)
        runtime = self.runtime()
        try:
            report = runtime.executor.run_submitted(submission, redelivered=redelivered)
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
        runtime.mirror.copy(report.job)
        return report

    def _unstorable(self, error: InvalidPayload, identity: dict[str, Any]) -> Submission:
        try:
            return Submission(payload={NOT_STORABLE: error.message}, **identity)
        except InvalidPayload as worse:
            self.runtime().mirror.refuse(identity["job_id"], worse)
            raise

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


def _is_text(value: object) -> bool:
    """Tell whether the ledger can hold `value` as an id."""
    return isinstance(value, str) and value.isprintable()


def _summary(reports: Sequence[Report]) -> dict[str, Any]:
    return dict(Counter(str(report.job.state) for report in reports))
