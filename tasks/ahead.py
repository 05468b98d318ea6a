"""What was done ahead for messages that a process has in hand together."""

from dataclasses import dataclass, field

from domain.errors import Unavailable
from domain.jobs.executor import Report


@dataclass(kw_only=True)
class Ahead:
    """Reports of jobs that ran before Celery traces their messages."""

    reports: dict[str, Report] = field(default_factory=dict)
    """By job id."""
    away: Unavailable | None = None
    """Why those cannot run that have no report."""

    def __contains__(self, job_id: object) -> bool:
        return job_id in self.reports

    def report(self, job_id: str) -> Report | None:
        """Return how a job went, once; None where it has not run.

        Raises:
            Unavailable: The ledger was away, the worker stops, or there is no time left.
        """
        report = self.reports.pop(job_id, None)
        if report is None and self.away:
            raise self.away
        return report

    def forget(self) -> None:
        """Forget all."""
        self.reports = {}
        self.away = None


ahead = Ahead()
"""That of this process, which has one lot of messages in hand at a time."""
