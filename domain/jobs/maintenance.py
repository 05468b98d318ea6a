"""How the system keeps its own house."""

from collections.abc import Sequence
from typing import Protocol

from domain.jobs.commands import PruneLedger
from domain.jobs.kinds import JobKind
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Succeeded

QUEUE = "maintenance"


class Retention(Protocol):
    """Deletes what is old."""

    def prune(self, *, older_than_days: int, at_most: int) -> dict[str, int]:
        """Delete finished jobs, published events, closed messages; return how many of each."""


class MaintenanceWork(Protocol):
    """The slice of a unit of work that maintenance needs."""

    @property
    def retention(self) -> Retention: ...


def prune_ledgers(
    requests: Sequence[Request[PruneLedger]], work: MaintenanceWork
) -> Sequence[Outcome]:
    """Delete what finished before each command's day."""
    return [
        Succeeded(
            result=work.retention.prune(
                older_than_days=request.command.older_than_days,
                at_most=request.command.at_most,
            )
        )
        for request in requests
    ]


KINDS = (
    JobKind(
        command=PruneLedger,
        handler=prune_ledgers,
        queue=QUEUE,
        about="what finished {older_than_days} days ago",
    ),
)
