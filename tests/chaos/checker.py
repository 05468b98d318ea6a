"""The verdict over a run: what clients were told against what the system holds.

Nothing of the product is imported here or below: an error of the product's own audit, or of a
constant that both would share, could not hide in here. Rules are in `tests.chaos.rules`, a
function each.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.evidence import Evidence, collect
from tests.chaos.history import Door, What, read
from tests.chaos.rules import changes, events, imports, jobs, orders, stock, users
from tests.chaos.rules.problems import Case, Problem, Rule, Sort
from tests.chaos.testimony import TERMINAL, Testimony, hear

RULES: tuple[Rule, ...] = (
    *jobs.RULES,
    *orders.RULES,
    *changes.RULES,
    *users.RULES,
    *imports.RULES,
    *stock.RULES,
    *events.RULES,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a run; it is good where there are no problems."""

    problems: list[str]
    """What is wrong, with which value."""
    accepted: int
    """Jobs that clients were told are taken, through either door."""
    refused: int
    ambiguous_landed: int
    """Jobs handed over with an error, that are in the ledger all the same."""
    ambiguous_absent: int
    """Those that are not."""
    finished: Mapping[str, int]
    """Jobs of the ledger by final state."""
    lost: int
    """Jobs that `submit` accepted and that are not in the ledger, or were deleted from it."""
    lost_by_transport: int
    """Messages of door (a) that were sent and never seen by the ledger."""
    left_open: int
    duplicated: int
    """Effects that are there more than once."""
    events: int
    published_again: int
    """Entries of the stream beyond one for each event."""
    faults: Mapping[str, int]
    """By kind."""

    @property
    def is_good(self) -> bool:
        return not self.problems


def check(
    history: Path,
    database_url: str,
    *,
    stream_url: str | None = None,
    may_be_dead: bool = False,
) -> Verdict:
    """Hold what clients tell against what PostgreSQL and the stream hold.

    Call it when nothing works any more: what is not finished then is a problem. Without
    `stream_url` nothing is said about the stream. `may_be_dead` is for runs in which jobs
    themselves are to blame, as where one kills its worker each time.
    """
    testimony = hear(read(history))
    evidence = collect(database_url, stream_url=stream_url)
    case = Case(testimony=testimony, evidence=evidence)
    problems = [problem for rule in RULES for problem in rule(case)]
    if may_be_dead:
        problems = [problem for problem in problems if problem.sort is not Sort.DEAD]
    return _verdict(testimony, evidence, problems)


def _verdict(testimony: Testimony, evidence: Evidence, problems: list[Problem]) -> Verdict:
    sorts = Counter(problem.sort for problem in problems)
    told = testimony.jobs
    unsure = [
        job_id for job_id, job in told.items() if job.was(What.AMBIGUOUS) and not job.accepted
    ]
    landed = sum(job_id in evidence.jobs for job_id in unsure)
    seen = testimony.read_events | dict(evidence.stream or ())
    distinct = set(seen.values())
    return Verdict(
        problems=[str(problem) for problem in problems],
        accepted=sum(bool(job.accepted) for job in told.values()),
        refused=sum(job.was(What.REFUSED) for job in told.values()),
        ambiguous_landed=landed,
        ambiguous_absent=len(unsure) - landed,
        finished=dict(
            Counter(job.state for job in evidence.jobs.values() if job.state in TERMINAL)
        ),
        lost=sorts[Sort.LOST],
        lost_by_transport=sum(
            bool(job.accepted[Door.MESSAGE])
            and not job.accepted[Door.SUBMISSION]
            and job_id not in evidence.jobs
            for job_id, job in told.items()
        ),
        left_open=sum(job.state not in TERMINAL for job in evidence.jobs.values()),
        duplicated=sorts[Sort.DUPLICATED],
        events=len(evidence.events),
        published_again=len(seen) - len(distinct),
        faults=dict(Counter(fault.kind for fault in testimony.faults)),
    )
