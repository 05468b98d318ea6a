"""Files that become runs, and a worker that imports them a job at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.files.opening import open_table
from adapters.postgres.import_queries import ImportQueries, RunView
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.imports import taking
from domain.imports.columns import Columns
from domain.imports.runs import Plan
from domain.imports.targets import IMPORTS, Target
from domain.jobs.executor import Executor, Report
from domain.kinds import KINDS
from tests.jobs import build_executor
from worker.importer import Taken, take_file

DUE = """
SELECT id, kind FROM job WHERE state IN ('queued', 'retry') AND next_dispatch < 'infinity'
ORDER BY id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importing:
    """What the tests do to imports, and ask of them."""

    engine: Engine
    folder: Path

    def take(
        self,
        target: Target,
        lines: Sequence[str],
        *,
        mapped: Mapping[str, str] | None = None,
        label: str = "",
        **plan: Any,
    ) -> Taken:
        """Write a file of these lines and take it."""
        file = self.folder / f"{target}.csv"
        file.write_text("\n".join(lines), encoding="utf-8")
        table = open_table(file)
        columns = Columns.match(
            table.header, IMPORTS[target].fields, mapped=mapped or {}, constants={}
        )
        return take_file(
            table,
            Plan(target=target, header=table.header, columns=columns, **plan),
            begin_work=BeginPostgresWork(engine=self.engine),
            label=label,
        )

    def due(self) -> list[tuple[str, str]]:
        """Return the ids and kinds of the jobs that a relay would hand out."""
        with self.engine.connect() as connection:
            return [(row.id, row.kind) for row in connection.exec_driver_sql(DUE)]

    def work(
        self, *, jobs: int | None = None, reached: Callable[[str], None] = lambda _: None
    ) -> list[Report]:
        """Run what is due, or so many jobs of it, one after the other."""
        executor: Executor = build_executor(self.engine, KINDS, reached=reached)
        reports: list[Report] = []
        while (due := self.due()) and (jobs is None or len(reports) < jobs):
            [(job_id, kind), *_] = due
            reports += executor.run_dispatched(kind, [job_id], redelivered=False)
        return reports

    def run(self, run_id: str) -> RunView:
        found = ImportQueries(self.engine).find(run_id)
        assert found is not None
        return found

    def finished(self, target: Target, lines: Sequence[str], **options: Any) -> RunView:
        """Take a file and import it to its end."""
        taken = self.take(target, lines, **options)
        self.work()
        return self.run(taken.run_id)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small files make many chunks."""
    monkeypatch.setattr(taking, "ROWS", 2_000)
    monkeypatch.setattr(taking, "MOST_ROWS", 5_000)


@pytest.fixture
def importing(engine: Engine, tmp_path: Path) -> Importing:
    """Give what imports into a fresh database."""
    return Importing(engine=engine, folder=tmp_path)


def batches(*, products: int, quantity: int = 1_000) -> list[str]:
    """Return a file of one batch a product, of SKU-0 and so on."""
    return [
        "reference,sku,quantity",
        *(f"B-{number},SKU-{number},{quantity}" for number in range(products)),
    ]
