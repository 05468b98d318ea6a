"""Files of rows: CSV as it comes, in any of its usual encodings and dialects, gzip too."""

import csv
import gzip
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from domain.imports.rows import Reject, Row

DELIMITERS = (",", ";", "\t", "|")
UNREADABLE = "UnreadableRow"
"""Code of a row whose cells cannot be told apart."""

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_NOT_IN_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")
_CHUNK = 1 << 20
_SAMPLE = 1 << 16


class FileError(Exception):
    """The file cannot be read as rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """A file of rows, read through once: what it holds and how to read it."""

    path: Path
    digest: str
    """SHA-256 of its content, which packing it changes nothing about."""
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    lines: int
    """Line feeds in it: the number of rows, about."""

    def rows(self) -> Iterator[Row | Reject]:
        """Read the rows below the header one by one; empty lines are none."""
        with _opened(self.path) as content, _text(content, self.encoding) as text:
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            _first(reader)
            while True:
                line = reader.line_num + 1
                try:
                    cells = tuple(next(reader))
                except StopIteration:
                    return
                except csv.Error as error:
                    span = (
                        f"line {line}"
                        if line == reader.line_num
                        else (f"lines {line} to {reader.line_num}")
                    )
                    yield Reject(line=line, code=UNREADABLE, reason=f"{error}, in {span}")
                else:
                    if cells:
                        yield self._row(cells, line=line, span=reader.line_num - line + 1)

    def _row(self, cells: tuple[str, ...], *, line: int, span: int) -> Row | Reject:
        width = len(self.header)
        # Cells too many shift what follows them, unless all that is too many is empty.
        if len(cells) < width or any(cells[width:]):
            reason = f"the row has {len(cells)} cells, the header {width}"
            return Reject(line=line, code=UNREADABLE, reason=reason, cells=cells)
        return Row(line=line, cells=cells[:width], span=span)


def open_table(path: Path) -> TableFile:
    """Read a file through: its digest, encoding, delimiter and header.

    It is UTF-8, or UTF-16 where it starts with a byte order mark, or else Windows-1252; the
    delimiter is the one that divides the header into the most columns.

    Raises:
        FileError: It cannot be opened, is damaged, or has no header.
    """
    digest = sha256()
    encoding = _Encoding()
    lines = 0
    try:
        with _opened(path) as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                encoding.look_at(chunk)
                lines += chunk.count(b"\n")
        found = encoding.name()
        with _opened(path) as content, _text(content, found) as text:
            delimiter, header = _header(text.read(_SAMPLE))
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        raise FileError(f"cannot read {path}: {error}") from error
    return TableFile(
        path=path,
        digest=digest.hexdigest(),
        encoding=found,
        delimiter=delimiter,
        header=header,
        lines=lines,
    )


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


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    if start == _ZIP:
        raise ValueError("it is a ZIP file or a spreadsheet; save it as CSV")
    return cast("BinaryIO", gzip.open(path)) if start.startswith(_GZIP) else path.open("rb")


def _text(content: BinaryIO, encoding: str) -> TextIOWrapper:
    return TextIOWrapper(content, encoding=encoding, newline="")


def _header(sample: str) -> tuple[str, tuple[str, ...]]:
    headers = {
        delimiter: _first(csv.reader(StringIO(sample, newline=""), delimiter=delimiter))
        for delimiter in DELIMITERS
    }
    delimiter = max(headers, key=lambda each: len(headers[each]))
    header = tuple(column.strip() for column in headers[delimiter])
    if not any(header):
        raise ValueError("it has no header: its first line names the columns")
    return delimiter, header


def _first(reader: Iterable[list[str]]) -> list[str]:
    return next((cells for cells in reader if cells), [])
