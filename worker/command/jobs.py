"""`tallyman jobs`: look at jobs, retry them, cancel them."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from domain.jobs.errors import JobNotFound
from domain.jobs.model import JobState
from worker.command.database import database
from worker.command.job_changes import change_all, chosen, tell, tell_count
from worker.command.job_details import describe, describe_attempt, outlook, show_job
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
    show_json,
    show_table,
    tell_of_more,
)

REASON_LENGTH = 80

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
        bool, typer.Option("--traceback", help="Show errors and tracebacks whole, not a line.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a job: what it was told, each attempt that failed, and what comes next."""
    with database() as opened:
        job = opened.jobs.find(job_id)
        if job is None:
            raise JobNotFound.of(job_id)
        failures = opened.jobs.failures(job_id)
        queue = opened.queue_settings.read().get(job.queue)
    ahead = outlook(job, queue, now=datetime.now(UTC))
    if as_json:
        attempts = [describe_attempt(attempt) for attempt in failures]
        known = describe(job, reveal=reveal)
        show_json({**known, "outlook": ahead, "failed_attempts": attempts})
    else:
        show_job(job, failures, outlook=ahead, reveal=reveal, whole=traceback)


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


def _cut(text: str) -> str:
    return text if len(text) <= REASON_LENGTH else f"{text[: REASON_LENGTH - 1]}…"
