"""What an import says at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from adapters.postgres.queries import ReasonCount
from domain.imports.account import Account
from domain.jobs.model import JobState
from worker.command.output import note, say, show_json, show_table
from worker.importer import Importer

FAILED = (JobState.REJECTED, JobState.DEAD, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How the jobs of a run ended."""

    seconds: float
    """From the first row read to the last job finished."""
    states: Mapping[JobState, int]
    reasons: Sequence[ReasonCount]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An import in figures: every row is in a job or reported."""

    run: str
    file: str
    encoding: str
    delimiter: str
    dry_run: bool
    account: Account
    jobs: int
    new_jobs: int
    followed: Followed | None
    """None where nobody waited for the jobs."""

    @classmethod
    def of(cls, importer: Importer, followed: Followed | None, *, dry_run: bool) -> Self:
        return cls(
            run=importer.run,
            file=str(importer.table.path),
            encoding=importer.table.encoding,
            delimiter=importer.table.delimiter,
            dry_run=dry_run,
            account=importer.account,
            jobs=importer.jobs,
            new_jobs=importer.new_jobs,
            followed=followed,
        )

    @property
    def is_flawed(self) -> bool:
        """Whether a row is in no job, or a job came to nothing."""
        states = self.followed.states if self.followed else {}
        return bool(self.account.rows_reported or any(states.get(state) for state in FAILED))

    @property
    def jobs_per_second(self) -> float | None:
        """Over the whole run; None where jobs had finished before it."""
        if self.followed is None or not self.jobs or self.new_jobs < self.jobs:
            return None
        return self.jobs / self.followed.seconds

    def show_json(self) -> None:
        """Print all of it as one JSON object."""
        account = asdict(self.account)
        reported = list(account.pop("reported").values())
        show_json(
            {
                "run": self.run,
                "file": self.file,
                "encoding": self.encoding,
                "delimiter": self.delimiter,
                "dry_run": self.dry_run,
                **account,
                "reported": reported,
                "jobs": self.jobs,
                "new_jobs": self.new_jobs,
                "known_jobs": None if self.dry_run else self.jobs - self.new_jobs,
                "states": self.followed and self.followed.states,
                "reasons": self.followed and self.followed.reasons,
                "seconds": self.followed and round(self.followed.seconds, 3),
                "jobs_per_second": self.jobs_per_second and round(self.jobs_per_second, 1),
            }
        )

    def show(self) -> None:
        """Print it for people."""
        account = self.account
        say(
            f"{account.rows_read:,} rows read = {account.rows_in_jobs:,} in {self.jobs:,} jobs"
            f" + {account.rows_reported:,} reported"
        )
        if account.reported:
            show_table(
                "Reported rows, which are in no job",
                ("code", "rows", "first line", "reason"),
                [
                    (each.code, each.rows, each.first_line, each.reason)
                    for each in sorted(account.reported.values(), key=lambda each: -each.rows)
                ],
            )
        if account.long_rows:
            note(
                f"{account.long_rows:,} rows take up several lines:"
                " if the file has no such cells, look for an unclosed quote"
            )
        if self.dry_run:
            say("a dry run: nothing was handed over")
            return
        self._show_jobs()

    def _show_jobs(self) -> None:
        known = self.jobs - self.new_jobs
        if self.jobs and not self.new_jobs:
            say("this file was imported before: its jobs are known, and nothing was done again")
        elif known:
            say(f"{self.new_jobs:,} jobs are new, {known:,} were known and are not done again")
        if self.followed is None:
            say(f"run {self.run}: see `tallyman jobs counts --correlation-id {self.run}`")
            return
        show_table("Jobs", ("state", "jobs"), sorted(self.followed.states.items()))
        if self.followed.reasons:
            show_table(
                "Why jobs came to nothing",
                ("state", "code", "jobs", "the first"),
                [
                    (each.state, each.code, each.jobs, each.example)
                    for each in self.followed.reasons
                ],
            )
        if self.jobs_per_second is not None:
            say(
                f"{self.jobs:,} jobs in {self.followed.seconds:.1f} seconds:"
                f" {self.jobs_per_second:,.0f} a second"
            )
        say(f"run {self.run}: see `tallyman jobs list --correlation-id {self.run}`")
