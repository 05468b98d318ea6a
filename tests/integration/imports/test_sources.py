"""Sources: a file that arrives becomes a run once, and is put away."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres.import_queries import ImportQueries
from adapters.sources import folders
from domain.imports.runs import RunState
from domain.jobs.model import JobState
from tests.integration.imports.conftest import Importing
from tests.integration.imports.shop import DESCRIPTION, STOCK, Shop


@pytest.fixture
def shop(engine: Engine, tmp_path: Path) -> Shop:
    return Shop(engine, tmp_path)


class TestAFileThatArrives:
    def test_becomes_a_run_and_is_put_away(self, shop: Shop, importing: Importing) -> None:
        (shop.inbox / "monday.csv").write_text(STOCK)
        job = shop.scan()
        [taken] = job.result["taken"]
        assert (shop.names(), shop.names("inbox/taken")) == ([], ["monday.csv"])
        importing.work()
        run = importing.run(taken["run"])
        assert (run.source, run.file_name, run.state) == ("stock", "monday.csv", "finished")
        assert {end: rows for end, rows in run.ends.items() if rows} == {
            "created": 2,
            "skipped": 1,
        }
        assert run.skipped == {"not ours": 1}

    def test_does_nothing_when_it_comes_again_packed_and_under_another_name(
        self, shop: Shop, importing: Importing
    ) -> None:
        (shop.inbox / "monday.csv").write_text(STOCK)
        [first] = shop.scan().result["taken"]
        importing.work()
        (shop.inbox / "tuesday.csv.gz").write_bytes(gzip.compress(STOCK.encode()))
        job = shop.scan()
        assert job.result["taken"] == []
        assert job.result["known"] == [{"file": "tuesday.csv.gz", "run": first["run"]}]
        assert shop.names("inbox/taken") == ["monday.csv", "tuesday.csv.gz"]

    def test_is_left_alone_while_it_may_be_written(self, shop: Shop) -> None:
        shop.describe(DESCRIPTION.replace("settle_seconds = 0", "settle_seconds = 60"))
        file = shop.inbox / "monday.csv"
        file.write_text(STOCK)
        assert shop.scan().result["waiting"] == ["monday.csv"]
        os.utime(file, (0, file.stat().st_mtime - 61))
        assert [each["file"] for each in shop.scan().result["taken"]] == ["monday.csv"]

    def test_that_grows_while_it_is_read_is_not_taken(
        self, shop: Shop, importing: Importing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = shop.inbox / "monday.csv"
        file.write_text(STOCK)
        opened = folders.LocalFile.open

        def open_while_it_grows(arrival: folders.LocalFile) -> Any:  # noqa: ANN401  what it opens
            table = opened(arrival)
            with file.open("a") as more:
                more.write("B-3;LAMP;1\n")
            return table

        with monkeypatch.context() as patch:
            patch.setattr(folders.LocalFile, "open", open_while_it_grows)
            assert shop.scan().result["waiting"] == ["monday.csv"]
        assert (importing.due(), shop.names()) == ([], ["monday.csv"])
        assert len(shop.scan().result["taken"]) == 1
        importing.work()

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"", "FileError"),
            (b"sku,amount\nLAMP,1\n", "InvalidMapping"),
            (gzip.compress(b"\0" * (3 << 20)), "FileError"),
            (b",".join(b"c%d" % number for number in range(10_000)) + b"\n", "FileError"),
        ],
        ids=["empty", "other columns", "bomb", "too wide"],
    )
    def test_that_cannot_be_read_is_refused_and_on_record(
        self, shop: Shop, engine: Engine, content: bytes, code: str
    ) -> None:
        shop.describe(f"most_bytes = {1 << 20}\n{DESCRIPTION}")
        (shop.inbox / "bad.csv").write_bytes(content)
        (shop.inbox / "good.csv").write_text(STOCK)
        job = shop.scan()
        assert job.error is None, job.error
        assert [(each["file"], each["code"]) for each in job.result["refused"]] == [
            ("bad.csv", code)
        ]
        assert [each["file"] for each in job.result["taken"]] == ["good.csv"]
        assert shop.names("inbox/refused") == ["bad.csv"]
        [refused] = ImportQueries(engine).newest(states=[RunState.REFUSED])
        assert refused.file_name == "bad.csv"
        [error] = ImportQueries(engine).errors(refused.id)
        assert error.code == code

    def test_outside_of_the_folder_is_not_followed(self, shop: Shop) -> None:
        secret = shop.folder / "secret.csv"
        secret.write_text(STOCK)
        (shop.inbox / "link.csv").symlink_to(secret)
        assert shop.scan().result["taken"] == []


class TestASource:
    def test_that_is_not_described_is_refused(self, shop: Shop) -> None:
        job = shop.scan("nowhere")
        assert (job.state, job.error.type) == (JobState.REJECTED, "SourceNotFound")
        assert "stock" in job.error.message

    def test_that_is_described_wrongly_says_what(self, shop: Shop) -> None:
        shop.describe('what = "batches"\nfiles = "x.csv"\ncolour = "red"\nevery_seconds = 0\n')
        job = shop.scan()
        assert job.error.type == "InvalidSource"
        assert "colour" in job.error.message
        assert "every_seconds" in job.error.message

    def test_of_a_store_moves_what_was_taken(self, shop: Shop) -> None:
        inbox = shop.inbox.as_posix()
        shop.describe(
            DESCRIPTION.replace("inbox/*.csv*", f"file://{inbox}/*.csv").replace(
                "inbox/taken", f"file://{inbox}/taken"
            )
        )
        (shop.inbox / "monday.csv").write_text(STOCK)
        assert len(shop.scan().result["taken"]) == 1
        assert (shop.names(), shop.names("inbox/taken")) == ([], ["monday.csv"])
