"""A run: one file that is imported, from the moment it was taken to its last row."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256

from domain.imports.columns import Columns
from domain.imports.errors import RunNotOpen
from domain.imports.skips import SkipRule
from domain.imports.targets import Target


class RunState(StrEnum):
    """Where a run stands."""

    CHECKING = "checking"
    """Every row is looked at, none has an effect."""
    RUNNING = "running"
    """Rows take effect, in the order of the file."""
    FINISHED = "finished"
    """Every row has come to its end."""
    REFUSED = "refused"
    """Too many rows were bad for the policy of the run."""
    CANCELLED = "cancelled"
    """An operator stopped it; what was imported stays, and it can be resumed."""

    @property
    def is_open(self) -> bool:
        return self in (RunState.CHECKING, RunState.RUNNING)


class RowEnd(StrEnum):
    """What became of a row; every row of a file comes to exactly one of these."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    """What it says was so before."""
    ALLOCATED = "allocated"
    """Its line has stock: all that it asked for, or under `partial` a part."""
    BACKORDERED = "backordered"
    """Its line waits for stock."""
    REFUSED = "refused"
    """The business said no."""
    FAILED = "failed"
    """It could not be read, or breaks a rule that every job of its kind must meet."""
    SKIPPED = "skipped"
    """A rule of the source says that it is none of ours."""


class RowPolicy(StrEnum):
    """What bad rows mean for the others."""

    REJECT_ROWS = "reject_rows"
    """They are reported, and the rest is imported."""
    REJECT_FILE = "reject_file"
    """All rows are checked first, and none is imported if one is bad."""


class OnExists(StrEnum):
    """What becomes of a user who is there already."""

    SKIP = "skip"
    UPDATE = "update"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a file is imported: all that decides what becomes of its rows."""

    target: str
    """`orders`, `batches` or `users`."""
    header: tuple[str, ...]
    columns: Columns
    skips: tuple[SkipRule, ...] = ()
    policy: RowPolicy = RowPolicy.REJECT_ROWS
    max_errors: int | None = None
    """Failed rows beyond which the run stops; None is no limit."""
    dry_run: bool = False
    on_exists: OnExists = OnExists.FAIL

    @property
    def is_personal(self) -> bool:
        """Whether its rows are of people."""
        return self.target == Target.USERS


@dataclass(frozen=True, slots=True, kw_only=True)
class RowError:
    """Why a row had no effect."""

    line: int
    """Line of the file on which it starts; the first is 1."""
    column: str | None
    """Column at fault, where it is one."""
    code: str
    message: str
    value: str | None = field(default=None, repr=False)
    """The cell at fault; else the row's cells, unless they are of a person."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of the rows of a chunk."""

    ends: Counter[RowEnd] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped rows by the reason that their rule gives."""
    errors: list[RowError] = field(default_factory=list)

    def absorb(self, other: "Report") -> None:
        """Count in what another part of the chunk came to."""
        self.ends += other.ends
        self.skipped += other.skipped
        self.errors += other.errors


@dataclass(slots=True, kw_only=True)
class Run:
    """One import of one file, and how far it is."""

    id: str
    """Its run id, and the id of its job in the ledger."""
    plan: Plan
    file_name: str
    source: str | None = None
    """Name of the source that it came from; None where a person handed it over."""
    state: RunState
    is_checked: bool
    """Whether rows may take effect, all having been looked at where the plan asks for it."""
    next_chunk: int = 1
    chunks: int = 0
    rows: int = 0
    """Rows of the file."""
    ends: Counter[RowEnd] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    """Times it went on after it was cancelled."""

    @classmethod
    def begin(cls, *, id: str, plan: Plan, file_name: str, source: str | None = None) -> "Run":  # noqa: A002  its field
        """Begin a run, with a look at all rows first where the plan asks for it."""
        looks_first = plan.dry_run or plan.policy is RowPolicy.REJECT_FILE
        return cls(
            id=id,
            plan=plan,
            file_name=file_name,
            source=source,
            state=RunState.CHECKING if looks_first else RunState.RUNNING,
            is_checked=not looks_first,
        )

    @property
    def rows_done(self) -> int:
        return sum(self.ends.values())

    @property
    def job_id(self) -> str:
        """Return the id of its job: another after each time it was cancelled, which is final."""
        return f"{self.id}:resumed:{self.resumed}" if self.resumed else self.id

    @property
    def chunk_job_id(self) -> str:
        """Return the id of the job that imports the next chunk."""
        phase = "check:" if self.state is RunState.CHECKING else ""
        return f"{self.job_id}:{phase}{self.next_chunk}"

    def expects(self, number: int, *, job_id: str) -> bool:
        """Tell whether this chunk is the next, asked for by the job that was sent for it."""
        return self.state.is_open and number == self.next_chunk and job_id == self.chunk_job_id

    def count(self, report: Report) -> None:
        """Count the next chunk as done; the run may be over by that."""
        self.ends += report.ends
        self.skipped += report.skipped
        self.next_chunk += 1
        if self._has_too_many_errors():
            self.state = RunState.REFUSED
        elif self.next_chunk > self.chunks:
            self._end_phase()

    def end_if_empty(self) -> None:
        """Finish a run of a file without rows."""
        if not self.chunks:
            self.state = RunState.FINISHED

    def cancel(self) -> None:
        """Stop before the next chunk.

        Raises:
            RunNotOpen: It is over already.
        """
        if not self.state.is_open:
            raise RunNotOpen.of(self.id, self.state)
        self.state = RunState.CANCELLED

    def resume(self) -> None:
        """Go on where it was cancelled, under another job: what was cancelled stays so.

        Raises:
            RunNotOpen: It was not cancelled.
        """
        if self.state is not RunState.CANCELLED:
            raise RunNotOpen.of(self.id, self.state)
        self.state = RunState.RUNNING if self.is_checked else RunState.CHECKING
        self.resumed += 1

    def summary(self) -> Mapping[str, object]:
        """Return what its job answers with."""
        return {
            "run_id": self.id,
            "file": self.file_name,
            "source": self.source,
            "state": self.state,
            "dry_run": self.plan.dry_run,
            "rows": self.rows,
            **{end.value: self.ends[end] for end in RowEnd},
            "skipped_for": dict(self.skipped),
        }

    def _has_too_many_errors(self) -> bool:
        most = self.plan.max_errors
        return most is not None and self.ends[RowEnd.FAILED] > most

    def _end_phase(self) -> None:
        if self.state is RunState.RUNNING or self.plan.dry_run:
            self.state = RunState.FINISHED
        elif self.ends[RowEnd.FAILED]:
            self.state = RunState.REFUSED
        else:
            self.state = RunState.RUNNING
            self.is_checked = True
            self.next_chunk = 1
            self.ends.clear()
            self.skipped.clear()


def run_id(*, digest: str, plan: Plan, label: str = "") -> str:
    """Name a run by what it imports: the file's content, and what is made of it.

    The same file, read in the same way, is the same run and is not imported again; `label`
    tells apart runs that are meant to do it all again.
    """
    what = json.dumps([digest, asdict(plan), label], sort_keys=True)
    return f"import-{sha256(what.encode()).hexdigest()[:20]}"
