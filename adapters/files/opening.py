"""Opening a file of rows, whatever it is: its content tells, not its name."""

from pathlib import Path
from typing import Protocol

from adapters.files import packing
from adapters.files.csv_file import open_csv
from adapters.files.json_lines import open_json_lines
from adapters.files.parquet import MAGIC, open_parquet
from adapters.files.tables import Table, as_text, reading

MOST_BYTES = packing.MOST_BYTES
_BOM = b"\xef\xbb\xbf"


class Opener(Protocol):
    """Opens files of one kind."""

    def __call__(self, path: Path, *, name: str, most_bytes: int, kept_by: object) -> Table: ...


def open_table(
    path: Path, *, most_bytes: int = MOST_BYTES, name: str | None = None, kept_by: object = None
) -> Table:
    """Read a file through: what it is, its digest and its columns.

    It is CSV, JSON Lines or Parquet; the first two may be packed with gzip or zip.

    Raises:
        FileError: It cannot be opened, is damaged, too large, or has no columns.
    """
    called = name or as_text(path.name)
    with reading(as_text(str(path)) if name is None else name):
        if not path.is_file():
            raise ValueError("there is no such file" if not path.exists() else "it is no file")
        with packing.opened(path, most_bytes=most_bytes) as content:
            start = content.read(1 << 10).removeprefix(_BOM).lstrip()
        return _opener(start)(path, name=called, most_bytes=most_bytes, kept_by=kept_by)


def _opener(start: bytes) -> Opener:
    if start.startswith(MAGIC):
        return open_parquet
    return open_json_lines if start.startswith(b"{") else open_csv
