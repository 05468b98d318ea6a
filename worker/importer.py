"""An import: a file's rows handed over as jobs, and an account of every row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from adapters.files import TableFile
from domain.errors import DomainError
from domain.imports.account import Account
from domain.imports.columns import Columns, run_id
from domain.imports.rows import Reject
from domain.imports.targets import Import
from domain.jobs.errors import QueueFull
from domain.jobs.model import Submission
from worker.handing_over import Patience
from worker.producer import CHUNK, Producer


@dataclass(kw_only=True)
class Importer:
    """Hands over the jobs of one file; the same file once more is the same run and does nothing."""

    producer: Producer
    table: TableFile
    target: Import
    columns: Columns
    label: str = ""
    """Tells this run from others of the same file."""
    rejected: Callable[[Reject], None] = lambda _: None
    """Told of each row that is in no job."""
    waits: Callable[[QueueFull], None] = lambda _: None
    """Told each time that a queue has no room for more jobs."""
    account: Account = field(default_factory=Account)
    jobs: int = 0
    new_jobs: int = 0
    """Jobs that the ledger did not know."""
    run: str = field(init=False)
    """Correlation id of all the jobs."""

    def __post_init__(self) -> None:
        self.run = run_id(
            digest=self.table.digest,
            kind=self.target.kind,
            columns=self.columns,
            label=self.label,
        )

    def check(self, progressed: Callable[[int], None]) -> None:
        """Do all but hand over."""
        for _ in self._submissions(progressed):
            self.jobs += 1

    def hand_over(self, progressed: Callable[[int], None]) -> None:
        """Submit the jobs, 5,000 to a transaction; told the number of rows read as it goes.

        It goes on when there is room again, where a queue is full.

        Raises:
            Unavailable: PostgreSQL went away; run again, it goes on where this ended.
        """
        patience = Patience(producer=self.producer, waits=self.waits)
        submissions = self._submissions(progressed)
        while chunk := list(islice(submissions, CHUNK)):
            receipts, _ = patience.submit_many(chunk)
            self.jobs += len(receipts)
            self.new_jobs += sum(receipt.is_new for receipt in receipts)

    def _submissions(self, progressed: Callable[[int], None]) -> Iterator[Submission]:
        rows = self.account.reading(self.table.rows())
        for planned in self.target.jobs(rows, self.columns):
            progressed(self.account.rows_read)
            if isinstance(planned, Reject):
                self._report(planned)
                continue
            try:
                submission = self.producer.submission(
                    self.target.kind,
                    planned.payload,
                    job_id=planned.job_id(self.run),
                    correlation_id=self.run,
                )
            except DomainError as error:
                for row in planned.rows:
                    self._report(Reject.of(row, error))
            else:
                self.account.enter(planned)
                yield submission

    def _report(self, reject: Reject) -> None:
        self.account.report(reject)
        self.rejected(reject)
