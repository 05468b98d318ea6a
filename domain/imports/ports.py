"""What imports need from outside, within one transaction."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from domain.allocation.ports import AllocationWork
from domain.imports.rows import Reject, Row
from domain.imports.runs import Report, Run
from domain.jobs.ports import JobsWork
from domain.messages import Command
from domain.users.ports import UsersWork


class Imports(Protocol):
    """Runs, their chunks and their errors."""

    def may_scan(self, source: str) -> bool:
        """Keep all others from looking at a source; false where somebody keeps us from it."""

    def open(self, run: Run, *, digest: str) -> bool:
        """Put a new run on record; false where it is there already, and nothing is done."""

    def add_chunk(self, run: Run, number: int, rows: Sequence[Row | Reject]) -> None:
        """Keep the rows of a chunk."""

    def locked(self, run_id: str) -> Run | None:
        """Lock a run and read it."""

    def chunk(self, run: Run, number: int) -> list[Row | Reject]:
        """Read the rows of a chunk."""

    def holds_rows(self, run: Run) -> bool:
        """Tell whether the rows of the next chunk are still kept."""

    def save(self, run: Run) -> None:
        """Write how far a run is; the rows of one that is over are forgotten."""

    def report(self, run: Run, number: int, report: Report, *, job_id: str) -> None:
        """Write what became of the rows of a chunk."""


class ImportWork(AllocationWork, UsersWork, JobsWork, Protocol):
    """The slice of a unit of work that imports need."""

    @property
    def imports(self) -> Imports: ...

    def decode(self, kind: str, payload: Mapping[str, Any]) -> Command:
        """Turn a payload into its command, as for a job; raises DomainError."""

    def attempt(self, *, personal: bool) -> AbstractContextManager[None]:
        """Undo what is done within, and that alone, if it fails.

        Raises:
            RowsBroken: It failed for no reason that passes by itself.
        """
