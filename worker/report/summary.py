"""What a period came to: the figures behind the page, the tables and the JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapters.postgres.period import POINTS, ErrorSum, Period, RunSum, Times
from domain.jobs.model import OPEN_STATES, JobState
from worker.report.parts import Part, parts
from worker.told import told

ENDS = tuple(state for state in JobState if state not in OPEN_STATES)
"""How jobs end: succeeded, rejected, dead, cancelled."""
MEASURES = {"waited": "queue wait", "ran": "run", "took": "end to end"}
NAMES = tuple(f"p{point * 100:.0f}" for point in POINTS)
MOST_KINDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A period, as people and programs read it."""

    period: Period
    made_at: datetime

    @property
    def parts(self) -> Sequence[Part]:
        return parts(self.period.since, self.period.until, self.period.width)

    @property
    def seconds(self) -> float:
        return (self.period.until - self.period.since).total_seconds()

    @property
    def ends(self) -> Counter[JobState]:
        """Finished jobs, by how."""
        sums: Counter[JobState] = Counter()
        for each in self.period.ended:
            sums[each.state] += each.jobs
        return sums

    @property
    def jobs(self) -> int:
        return self.ends.total()

    @property
    def by_part(self) -> Mapping[datetime, Counter[JobState]]:
        """Finished jobs of each part in which there were any."""
        sums: dict[datetime, Counter[JobState]] = {}
        for each in self.period.ended:
            sums.setdefault(each.begin, Counter())[each.state] += each.jobs
        return sums

    @property
    def by_kind(self) -> Mapping[str, Counter[JobState]]:
        """Finished jobs of each kind, the commonest first."""
        sums: dict[str, Counter[JobState]] = {}
        for each in self.period.ended:
            sums.setdefault(each.kind, Counter())[each.state] += each.jobs
        return dict(sorted(sums.items(), key=lambda item: (-item[1].total(), item[0])))

    @property
    def failed_attempts(self) -> int:
        return sum(each.attempts for each in self.period.failed)

    @property
    def failed_by_part(self) -> Mapping[datetime, tuple[int, int]]:
        """Failed attempts of each part: those tried again, and those that were the last."""
        sums: dict[datetime, list[int]] = {}
        for each in self.period.failed:
            sums.setdefault(each.begin, [0, 0])[each.is_last] += each.attempts
        return {begin: (again, last) for begin, (again, last) in sums.items()}

    def rate(self, part: Part, *states: JobState) -> float:
        """Return the jobs a second that finished in a part, in any state or in these."""
        jobs = self.by_part.get(part.key, Counter())
        return sum(jobs[state] for state in states or ENDS) / part.seconds

    @property
    def peak(self) -> float:
        """Jobs a second in the best part."""
        return max((self.rate(part) for part in self.parts), default=0.0)

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        period, ends, by_part, failed = self.period, self.ends, self.by_part, self.failed_by_part
        return {
            "since": period.since,
            "until": period.until,
            "timezone": "UTC",
            "made_at": self.made_at,
            "accepted": period.accepted,
            "finished": {state: ends[state] for state in ENDS},
            "jobs_per_second": self.jobs / self.seconds,
            "jobs_per_second_at_most": self.peak,
            "failed_attempts": self.failed_attempts,
            "part_seconds": period.width.total_seconds(),
            "parts": [
                {
                    "begin": part.begin,
                    "end": part.end,
                    "jobs_per_second": self.rate(part),
                    **{state: by_part.get(part.key, Counter())[state] for state in ENDS},
                    "tried_again": failed.get(part.key, (0, 0))[0],
                    "out_of_attempts": failed.get(part.key, (0, 0))[1],
                    "seconds": _describe_times(period.times_by_part.get(part.key)),
                }
                for part in self.parts
            ],
            "kinds": [
                {
                    "kind": kind,
                    **{state: jobs[state] for state in ENDS},
                    "seconds": _describe_times(period.times_by_kind.get(kind)),
                }
                for kind, jobs in list(self.by_kind.items())[:MOST_KINDS]
            ],
            "kinds_in_all": len(self.by_kind),
            "errors": [_describe_error(error) for error in period.errors],
            "errors_in_all": period.errors_in_all,
            "stock_outs": period.short,
            "stock_outs_in_all": period.skus_in_all,
            "imports": [_describe_run(run) for run in period.runs],
            "imports_in_all": period.runs_in_all,
            "dead": [
                {
                    "job_id": job.id,
                    "kind": job.kind,
                    "attempts": job.attempts,
                    "died_at": job.died_at,
                    "error": job.error,
                    "message": told(job.kind, job.message),
                }
                for job in period.dead
            ],
            "dead_in_all": period.dead_in_all,
        }


def seconds_of(run: RunSum, *, until: datetime) -> float:
    """Return how long a run took, or takes so far."""
    return ((run.finished_at or until) - run.created_at).total_seconds()


def _describe_times(times: Times | None) -> dict[str, Any] | None:
    if times is None:
        return None
    return {
        "jobs": times.jobs,
        "jobs_that_waited": times.jobs_that_waited,
        **{
            name: dict(zip(NAMES, measured, strict=True)) if measured else None
            for name in MEASURES
            for measured in [getattr(times, name)]
        },
    }


def _describe_error(error: ErrorSum) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "error": error.error,
        "is": "refusal" if error.is_refusal else "failed attempt",
        "times": error.times,
        "example": told(error.kind, error.example),
    }


def _describe_run(run: RunSum) -> dict[str, Any]:
    return {
        "run": run.id,
        "what": run.target,
        "file": run.file_name,
        "state": run.state,
        "rows": run.rows,
        "rows_done": run.rows_done,
        "ends": run.ends,
        "began": run.created_at,
        "ended": run.finished_at,
    }
