"""Sources: a file that arrives becomes a run once, and is put away."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from adapters.sources import folders
from domain.imports import scanning
from domain.imports.runs import RunState
from domain.jobs.model import JobState
from tests.e2e.processes import eventually
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

    def test_that_is_put_away_by_another_before_it_is_read_is_not_refused(
        self, shop: Shop, importing: Importing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = shop.inbox / "monday.csv"
        file.write_text(STOCK)
        opened = folders.LocalFile.open

        def open_what_has_gone(arrival: folders.LocalFile) -> Any:  # noqa: ANN401  as above
            arrival.put_away(refused=False)
            return opened(arrival)

        with monkeypatch.context() as patch:
            patch.setattr(folders.LocalFile, "open", open_what_has_gone)
            job = shop.scan()
        assert (job.result["waiting"], job.result["refused"]) == (["monday.csv"], [])
        assert (importing.due(), shop.names("inbox/taken")) == ([], ["monday.csv"])

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


class TestAHostileFile:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            (b"mon\nday.csv", "mon\nday.csv"),
            (b"\x1b[31mred.csv", "\x1b[31mred.csv"),
            (b"caf\xe9.csv", r"caf\xe9.csv"),
            (b"x" * 251 + b".csv", "x" * 251 + ".csv"),
        ],
        ids=["newline", "terminal", "no UTF-8", "very long"],
    )
    def test_of_a_strange_name_is_taken_under_one_that_can_be_kept(
        self, shop: Shop, engine: Engine, name: bytes, shown: str
    ) -> None:
        (shop.inbox / os.fsdecode(name)).write_text(STOCK)
        [taken] = shop.scan().result["taken"]
        assert taken["file"] == shown
        assert [run.file_name for run in ImportQueries(engine).newest()] == [shown]
        assert shop.names("inbox/taken") == [os.fsdecode(name)]

    def test_of_a_strange_name_and_without_rows_is_refused_under_it(self, shop: Shop) -> None:
        (shop.inbox / os.fsdecode(b"\xff.csv")).write_text("")
        [refused] = shop.scan().result["refused"]
        assert refused["file"] == r"\xff.csv"
        assert len(shop.names("inbox/refused")) == 1

    @pytest.mark.parametrize(
        "content",
        [
            STOCK.encode("utf-16")[:-1],
            b"ref;code;units\0\nB-1;LAMP;1\n",
            gzip.compress(STOCK.encode())[:-9],
        ],
        ids=["UTF-16 cut off", "null byte in the header", "gzip cut off"],
    )
    def test_that_breaks_its_reader_is_refused_alone(
        self, shop: Shop, importing: Importing, content: bytes
    ) -> None:
        (shop.inbox / "bad.csv").write_bytes(content)
        (shop.inbox / "good.csv").write_text(STOCK)
        job = shop.scan()
        assert job.state is JobState.SUCCEEDED
        assert [each["file"] for each in job.result["refused"]] == ["bad.csv"]
        assert [each["file"] for each in job.result["taken"]] == ["good.csv"]
        importing.work()
        assert {run.state for run in ImportQueries(importing.engine).newest()} == {
            RunState.FINISHED,
            RunState.REFUSED,
        }

    def test_that_is_none_is_left_alone(self, shop: Shop) -> None:
        os.mkfifo(shop.inbox / "pipe.csv")
        (shop.inbox / "folder.csv").mkdir()
        (shop.inbox / "null.csv").symlink_to("/dev/zero")
        (shop.inbox / "nowhere.csv").symlink_to(shop.inbox / "gone")
        (shop.inbox / ".hidden.csv").write_text(STOCK)
        job = shop.scan()
        assert {name: job.result[name] for name in ("taken", "refused", "waiting")} == {
            "taken": [],
            "refused": [],
            "waiting": [],
        }

    def test_that_was_written_in_the_future_is_taken(self, shop: Shop) -> None:
        shop.describe(DESCRIPTION.replace("settle_seconds = 0", "settle_seconds = 1"))
        file = shop.inbox / "monday.csv"
        file.write_text(STOCK)
        os.utime(file, (4_000_000_000, 4_000_000_000))
        eventually(lambda: shop.scan().result["taken"], what="it has settled")

    def test_that_comes_twice_at_once_is_one_run(self, shop: Shop, engine: Engine) -> None:
        for name in ("a.csv", "b.csv"):
            (shop.inbox / name).write_text(STOCK)
        job = shop.scan()
        [taken], [known] = job.result["taken"], job.result["known"]
        assert (taken["file"], known["file"], taken["run"]) == ("a.csv", "b.csv", known["run"])
        assert len(ImportQueries(engine).newest()) == 1


class TestManyFiles:
    def test_are_taken_over_several_looks_that_follow_each_other(
        self, shop: Shop, importing: Importing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scanning, "MOST_FILES", 3)
        for number in range(7):
            bad = number == 4
            (shop.inbox / f"{number}.csv").write_text("" if bad else f"{STOCK}B-{number};RUG;1\n")
        job = shop.scan()
        assert len(job.result["taken"]) == 3
        assert (f"{job.id}:look:2", "imports.scan_source") in importing.due()
        second = shop.look(f"{job.id}:look:2")
        assert (len(second.result["taken"]), len(second.result["refused"])) == (2, 1)
        third = shop.look(f"{job.id}:look:3")
        assert [each["file"] for each in third.result["taken"]] == ["6.csv"]
        assert not [kind for _, kind in importing.due() if kind == "imports.scan_source"]

    def test_that_stay_where_they_are_are_not_begun_again_and_again(
        self, shop: Shop, importing: Importing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scanning, "MOST_FILES", 2)
        shop.describe(DESCRIPTION.replace('refused_folder = "inbox/refused"', ""))
        for name in ("a", "b"):
            (shop.inbox / f"{name}.csv").write_text("")
        shop.scan()
        again = shop.scan()
        assert len(again.result["refused"]) == 2
        assert importing.due() == []


class TestAFolder:
    @pytest.mark.parametrize("files", ["nowhere/*.csv", "imports/stock.toml/*.csv", "in*/a.csv"])
    def test_that_cannot_be_looked_into_is_said_so(self, shop: Shop, files: str) -> None:
        shop.describe(DESCRIPTION.replace("inbox/*.csv*", files))
        job = shop.scan()
        assert (job.state, job.error.type) == (JobState.REJECTED, "InvalidSource")

    def test_is_looked_at_by_one_worker_at_a_time(self, shop: Shop, engine: Engine) -> None:
        (shop.inbox / "monday.csv").write_text(STOCK)
        with BeginPostgresWork(engine=engine)() as work:
            assert work.imports.may_scan("stock")
            job = shop.scan()
        assert "another worker" in job.result["left_out"]
        assert len(shop.scan().result["taken"]) == 1
