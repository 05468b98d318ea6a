"""Files that arrive where two beats and two workers look: taken once, all rows once."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from domain.jobs.model import JobState
from tests.chaos.programs import Programs
from tests.e2e.processes import eventually
from tests.http_folder import served_over_http

ROWS = 5_000
LOOKS = 5
"""Looks at each source, after all is taken, of which none may take it again."""

DESCRIPTION = """
what = "batches"
files = "{files}"
every_seconds = 1
settle_seconds = 0
"""
SCANS = "SELECT result FROM job WHERE kind = 'imports.scan_source' AND state = 'succeeded'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the working folder of all processes, with a place where files arrive."""
    for name in ("inbox", "imports", "served"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def programs(database_url: str, broker_url: str, folder: Path) -> Iterator[Programs]:
    """Give two workers, a relay and two beats that look at two sources every second."""
    with (
        served_over_http(folder / "served") as server,
        Programs(
            folder=folder,
            database_url=database_url,
            broker_url=broker_url,
            settings={"concurrency": 2, "relay_poll_seconds": 0.2},
        ) as programs,
    ):
        described = {
            "dropped": DESCRIPTION.format(files="inbox/*.csv") + 'taken_folder = "inbox/taken"\n',
            "served": DESCRIPTION.format(files=f"{server.url}/*.csv"),
        }
        for name, description in described.items():
            (folder / "imports" / f"{name}.toml").write_text(description)
        for name in ("relay", "worker", "worker", "beat", "beat"):
            programs.launch(name)
        yield programs


def stock(prefix: str) -> str:
    rows = (f"{prefix}-{number},SKU-{number % 50},7\n" for number in range(ROWS))
    return "reference,sku,quantity\n" + "".join(rows)


class TestTwoBeatsAndTwoWorkers:
    @pytest.mark.usefixtures("programs")
    def test_take_each_file_once_and_all_its_rows_once(
        self, folder: Path, connection: Connection
    ) -> None:
        (folder / "elsewhere.csv").write_text(stock("dropped"))
        # The same content twice at once, under two names.
        shutil.copy(folder / "elsewhere.csv", folder / "copy.csv")
        (folder / "elsewhere.csv").rename(folder / "inbox" / "monday.csv")
        (folder / "copy.csv").rename(folder / "inbox" / "tuesday.csv")
        (folder / "served.csv").write_text(stock("served"))
        (folder / "served.csv").rename(folder / "served" / "stock.csv")

        def runs() -> list[tuple[str, str, int]]:
            found = connection.exec_driver_sql(
                "SELECT source, state, rows_done FROM import_run ORDER BY source"
            ).all()
            connection.rollback()
            return [tuple(run) for run in found]

        whole = [("dropped", "finished", ROWS), ("served", "finished", ROWS)]
        eventually(lambda: runs() == whole, what="both are imported", within=90)
        before = len(_looks(connection))
        eventually(
            lambda: len(_looks(connection)) >= before + 2 * LOOKS,
            what="more looks at both",
            within=60,
        )

        assert runs() == whole
        looks = _looks(connection)
        taken = {
            source: [each for look in looks if look["source"] == source for each in look["taken"]]
            for source in ("dropped", "served")
        }
        assert [len(files) for files in taken.values()] == [1, 1]
        # The one that was taken is known as well where it is seen before it was put away.
        known = {each["file"] for look in looks for each in look["known"]}
        assert {"monday.csv", "tuesday.csv"} <= {taken["dropped"][0]["file"], *known}
        eventually(
            lambda: (
                sorted(path.name for path in (folder / "inbox" / "taken").iterdir())
                == ["monday.csv", "tuesday.csv"]
            ),
            what="both are put away",
        )
        movements, purchased, batches = connection.exec_driver_sql(
            "SELECT (SELECT count(*) FROM stock_movement), sum(purchased), count(*) FROM batch"
        ).one()
        assert (movements, purchased, batches) == (2 * ROWS, 14 * ROWS, 2 * ROWS)
        failed = connection.exec_driver_sql(
            "SELECT count(*) FROM job WHERE state = ANY(%(states)s)",
            {"states": [JobState.DEAD, JobState.RETRY, JobState.REJECTED]},
        ).scalar_one()
        assert failed == 0


def _looks(connection: Connection) -> list[dict[str, Any]]:
    looks = connection.exec_driver_sql(SCANS).scalars().all()
    connection.rollback()
    return [look for look in looks if "left_out" not in look]
