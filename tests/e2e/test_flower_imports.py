"""An import as operators see it in Flower: its run, how far that is, and its chunks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from adapters.files.opening import open_table
from adapters.postgres.import_queries import ImportQueries, RunView
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.result_backend import PROGRESS
from domain.imports.columns import Columns
from domain.imports.runs import Plan
from domain.imports.taking import ROWS
from domain.imports.targets import IMPORTS, Target
from domain.jobs.model import JobState
from tests.e2e.flower_site import FlowerSite
from tests.e2e.pipeline import Pipeline, hangs
from tests.e2e.processes import eventually
from worker.importer import take_file

LINES = 5 * ROWS // 2
"""Rows of two and a half chunks."""
HANGS = hangs("batch", "reference", named_in="hanging_batch")


@pytest.fixture
def hanging(pipeline: Pipeline) -> Iterator[None]:
    """Have batches hang that are named in a table."""
    pipeline.database.execute(HANGS)
    yield
    pipeline.database.execute("DELETE FROM hanging_batch")
    # Before the table: who writes batches has to look into that.
    pipeline.database.execute("DROP FUNCTION hang CASCADE; DROP TABLE hanging_batch")


def begin(engine: Engine, folder: Path) -> str:
    """Begin to import batches of LINES rows; return the run's id."""
    file = folder / "stock.csv"
    rows = (f"B-{number},SKU-{number % 9},5\n" for number in range(LINES))
    file.write_text("reference,sku,quantity\n" + "".join(rows))
    table = open_table(file)
    columns = Columns.match(table.header, IMPORTS[Target.BATCHES].fields, mapped={}, constants={})
    plan = Plan(target=Target.BATCHES, header=table.header, columns=columns)
    return take_file(table, plan, begin_work=BeginPostgresWork(engine=engine)).run_id


class TestAnImport:
    @pytest.mark.usefixtures("hanging")
    def test_is_seen_in_flower_with_its_progress_and_its_chunks(
        self, pipeline: Pipeline, flower: FlowerSite, engine: Engine, tmp_path: Path
    ) -> None:
        # The last chunk hangs, so that all who are asked can be asked of the same moment.
        pipeline.database.execute("INSERT INTO hanging_batch VALUES (%s)", [f"B-{LINES - 1}"])
        run_id = begin(engine, tmp_path)
        chunks = [f"{run_id}:{number}" for number in (1, 2, 3)]

        shown = flower.shows(run_id, PROGRESS)
        flower.shows(chunks[2], "STARTED")
        assert (shown["name"], shown["args"]) == ("imports.import_file", f"run {run_id}")
        # The process that has done a chunk tells of it when another may be at the next one.
        eventually(
            lambda: (
                flower.shows(run_id, PROGRESS)["result"]
                == f"{2 * ROWS:,} of {LINES:,} rows, running"
            ),
            what="Flower shows how far it is",
        )
        for number, chunk in enumerate(chunks[:2], start=1):
            seen = flower.shows(chunk, "SUCCESS")
            assert (seen["name"], seen["args"]) == (
                "imports.import_chunk",
                f"run {run_id}, chunk {number}",
            )
            assert f"'created': {ROWS}" in seen["result"]
        listed = flower.get("/api/tasks?taskname=imports.import_chunk").data
        assert listed.keys() >= set(chunks)
        assert listed[chunks[2]]["args"] == f"run {run_id}, chunk 3"

        # The ledger, Celery's result and Flower's API say the same.
        ledger = _run(engine, run_id)
        asked = flower.get(f"/api/task/result/{run_id}").data
        result = pipeline.result(run_id)
        assert (result.state, asked["state"]) == (PROGRESS, PROGRESS)
        assert result.info["rows_done"] == ledger.rows_done == 2 * ROWS
        assert result.info["ends"] == ledger.ends
        assert result.info["rows"] == ledger.rows == LINES

        pipeline.database.execute("DELETE FROM hanging_batch")
        pipeline.until(run_id, JobState.SUCCEEDED)
        assert f"'created': {LINES}" in flower.shows(run_id, "SUCCESS")["result"]
        assert pipeline.result(run_id).get()["created"] == _run(engine, run_id).rows_done == LINES
        eventually(lambda: flower.shows(chunks[2], "SUCCESS"), what="the last chunk is done")


def _run(engine: Engine, run_id: str) -> RunView:
    run = ImportQueries(engine).find(run_id)
    assert run is not None
    return run
