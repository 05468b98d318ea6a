"""The real `tallyman`, whose clock asks for a job each second that leaves a trace of its run.

`python -m tests.chaos.ticking beat` is a beat with one entry more, `… worker` a worker that knows
its kind. A tick writes one event: who counts the events of a tick's job knows how often it ran.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from domain.jobs.kinds import JobKind
from domain.jobs.maintenance import QUEUE
from domain.jobs.model import Request
from domain.jobs.outcomes import Outcome, Succeeded
from domain.jobs.ports import UnitOfWork
from domain.kinds import KINDS
from domain.messages import Command, Event
from worker import processes
from worker.command.main import main
from worker.schedule import Entry, Every, entries
from worker.settings import Settings

NAME = "tick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Command):
    """Note that a second has passed."""

    kind: ClassVar[str] = "test.tick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked(Event):
    """A second has passed."""

    slot: str

    @property
    def aggregate(self) -> str:
        return f"clock:{self.slot}"


def tick(requests: Sequence[Request[Tick]], work: UnitOfWork) -> Sequence[Outcome]:
    """Leave one event for each job."""
    for request in requests:
        work.record(request.job_id, [Ticked(slot=request.job_id)])
    return [Succeeded(result={}) for _ in requests]


def every_second(settings: Settings) -> tuple[Entry, ...]:
    """Return the schedule, and the ticks."""
    return (
        *entries(settings),
        Entry(name=NAME, kind=Tick.kind, payload={}, timing=Every(seconds=1)),
    )


if __name__ == "__main__":
    kinds = cast("dict[str, JobKind]", KINDS)
    kinds[Tick.kind] = JobKind(command=Tick, handler=tick, queue=QUEUE)
    # The name under which the process asks for its schedule.
    vars(processes)["entries"] = every_second
    main()
