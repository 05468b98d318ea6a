"""JSON Lines: an object a line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from adapters.files.packing import opened
from adapters.files.tables import UNREADABLE, Table, as_cell, check_header
from domain.imports.rows import Reject, Row

MOST_LINE = 1 << 20
"""Bytes of a line; what is longer is no row."""
LOOKED_AT = 100
"""Objects whose names are the columns: not every object has to have them all."""


class JsonLines(Table):
    """A file of objects, whose names are the columns; one that is left out is empty."""

    __slots__ = ()

    def _rows(self) -> Iterator[Row | Reject]:
        with opened(self.path, most_bytes=self.most_bytes) as content:
            for number, line in _lines(content):
                if line is None:
                    reason = f"line {number} has more than {MOST_LINE:,} bytes"
                    yield Reject(line=number, code=UNREADABLE, reason=reason)
                elif line.strip():
                    yield self._row(number, line)

    def _row(self, number: int, line: bytes) -> Row | Reject:
        try:
            found = _object(line)
            _check_names(found, self.header)
            return Row(line=number, cells=tuple(as_cell(found.get(name)) for name in self.header))
        except ValueError as error:
            return Reject(line=number, code=UNREADABLE, reason=f"line {number}: {error}")


def open_json_lines(path: Path, *, name: str, most_bytes: int, kept_by: object) -> JsonLines:
    """Read a file through: its digest, and the names in its first objects.

    Raises:
        ValueError: Its first line is no object, or it is too large.
    """
    digest = sha256()
    columns: dict[str, None] = {}
    rows = 0
    with opened(path, most_bytes=most_bytes) as content:
        for _, line in _lines(content, digest.update):
            rows += 1
            if line is not None and line.strip() and rows <= LOOKED_AT:
                try:
                    columns |= dict.fromkeys(_object(line))
                except ValueError:
                    if not columns:
                        raise
    return JsonLines(
        path=path,
        name=name,
        digest=digest.hexdigest(),
        header=check_header(list(columns)),
        lines=rows,
        most_bytes=most_bytes,
        kept_by=kept_by,
    )


def _lines(
    content: BinaryIO, seen: Callable[[bytes], None] = lambda _: None
) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line with its number, None for one that is too long."""
    number = 0
    while line := content.readline(MOST_LINE):
        number += 1
        seen(line)
        if len(line) < MOST_LINE or line.endswith(b"\n"):
            yield number, line
            continue
        while (more := content.readline(MOST_LINE)) and not more.endswith(b"\n"):
            seen(more)
        seen(more)
        yield number, None


def _check_names(found: Mapping[str, object], header: Sequence[str]) -> None:
    unknown = found.keys() - set(header)
    if unknown:
        raise ValueError(f"none of the first {LOOKED_AT} objects has {min(unknown)!r}")


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("it is JSON but no object")  # noqa: TRY004  the caller knows ValueErrors
    return found
