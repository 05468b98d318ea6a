"""What an import says of itself: every row of the file is in the account once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres.import_queries import ErrorCount, RunView
from domain.imports.runs import RowEnd, RowError, RunState
from worker.command.output import note, say, show_json, show_table

BAD = (RowEnd.REFUSED, RowEnd.FAILED)
"""Ends that make a script look twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An import in figures."""

    run_id: str | None
    """None where nothing was put on record."""
    file: str
    state: str
    rows: int
    ends: Mapping[str, int]
    skipped: Mapping[str, int]
    reasons: Sequence[ErrorCount]
    seconds: float | None = None
    """From the first row read to the last one done; None where nobody waited."""
    is_new: bool = True
    """False where the same file was imported before."""

    @classmethod
    def of(
        cls,
        run: RunView,
        reasons: Sequence[ErrorCount],
        *,
        seconds: float | None = None,
        is_new: bool = True,
    ) -> "Summary":
        return cls(
            run_id=run.id,
            file=run.file_name,
            state=run.state,
            rows=run.rows,
            ends=run.ends,
            skipped=run.skipped,
            reasons=reasons,
            seconds=seconds,
            is_new=is_new,
        )

    @property
    def is_flawed(self) -> bool:
        """Whether a row was refused or could not be read, or the run did not come to its end."""
        is_over = self.state in (RunState.REFUSED, RunState.CANCELLED)
        return is_over or any(self.ends.get(end) for end in BAD)

    @property
    def rows_per_second(self) -> float | None:
        """Over the whole run; None where it was done before."""
        return self.rows / self.seconds if self.seconds and self.is_new else None

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "run": self.run_id,
            "file": self.file,
            "state": self.state,
            "is_new": self.is_new,
            "rows": self.rows,
            "ends": {end.value: self.ends.get(end, 0) for end in RowEnd},
            "skipped": self.skipped,
            "reasons": self.reasons,
            "seconds": self.seconds and round(self.seconds, 3),
            "rows_per_second": self.rows_per_second and round(self.rows_per_second, 1),
        }

    def show_json(self) -> None:
        """Print all of it as one JSON object."""
        show_json(self.describe())

    def show(self) -> None:
        """Print it for people."""
        ends = " + ".join(f"{self.ends[end]:,} {end.value}" for end in RowEnd if self.ends.get(end))
        done = sum(self.ends.values())
        if done == self.rows:
            say(f"{self.rows:,} rows = {ends or 'none'}")
        else:
            say(f"{self.rows:,} rows, {done:,} done = {ends or 'none'}")
        for reason, rows in self.skipped.items():
            say(f"skipped: {rows:,} {reason}")
        if self.reasons:
            show_table(
                "Rows that had no effect",
                ("code", "rows", "first line", "the first was told"),
                [(each.code, each.rows, each.first_line, each.example) for each in self.reasons],
            )
        if not self.is_new:
            say("this file was imported before: nothing was done again")
        if self.state == RunState.REFUSED:
            note("refused: more rows are bad than the policy of the import allows")
        if self.rows_per_second is not None:
            say(
                f"{self.rows:,} rows in {self.seconds:.1f} seconds:"
                f" {self.rows_per_second:,.0f} a second"
            )
        if self.run_id:
            say(f"run {self.run_id}: see `tallyman imports show {self.run_id}`")


class Reasons:
    """Counts errors by code as they are told, with the first of each as an example."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._first: dict[str, RowError] = {}

    def __call__(self, error: RowError) -> None:
        self._rows[error.code] += 1
        self._first.setdefault(error.code, error)

    def counts(self) -> list[ErrorCount]:
        """Return what was counted, most first."""
        return [
            ErrorCount(
                code=code,
                rows=rows,
                first_line=self._first[code].line,
                example=self._first[code].message,
            )
            for code, rows in self._rows.most_common()
        ]
