"""Files that nobody should send: a clear outcome for each, and the next file is imported."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import pytest

from adapters.files.opening import open_table
from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.imports.columns import Columns
from domain.imports.errors import FileError, InvalidMapping
from domain.imports.runs import Plan
from domain.imports.targets import IMPORTS, Target
from tests.integration.imports.conftest import Importing
from worker.command.rejects import rejects_to
from worker.importer import take_file

HEADER = "reference,sku,quantity,eta\n"
MOST_BYTES = 32 << 20
MEGABYTE = 1 << 20


def zipped(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


class Inbox:
    """Imports files of batches, whatever they hold."""

    def __init__(self, importing: Importing) -> None:
        self._importing = importing
        self._path = importing.folder / "hostile"

    def imports(self, content: bytes) -> tuple[dict[str, int], list[tuple[int, str, str]]]:
        """Return what rows came to, and the errors: line, code and message."""
        self._path.write_bytes(content)
        table = open_table(self._path, most_bytes=MOST_BYTES)
        fields = IMPORTS[Target.BATCHES].fields
        columns = Columns.match(table.header, fields, mapped={}, constants={})
        taken = take_file(
            table,
            Plan(target=Target.BATCHES, header=table.header, columns=columns),
            begin_work=BeginPostgresWork(engine=self._importing.engine),
        )
        self._importing.work()
        run = self._importing.run(taken.run_id)
        assert sum(run.ends.values()) == run.rows
        errors = ImportQueries(self._importing.engine).errors(run.id)
        return (
            {end: rows for end, rows in run.ends.items() if rows},
            [(error.line, error.code, error.message) for error in errors],
        )

    def still_works(self) -> None:
        ends, _ = self.imports(f"{HEADER}GOOD,LAMP,1,\n".encode())
        assert ends == {"created": 1}


@pytest.fixture
def inbox(importing: Importing) -> Inbox:
    return Inbox(importing)


class TestAFile:
    @pytest.mark.parametrize(
        ("content", "told"),
        [
            pytest.param(b"", "no header", id="empty"),
            pytest.param(b"\0" * 100, "no column is mapped", id="null bytes alone"),
            pytest.param(gzip.compress(b"\0" * (64 * MEGABYTE)), "more than", id="gzip bomb"),
            pytest.param(
                zipped(("rows.csv", HEADER.encode() + b"B,LAMP,1,\n" * (4 * MEGABYTE))),
                "more than",
                id="zip bomb",
            ),
            pytest.param(zipped(("a.csv", b""), ("b.csv", b"")), "2 files", id="two in a zip"),
            pytest.param(zipped(("../../etc/rows.csv", b"")), "no header", id="path in a zip"),
            pytest.param(
                ",".join(f"c{number}" for number in range(10_000)).encode(),
                "10,000 columns",
                id="10,000 columns",
            ),
            pytest.param(b"PAR1" + b"\0" * 100, "Parquet|parquet", id="broken parquet"),
            pytest.param(b'{"reference": \n', "no JSON", id="broken JSON"),
            pytest.param(b"x" * (8 * MEGABYTE), "no column is mapped", id="one line"),
        ],
    )
    def test_that_is_no_table_is_refused_whole(
        self, inbox: Inbox, content: bytes, told: str
    ) -> None:
        with pytest.raises((FileError, InvalidMapping), match=told) as refused:
            inbox.imports(content)
        assert len(refused.value.message) < 500
        inbox.still_works()

    def test_of_another_delimiter_says_which_columns_it_has(self, inbox: Inbox) -> None:
        with pytest.raises(InvalidMapping, match=r"'reference\^sku\^quantity'"):
            inbox.imports(b"reference^sku^quantity\nB^LAMP^1\n")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom", "cp1252"])
    def test_in_another_encoding_is_read(self, inbox: Inbox, encoding: str) -> None:
        text = f"{HEADER}B-1,CAFÉ,1,\n"
        content = (
            b"\xff\xfe" + text.encode("utf-16-le")
            if encoding == "utf-16-le-bom"
            else text.encode(encoding)
        )
        assert inbox.imports(content) == ({"created": 1}, [])

    def test_of_a_header_alone_is_an_import_of_nothing(self, inbox: Inbox) -> None:
        assert inbox.imports(HEADER.encode()) == ({}, [])

    def test_of_objects_is_read_as_one_of_rows_is(self, inbox: Inbox) -> None:
        lines = (
            '{"reference": "B-1", "sku": "LAMP", "quantity": 5}\n'
            '{"sku": "LAMP", "reference": "B-2", "quantity": "6"}\n'
            '{"reference": ["B-3"], "sku": "LAMP", "quantity": 1}\n'
            "[1, 2]\n"
            "\n"
            '{"reference": "B-4", "sku": "LAMP"}\n'
        )
        ends, errors = inbox.imports(lines.encode())
        assert ends == {"created": 2, "failed": 3}
        assert [line for line, _, _ in errors] == [3, 4, 6]


class TestARow:
    def test_that_is_ragged_fails_alone(self, inbox: Inbox) -> None:
        ends, errors = inbox.imports(
            f'{HEADER}B-1,LAMP,1,\nB-2,LAMP\nB-3,LAMP,1,,more\nB-4,LAMP,1,,,\n"B-5,LAMP,1,\n'.encode()
        )
        assert ends == {"created": 2, "failed": 3}
        assert [(line, code) for line, code, _ in errors] == [
            (3, "UnreadableRow"),
            (4, "UnreadableRow"),
            (6, "UnreadableRow"),
        ]

    def test_with_null_bytes_fails_alone(self, inbox: Inbox) -> None:
        ends, [(line, code, _)] = inbox.imports(HEADER.encode() + b"B\0-1,LAMP,1,\nB-2,LAMP,1,\n")
        assert (ends, line, code) == ({"created": 1, "failed": 1}, 2, "InvalidIdentifier")

    def test_of_one_endless_line_fails_alone(self, inbox: Inbox) -> None:
        long = "x" * (3 * MEGABYTE)
        ends, errors = inbox.imports(
            f'{HEADER}B-1,LAMP,1,\nB-2,"{long}",1,\nB-3,LAMP,1,\n{long}\nB-4,LAMP,1,\n'.encode()
        )
        assert ends == {"created": 3, "failed": 2}
        assert [line for line, _, _ in errors] == [3, 5]
        assert all(len(message) < 200 for _, _, message in errors)

    def test_with_a_day_in_another_form_says_which_form(self, inbox: Inbox) -> None:
        days = ["2030-01-31", "31.01.2030", "01/31/2030", "Jan 31 2030", "2030-02-30", "tomorrow"]
        rows = "".join(f"B-{number},LAMP,1,{day}\n" for number, day in enumerate(days))
        ends, errors = inbox.imports((HEADER + rows).encode())
        assert ends == {"created": 1, "failed": 5}
        assert all("eta" in message for _, _, message in errors)

    def test_with_a_formula_is_inert_in_the_file_of_rejects(
        self, inbox: Inbox, importing: Importing, tmp_path: Path
    ) -> None:
        formula = "=cmd|'/c calc'!A1" + "+1" * 30
        ends, _ = inbox.imports(f"{HEADER}{formula},LAMP,1,\nB,LAMP,-1,\n".encode())
        assert ends == {"failed": 2}
        [run] = ImportQueries(importing.engine).newest()
        with rejects_to(tmp_path / "rejects.csv") as rejected:
            for error in ImportQueries(importing.engine).errors(run.id):
                rejected(error)
        with (tmp_path / "rejects.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["value"] for row in rows] == [f"'{formula}", "-1"]
