"""`tallyman jobs`: look at jobs, retry them, cancel them."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from adapters.postgres.queries import AttemptView, JobView
from domain.jobs.errors import JobNotFound
from domain.jobs.model import NOT_STORABLE, Failure, JobState
from domain.kinds import KINDS
from worker.command.database import database
from worker.command.job_changes import change_all, chosen, tell, tell_count
from worker.command.job_options import (
    CorrelationOption,
    DryRunOption,
    ErrorOption,
    KindOption,
    OlderOption,
    OptionalJobIds,
    QueueOption,
    SinceOption,
)
from worker.command.output import (
    AfterOption,
    JsonOption,
    note,
    say,
    show_fields,
    show_json,
    show_table,
    tell_of_more,
)

REASON_LENGTH = 80
MASK = "…"

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("list")
def list_jobs(
    *,
    state: Annotated[
        list[JobState] | None, typer.Option(help="Only jobs in this state; may be repeated.")
    ] = None,
    kind: KindOption = None,
    queue: QueueOption = None,
    error: ErrorOption = None,
    since: SinceOption = None,
    older_than: OlderOption = None,
    correlation_id: CorrelationOption = None,
    after: AfterOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Jobs to show at the most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with database() as opened:
        jobs = opened.jobs.newest(
            states=state or (),
            kind=kind,
            queue=queue,
            error=error,
            correlation_id=correlation_id,
            since=since,
            older_than=older_than,
            after=after,
            limit=limit,
        )
    if as_json:
        show_json([describe(job) for job in jobs])
        return
    show_table(
        "Jobs",
        ("id", "kind", "state", "attempts", "created", "finished", "reason"),
        [
            (
                job.id,
                job.kind,
                job.state,
                job.attempts,
                job.created_at,
                job.finished_at,
                job.error and _cut(f"{job.error.type}: {job.error.message}"),
            )
            for job in jobs
        ],
    )
    tell_of_more([each.id for each in jobs], limit=limit)


@app.command()
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show personal data in the payload.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show tracebacks whole, not their last line.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a job: what it was told, what came of it, and each attempt that failed."""
    with database() as opened:
        job = opened.jobs.find(job_id)
        if job is None:
            raise JobNotFound.of(job_id)
        failures = opened.jobs.failures(job_id)
    if as_json:
        attempts = [_describe_attempt(attempt) for attempt in failures]
        show_json({**describe(job, reveal=reveal), "failed_attempts": attempts})
    else:
        show_job(job, failures, reveal=reveal, whole=traceback)


@app.command()
def retry(
    job_ids: OptionalJobIds = None,
    *,
    state: Annotated[
        JobState | None, typer.Option(help="Retry all jobs in this state that fit: dead or retry.")
    ] = None,
    kind: KindOption = None,
    queue: QueueOption = None,
    error: ErrorOption = None,
    since: SinceOption = None,
    older_than: OlderOption = None,
    correlation_id: CorrelationOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run dead jobs again, with all their attempts, and those that wait for an attempt now."""
    which = chosen(
        job_ids,
        state,
        (JobState.DEAD, JobState.RETRY),
        dry_run=dry_run,
        kind=kind,
        queue=queue,
        error=error,
        since=since,
        older_than=older_than,
        correlation_id=correlation_id,
    )
    with database() as opened:
        if which is None:
            tell(opened.operations.retry(job_ids or []), done="retried", as_json=as_json)
        else:
            jobs = opened.operations.count_retriable(which)
            if dry_run:
                tell_count(jobs, "would be retried", as_json)
            else:
                change_all(opened.operations.retry_all(which), jobs, "retried", as_json)


@app.command()
def cancel(
    job_ids: OptionalJobIds = None,
    *,
    state: Annotated[
        JobState | None,
        typer.Option(help="Cancel all jobs in this state that fit: queued or retry."),
    ] = None,
    kind: KindOption = None,
    queue: QueueOption = None,
    error: ErrorOption = None,
    since: SinceOption = None,
    older_than: OlderOption = None,
    correlation_id: CorrelationOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Withdraw jobs that have not run; one that is running is let run."""
    which = chosen(
        job_ids,
        state,
        (JobState.QUEUED, JobState.RETRY),
        dry_run=dry_run,
        kind=kind,
        queue=queue,
        error=error,
        since=since,
        older_than=older_than,
        correlation_id=correlation_id,
    )
    with database() as opened:
        if which is None:
            tell(opened.operations.cancel(job_ids or []), done="cancelled", as_json=as_json)
        else:
            jobs = opened.operations.count_cancellable(which)
            if dry_run:
                tell_count(jobs, "would be cancelled", as_json)
            else:
                change_all(opened.operations.cancel_all(which), jobs, "cancelled", as_json)


@app.command()
def counts(*, correlation_id: CorrelationOption = None, as_json: JsonOption = False) -> None:
    """Count jobs by kind and state."""
    with database() as opened:
        found = opened.jobs.counts(correlation_id=correlation_id)
    if as_json:
        show_json(found)
    else:
        show_table(
            "Jobs",
            ("kind", "state", "jobs"),
            [(each.kind, each.state, each.jobs) for each in found],
        )


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
    for failure in failures:
        say(
            f"\nattempt {failure.attempt} failed at {failure.failed_at:%Y-%m-%d %H:%M:%S}"
            f" on {failure.worker}: {_told(failure.error, whole=whole)}"
        )
    if not job.payload_hash:
        note("this login may not read payloads")
    elif not reveal and _is_personal(job):
        note("the payload is of a person: --reveal shows it")


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
    head = f"{failure.type}: {failure.message}"
    if failure.traceback is None:
        return head
    # The last line is the exception itself; the one that says where it was raised is worth more.
    lines = failure.traceback.rstrip().splitlines()
    place = next((line.strip() for line in reversed(lines) if line.startswith("  File ")), "")
    return f"{head}\n\n{failure.traceback}" if whole else f"{head}\n  {place or lines[-1]}"


def _describe_attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "failed_at": attempt.failed_at,
        "error": attempt.error,
    }


def _cut(text: str) -> str:
    return text if len(text) <= REASON_LENGTH else f"{text[: REASON_LENGTH - 1]}…"
