"""How the system keeps its own house."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

from domain.jobs.commands import PruneLedger
from domain.jobs.kinds import JobKind
from domain.jobs.model import JOB_ID_LENGTH, Request, Submission
from domain.jobs.outcomes import Outcome, Succeeded
from domain.jobs.ports import JobsWork

QUEUE = "maintenance"
ATTEMPTS = 5

MOST_FIRST = JOB_ID_LENGTH - 20
"""Characters of the first job's id in those of the others: a number has to find room."""

_PART = re.compile(r"(?P<first>.+):part-(?P<number>[0-9]+)")


class Retention(Protocol):
    """Deletes what is old."""

    def prune(self, *, older_than_days: int, at_most: int) -> dict[str, int]:
        """Delete finished jobs, published events, closed messages; return how many of each."""


class MaintenanceWork(JobsWork, Protocol):
    """The slice of a unit of work that maintenance needs."""

    @property
    def retention(self) -> Retention: ...


def prune_ledgers(
    requests: Sequence[Request[PruneLedger]], work: MaintenanceWork
) -> Sequence[Outcome]:
    """Delete what finished before each command's day; where more is left, hand that over."""
    return [_prune(request, work) for request in requests]


def _prune(request: Request[PruneLedger], work: MaintenanceWork) -> Outcome:
    at_most = request.command.at_most
    pruned = work.retention.prune(older_than_days=request.command.older_than_days, at_most=at_most)
    if any(rows >= at_most for rows in pruned.values()):
        work.jobs.accept([(_next_part(request), QUEUE, ATTEMPTS)])
    return Succeeded(result=pruned)


def _next_part(request: Request[PruneLedger]) -> Submission:
    part = _PART.fullmatch(request.job_id)
    first, number = (part["first"], int(part["number"])) if part else (request.job_id, 1)
    return Submission(
        job_id=f"{first[:MOST_FIRST]}:part-{number + 1}",
        kind=PruneLedger.kind,
        payload=asdict(request.command),
        correlation_id=first,
        parent_id=request.job_id,
    )


KINDS = (
    JobKind(
        command=PruneLedger,
        handler=prune_ledgers,
        queue=QUEUE,
        max_attempts=ATTEMPTS,
        about="what finished {older_than_days} days ago",
    ),
)
