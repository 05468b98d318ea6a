"""One job: what it was told, what came of it, and what comes next."""

import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, assert_never

from adapters.postgres.queries import AttemptView, JobView
from domain.jobs.model import NOT_STORABLE, Failure, JobState
from domain.jobs.queues import QueueSettings
from domain.kinds import KINDS
from worker.command.output import note, say, show_fields, show_json

MASK = "…"
OF_LIBRARIES = re.compile(
    r'  File "(?:<|.*/python3\.\d+/(?!site-packages/)'
    r"|.*/site-packages/(?!(?:adapters|domain|tasks|worker)/))"
)
"""Of a traceback, a place in code that is not ours, wherever that is installed."""


def describe(job: JobView, *, reveal: bool = False) -> dict[str, Any]:
    """Return what is known of a job as JSON values; a personal payload is masked."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "queue": job.queue,
        "door": job.door,
        "priority": job.priority,
        "correlation_id": job.correlation_id,
        "traceparent": job.traceparent,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "dispatches": job.dispatches,
        "created_at": job.created_at,
        "run_after": job.run_after,
        "finished_at": job.finished_at,
        "payload": job.payload if reveal else _shown_payload(job),
        "result": job.result,
        "error": job.error,
    }


def show_job(
    job: JobView,
    failures: Sequence[AttemptView] = (),
    *,
    outlook: str | None = None,
    reveal: bool = False,
    whole: bool = False,
) -> None:
    """Print a job for people."""
    known = describe(job, reveal=reveal)
    payload, result, error = (known.pop(name) for name in ("payload", "result", "error"))
    show_fields({name: value for name, value in known.items() if value is not None})
    say("\npayload:")
    show_json(payload)
    if result is not None:
        say("\nresult:")
        show_json(result)
    if error is not None:
        say(f"\nerror: {_told(error, whole=whole)}")
    before = error and _told(error, whole=whole)
    for failure in failures:
        told = _told(failure.error, whole=whole)
        say(
            f"\nattempt {failure.attempt} failed at {failure.failed_at:%Y-%m-%d %H:%M:%S}"
            f" on {failure.worker}: {'the same' if told == before else told}"
        )
        before = told
    if outlook is not None:
        say(f"\nnext: {outlook}")
    if not job.payload_hash:
        note("this login may not read payloads")
    elif not reveal and _is_personal(job):
        note("the payload is of a person: --reveal shows it")


def outlook(job: JobView, queue: QueueSettings | None, *, now: datetime) -> str:
    """Say what will become of a job, and of a retry of it; `queue` is what is set for its queue."""
    match job.state:
        case JobState.SUCCEEDED:
            return "nothing: it succeeded, and its effect and its result are committed"
        case JobState.REJECTED:
            return "nothing: the business said no, which is final; mend it in a job with another id"
        case JobState.CANCELLED:
            return "nothing: it was withdrawn before it ran; hand it in with another id"
        case JobState.DEAD:
            return _outlook_of_dead(job)
        case JobState.QUEUED | JobState.RETRY:
            return _outlook_of_open(job, queue, now=now)
        case _ as never:
            assert_never(never)


def _outlook_of_dead(job: JobView) -> str:
    if job.is_scrubbed:
        return "nothing: what it was told was erased with a person, so it cannot be retried"
    if job.kind not in KINDS:
        return f"nothing: this version knows no kind {job.kind}, so a retry would wait for one"
    again = f"`tallyman jobs retry {job.id}` gives it {job.max_attempts} attempts anew"
    if job.error is not None and job.error.type == "WorkerLost":
        return f"nothing by itself; {again}, each of which may end a worker process again"
    return f"nothing by itself; {again}: what failed was rolled back, so nothing is done twice"


def _outlook_of_open(job: JobView, queue: QueueSettings | None, *, now: datetime) -> str:
    if job.next_dispatch is None:
        return "it is kept until the last chunk of its import has run"
    if queue is not None and (objection := queue.objection(pace=None)):
        return f"it waits, as {objection}"
    due = f"{job.next_dispatch:%Y-%m-%d %H:%M:%S}"
    attempt = f"attempt {job.attempts + 1} of {job.max_attempts}"
    if job.next_dispatch <= now:
        return f"{attempt}, due since {due}: a relay has yet to hand it out"
    if job.dispatches:
        return f"{attempt} was handed out; if no worker ends it, it is handed out again at {due}"
    return f"{attempt} at {due}; `tallyman jobs retry {job.id}` makes it now"


def _is_personal(job: JobView) -> bool:
    # Of a kind that is not known any more, who can say?
    return job.kind not in KINDS or KINDS[job.kind].personal


def _shown_payload(job: JobView) -> dict[str, Any]:
    if _is_personal(job):
        return dict.fromkeys(job.payload, MASK)
    # What is no field of the kind may be of a person, whatever the kind.
    known = {field.name for field in fields(KINDS[job.kind].command)} | {NOT_STORABLE}
    return {name: value if name in known else MASK for name, value in job.payload.items()}


def _told(failure: Failure, *, whole: bool) -> str:
    if whole:
        told = f"{failure.type}: {failure.message}"
        return told if failure.traceback is None else f"{told}\n\n{failure.traceback}"
    # PostgreSQL's errors, and the statement that SQLAlchemy adds, go on for many lines.
    head, *more = f"{failure.type}: {failure.message}".splitlines()
    told = f"{head} …" if more else head
    if failure.traceback is None:
        return told
    # The last line is the exception itself; the one that says where our own code was is worth more.
    lines = failure.traceback.rstrip().splitlines()
    places = [line for line in lines if line.startswith("  File ")]
    ours = [line for line in places if not OF_LIBRARIES.match(line)]
    place = (ours or places or lines)[-1]
    return f"{told}\n  {place.strip()}"


def describe_attempt(attempt: AttemptView) -> dict[str, Any]:
    """Return what is known of an attempt that failed as JSON values."""
    return {
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "failed_at": attempt.failed_at,
        "error": attempt.error,
    }
