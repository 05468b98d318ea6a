"""Files of rows, as the world writes them."""

import gzip
from pathlib import Path

import pytest

from adapters.files.csv_file import CsvFile
from adapters.files.opening import open_table
from adapters.files.tables import Table
from domain.imports.errors import FileError
from domain.imports.rows import Reject, Row


def a_file(folder: Path, content: bytes | str) -> Table:
    path = folder / "rows"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(path)


def cells(table: Table) -> list[tuple[str, ...]]:
    return [row.cells for row in table.rows() if isinstance(row, Row)]


class TestOpenTable:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_finds_the_delimiter(self, tmp_path: Path, delimiter: str) -> None:
        table = a_file(tmp_path, f"sku{delimiter}quantity\nA{delimiter}1\n")
        assert isinstance(table, CsvFile)
        assert (table.delimiter, table.header) == (delimiter, ("sku", "quantity"))
        assert cells(table) == [("A", "1")]

    def test_is_not_misled_by_delimiters_within_quotes(self, tmp_path: Path) -> None:
        table = a_file(tmp_path, '"sku, or code, or name";quantity\n"A,B";1\n')
        assert isinstance(table, CsvFile)
        assert table.delimiter == ";"

    @pytest.mark.parametrize(
        ("encoding", "found"),
        [
            ("utf-8", "utf-8-sig"),
            ("utf-8-sig", "utf-8-sig"),
            ("cp1252", "cp1252"),
            ("utf-16", "utf-16"),
        ],
    )
    def test_finds_the_encoding(self, tmp_path: Path, encoding: str, found: str) -> None:
        table = a_file(tmp_path, "sku,name\nA,café\n".encode(encoding))
        assert isinstance(table, CsvFile)
        assert (table.encoding, table.header) == (found, ("sku", "name"))
        assert cells(table) == [("A", "café")]

    def test_reads_gzip_whatever_the_name_and_knows_it_as_the_same_content(
        self, tmp_path: Path
    ) -> None:
        content = b"sku,quantity\r\nA,1\r\n"
        plain = a_file(tmp_path, content)
        packed = a_file(tmp_path, gzip.compress(content))
        assert packed.digest == plain.digest
        assert cells(packed) == [("A", "1")]

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"", "no header"),
            (b"\n\n", "no header"),
            (b"PK\x03\x04rest", "not a zip file"),
            (gzip.compress(b"sku\nA\n")[:-6], "end-of-stream"),
            (b"sku,name\nA,\x81\xff\n", "neither UTF-8 nor Windows-1252"),
        ],
        ids=["empty", "blank", "zip", "cut gzip", "no encoding"],
    )
    def test_refuses_what_is_no_file_of_rows(
        self, tmp_path: Path, content: bytes, told: str
    ) -> None:
        with pytest.raises(FileError, match=told):
            a_file(tmp_path, content)

    def test_refuses_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="cannot read"):
            open_table(tmp_path / "none.csv")


class TestRows:
    def test_know_their_lines(self, tmp_path: Path) -> None:
        table = a_file(tmp_path, 'sku,name\nA,"two\nlines"\n\nB,one\n')
        assert [(row.line, row.span) for row in table.rows() if isinstance(row, Row)] == [
            (2, 2),
            (5, 1),
        ]

    def test_that_lack_cells_are_reported(self, tmp_path: Path) -> None:
        table = a_file(tmp_path, "sku,quantity,eta\nA,1\nB,1,\n")
        [reject, row] = table.rows()
        assert isinstance(reject, Reject)
        assert (reject.line, reject.code) == (2, "UnreadableRow")
        assert reject.reason == "the row has 2 cells, the header 3"
        assert row.line == 3

    def test_with_cells_too_many_are_reported_unless_these_are_empty(self, tmp_path: Path) -> None:
        table = a_file(tmp_path, "sku,quantity\nA,1,000\nB,1,,\n")
        [reject, row] = table.rows()
        assert isinstance(reject, Reject)
        assert row.cells == ("B", "1")

    def test_with_a_stray_quote_are_reported_and_those_after_them_read(
        self, tmp_path: Path
    ) -> None:
        table = a_file(tmp_path, 'sku,name\nA,"6" plate\nB,6" plate\n')
        [reject, row] = table.rows()
        assert isinstance(reject, Reject)
        assert (reject.line, reject.code) == (2, "UnreadableRow")
        assert row.cells == ("B", '6" plate')

    def test_behind_an_unclosed_quote_are_reported_as_one_with_its_lines(
        self, tmp_path: Path
    ) -> None:
        table = a_file(tmp_path, 'sku,name\nA,"plate\nB,cup\nC,jug\n')
        [reject] = table.rows()
        assert isinstance(reject, Reject)
        assert "lines 2 to 4" in reject.reason
