"""`tallyman jobs`: look at jobs, retry them, cancel them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from adapters.postgres.job_filter import JobFilter
from adapters.postgres.operations import Operated
from domain.jobs.errors import JobNotFound
from domain.jobs.model import JobState
from worker.command.database import database
from worker.command.exit_codes import ExitCode
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
from worker.command.output import JsonOption, note, say, show_json, show_table

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
    which = _filter(
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
            _tell(opened.operations.retry(job_ids or []), done="retried", as_json=as_json)
        elif dry_run:
            _tell_count(opened.operations.count_retriable(which), "would be retried", as_json)
        else:
            _tell_count(opened.operations.retry_all(which), "retried", as_json)


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
    which = _filter(
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
            _tell(opened.operations.cancel(job_ids or []), done="cancelled", as_json=as_json)
        elif dry_run:
            _tell_count(opened.operations.count_cancellable(which), "would be cancelled", as_json)
        else:
            _tell_count(opened.operations.cancel_all(which), "cancelled", as_json)


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


def _filter(
    job_ids: Sequence[str] | None,
    state: JobState | None,
    states: tuple[JobState, JobState],
    *,
    dry_run: bool,
    **criteria: Any,
) -> JobFilter | None:
    """Return which jobs are meant; None where their ids were given."""
    if bool(job_ids) == bool(state):
        raise typer.BadParameter(f"give ids, or --state {states[0]}")
    if state is None:
        if dry_run or any(value is not None for value in criteria.values()):
            raise typer.BadParameter("what picks jobs goes with --state, and not with ids")
        return None
    if state not in states:
        raise typer.BadParameter(f"--state is {' or '.join(states)} here, got {state}")
    return JobFilter(states=[state], **criteria)


def _tell_count(jobs: int, done: str, as_json: bool) -> None:
    if as_json:
        show_json({done.replace(" ", "_"): jobs})
    else:
        say(f"{jobs:,} jobs {done}")


def _tell(operated: Operated, *, done: str, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                done: operated.done,
                "refused": [
                    {"job_id": job_id, "code": error.code, "reason": error.message}
                    for job_id, error in operated.refused
                ],
            }
        )
    else:
        for job_id in operated.done:
            say(f"{done} {job_id}")
        for _, error in operated.refused:
            note(f"error: {error}")
    if operated.refused:
        not_found = all(isinstance(error, JobNotFound) for _, error in operated.refused)
        only = not_found and not operated.done
        raise typer.Exit(ExitCode.NOT_FOUND if only else ExitCode.REFUSED)


def _cut(text: str) -> str:
    return text if len(text) <= REASON_LENGTH else f"{text[: REASON_LENGTH - 1]}…"
