"""CSV as it comes, in any of its usual encodings and dialects."""

import csv
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from adapters.files.packing import opened
from adapters.files.tables import UNREADABLE, Table, check_header
from domain.imports.rows import Reject, Row

DELIMITERS = (",", ";", "\t", "|")
MOST_LINE = 1 << 20
"""Characters of a line; what is longer is no row."""

_NOT_IN_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")
_CHUNK = 1 << 20
_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile(Table):
    """A file of delimited text."""

    encoding: str
    delimiter: str

    def _rows(self) -> Iterator[Row | Reject]:
        with opened(self.path, most_bytes=self.most_bytes) as content:
            lines = _Lines(_text(content, self.encoding))
            reader = self._reader(lines)
            _first(reader)
            while True:
                line = lines.number + 1
                try:
                    cells = tuple(next(reader))
                except StopIteration:
                    return
                except _LineTooLong as error:
                    # In the middle of a row the reader cannot go on: another begins after it.
                    reader = self._reader(lines)
                    yield Reject(line=line, code=UNREADABLE, reason=str(error))
                except csv.Error as error:
                    reason = f"{error}, in {_span(line, lines.number)}"
                    yield Reject(line=line, code=UNREADABLE, reason=reason)
                else:
                    if cells:
                        yield self._row(cells, line=line, span=lines.number - line + 1)

    def _reader(self, lines: "_Lines") -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _row(self, cells: tuple[str, ...], *, line: int, span: int) -> Row | Reject:
        width = len(self.header)
        # Cells too many shift what follows them, unless all that is too many is empty.
        if len(cells) < width or any(cells[width:]):
            reason = f"the row has {len(cells)} cells, the header {width}"
            return Reject(line=line, code=UNREADABLE, reason=reason, cells=cells)
        return Row(line=line, cells=cells[:width], span=span)


def open_csv(path: Path, *, name: str, most_bytes: int, kept_by: object) -> CsvFile:
    """Read a file through: its digest, encoding, delimiter and header.

    It is UTF-8, or UTF-16 where it starts with a byte order mark, or else Windows-1252; the
    delimiter is the one that divides the header into the most columns.

    Raises:
        ValueError: It is no text in these encodings, has no header, or is too large.
    """
    digest = sha256()
    encoding = _Encoding()
    lines = 0
    with opened(path, most_bytes=most_bytes) as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            encoding.look_at(chunk)
            lines += chunk.count(b"\n")
    found = encoding.name()
    with opened(path, most_bytes=most_bytes) as content:
        delimiter, header = _header(_text(content, found).read(_SAMPLE))
    return CsvFile(
        path=path,
        name=name,
        digest=digest.hexdigest(),
        header=header,
        lines=lines,
        most_bytes=most_bytes,
        kept_by=kept_by,
        encoding=found,
        delimiter=delimiter,
    )


class _LineTooLong(Exception):
    """A line is longer than any row."""


class _Lines:
    """Counts lines, and never holds one that is too long."""

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MOST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MOST_LINE and not line.endswith(("\n", "\r")):
            self._leave_out_the_rest()
            raise _LineTooLong(f"line {self.number} has more than {MOST_LINE:,} characters")
        return line

    def _leave_out_the_rest(self) -> None:
        while (more := self._text.readline(MOST_LINE)) and not more.endswith(("\n", "\r")):
            continue


class _Encoding:
    """Tells an encoding from the bytes, as they come."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")()
        self._is_utf8 = True
        self._is_cp1252 = True
        self._mark: bytes | None = None

    def look_at(self, chunk: bytes) -> None:
        self._mark = self._mark or chunk[:2]
        self._is_cp1252 = self._is_cp1252 and _NOT_IN_CP1252.isdisjoint(chunk)
        self._decode(chunk)

    def name(self) -> str:
        self._decode(b"", final=True)
        if self._mark in (BOM_UTF16_LE, BOM_UTF16_BE):
            return "utf-16"
        if self._is_utf8:
            return "utf-8-sig"
        if self._is_cp1252:
            return "cp1252"
        raise ValueError("it is text in neither UTF-8 nor Windows-1252; save it as CSV in UTF-8")

    def _decode(self, chunk: bytes, *, final: bool = False) -> None:
        if self._is_utf8:
            try:
                self._decoder.decode(chunk, final)
            except UnicodeDecodeError:
                self._is_utf8 = False


def _span(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _text(content: BinaryIO, encoding: str) -> TextIOWrapper:
    return TextIOWrapper(content, encoding=encoding, newline="")


def _header(sample: str) -> tuple[str, tuple[str, ...]]:
    headers = {
        delimiter: _first(csv.reader(StringIO(sample, newline=""), delimiter=delimiter))
        for delimiter in DELIMITERS
    }
    delimiter = max(headers, key=lambda each: len(headers[each]))
    return delimiter, check_header(headers[delimiter])


def _first(reader: Iterable[list[str]]) -> list[str]:
    return next((cells for cells in reader if cells), [])
