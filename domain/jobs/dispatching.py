"""Dispatching: which jobs are told to the workers, and in what messages."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

ABOUT = "tallyman_about"
"""Header of a message that says what its job is about."""


class DueJob(NamedTuple):
    """A job that the relay has claimed for publishing: thousands a second, so a tuple."""

    job_id: str
    kind: str
    priority: int
    dispatches: int
    """Counting this one; more than 1 means an earlier one came to nothing."""
    correlation_id: str | None = None
    about: str = ""
    """What it is about, where few jobs were claimed; nothing of a person."""
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Jobs that the relay has claimed for publishing, the most urgent first."""

    jobs: Sequence[DueJob]
    pace: float | None = None
    """The rate, in jobs a second, that they were claimed at, where their queue is limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """A message to the workers: ids of jobs of one kind."""

    kind: str
    job_ids: tuple[str, ...]
    about: str = ""
    """What a job alone is about, as Flower shows it."""
    traceparents: tuple[str, ...] = ()
    """Where in traces its jobs come from, as far as that is known."""
    correlation_id: str | None = None
    """What its job belongs to, where it is of one."""

    @classmethod
    def of(cls, jobs: Sequence[DueJob]) -> "Dispatch":
        """Make one of jobs of one kind."""
        alone = jobs[0] if len(jobs) == 1 else None
        return cls(
            kind=jobs[0].kind,
            job_ids=tuple(job.job_id for job in jobs),
            about=alone.about if alone else "",
            traceparents=tuple(job.traceparent for job in jobs if job.traceparent is not None),
            correlation_id=alone.correlation_id if alone else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """How many jobs go into one message."""

    most: int = 1_000
    """Jobs in one message at the most."""
    spread: int = 8
    """Messages that a backlog is spread over before they grow, so that all workers have some."""

    def size(self, backlog: int, *, waiting: int = 0) -> int:
        """Jobs a message, for this many due at once where so many messages wait already."""
        # Those that wait keep workers busy, too: what comes on top need not be spread thin.
        return max(1, min(self.most, ceil(backlog / max(1, self.spread - waiting))))


def group(due: Sequence[DueJob], grouping: Grouping, *, waiting: int = 0) -> list[Dispatch]:
    """Put jobs of one kind into common messages, in the order of `due`.

    What was dispatched before travels alone: it may be what killed its worker.
    """
    fresh: dict[str, list[DueJob]] = defaultdict(list)
    alone = []
    for job in due:
        if job.dispatches > 1:
            alone.append(Dispatch.of([job]))
        else:
            fresh[job.kind].append(job)
    size = grouping.size(len(due), waiting=waiting)
    return [
        Dispatch.of(jobs[start : start + size])
        for jobs in fresh.values()
        for start in range(0, len(jobs), size)
    ] + alone
