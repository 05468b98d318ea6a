"""Packed files: gzip and zip, unpacked as they are read and never beyond a limit."""

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"
MOST_BYTES = 1 << 30


class TooLarge(ValueError):
    """The content is larger than it may be."""


@contextmanager
def opened(path: Path, *, most_bytes: int = MOST_BYTES) -> Iterator[BinaryIO]:
    """Open a file's content, unpacked where it is packed.

    Raises:
        TooLarge: More than `most_bytes` were read of it: a bomb, or a file to be split.
        ValueError: It is an archive of several files, or a spreadsheet.
    """
    with path.open("rb") as file:
        start = file.read(len(ZIP))
        file.seek(0)
        if start == ZIP:
            with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive)) as content:
                yield _bounded(cast("BinaryIO", content), most_bytes)
        elif start.startswith(GZIP):
            with gzip.open(file) as content:
                yield _bounded(cast("BinaryIO", content), most_bytes)
        else:
            yield _bounded(file, most_bytes)


class _Bounded(RawIOBase):
    """Reads on, up to a limit."""

    def __init__(self, content: BinaryIO, most_bytes: int) -> None:
        self._content = content
        self._most = most_bytes
        self._left = most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        read = self._content.read(len(view))
        view[: len(read)] = read
        self._left -= len(read)
        if self._left < 0:
            raise TooLarge(
                f"its content has more than {self._most:,} bytes: split it, or raise the limit"
            )
        return len(read)


def _bounded(content: BinaryIO, most_bytes: int) -> BinaryIO:
    return cast("BinaryIO", BufferedReader(_Bounded(content, most_bytes), 1 << 16))


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [
        member
        for member in archive.infolist()
        # What macOS adds of its own is nobody's file.
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise ValueError(
            f"it is a ZIP archive of {len(members)} files, or a spreadsheet:"
            " pack one file alone, or save the spreadsheet as CSV"
        )
    [member] = members
    if member.flag_bits & 1:
        raise ValueError("it is encrypted: pack it without a password")
    return member
