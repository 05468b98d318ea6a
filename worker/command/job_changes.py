"""Changing many jobs, or a few by their ids: which are meant, and what became of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import typer

from adapters.postgres.job_filter import JobFilter
from adapters.postgres.operations import Operated
from domain.jobs.errors import JobNotFound
from domain.jobs.model import JobState
from worker.command.exit_codes import ExitCode
from worker.command.follow import progress
from worker.command.output import fail, note, say, show_json


def chosen(
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


def change_all(changes: Iterable[int], jobs: int, done: str, as_json: bool) -> None:
    """Have jobs changed, with a bar for people to look at, and say how many were."""
    changed = 0
    try:
        with progress("jobs", total=jobs) as show:
            for more in changes:
                changed += more
                show(changed)
    except KeyboardInterrupt:
        fail(
            f"{changed:,} of {jobs:,} jobs {done}, and they stay so: the same command again does"
            " the rest",
            ExitCode.INTERRUPTED,
        )
    tell_count(changed, done, as_json)


def tell_count(jobs: int, done: str, as_json: bool) -> None:
    """Say how many jobs were changed, or would be."""
    if as_json:
        show_json({done.replace(" ", "_"): jobs})
    else:
        say(f"{jobs:,} jobs {done}")


def tell(operated: Operated, *, done: str, as_json: bool) -> None:
    """Say what became of jobs that were given by their ids; the exit code says it too."""
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
