"""A shop whose stock arrives in files, and a worker that looks at them."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from adapters.payloads import Payloads
from adapters.postgres.persistence import Persistently
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.sources.described import DescribedSources
from adapters.sources.stores import Stores
from domain.jobs.executor import Executor
from domain.jobs.model import Submission
from domain.kinds import KINDS

STOCK = "ref;code;units\nB-1;LAMP;10\nB-2;RUG;\nX-1;LAMP;3\n"
DESCRIPTION = """
what = "batches"
files = "inbox/*.csv*"
settle_seconds = 0
taken_folder = "inbox/taken"
refused_folder = "inbox/refused"

[columns]
reference = "ref"
sku = "code"
quantity = "units"

[defaults]
quantity = 7

[[skip]]
column = "ref"
starts_with = "X"
reason = "not ours"
"""


class Shop:
    """A folder with a source, and a worker that looks at it."""

    def __init__(self, engine: Engine, folder: Path, *, rest_seconds: float = 120.0) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self.inbox.mkdir(exist_ok=True)
        (folder / "imports").mkdir(exist_ok=True)
        self.describe(DESCRIPTION)
        self._engine = engine
        self._scans = 0
        self._stores = Stores(rest_seconds=rest_seconds)

    def forgive(self) -> None:
        """Forget which stores were away."""
        self._stores = Stores()

    def describe(self, text: str) -> None:
        (self.folder / "imports" / "stock.toml").write_text(text)

    def scan(self, source: str = "stock") -> Any:  # noqa: ANN401  a test looks into it as it pleases
        """Return the job that looks at the source."""
        self._scans += 1
        job = Submission(
            job_id=f"scan-{self._scans}", kind="imports.scan_source", payload={"source": source}
        )
        return self._executor().run_submitted(job, redelivered=False).job

    def look(self, job_id: str) -> Any:  # noqa: ANN401  as above
        """Return the job of this id, which the ledger holds, once it has run."""
        [report] = self._executor().run_dispatched(
            "imports.scan_source", [job_id], redelivered=False
        )
        return report.job

    def _executor(self) -> Executor:
        decode = Payloads(KINDS).decode
        return Executor(
            kinds=KINDS,
            begin_work=BeginPostgresWork(
                engine=self._engine,
                decode=decode,
                sources=DescribedSources(
                    descriptions=self.folder / "imports", folder=self.folder, stores=self._stores
                ),
            ),
            decode=decode,
            persistently=Persistently(),
            worker="test:1",
        )

    def names(self, folder: str = "inbox") -> list[str]:
        place = self.folder / folder
        return sorted(path.name for path in place.iterdir() if path.is_file())
