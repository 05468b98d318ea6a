"""Parquet, read a batch of rows at a time; needs the extra `parquet`."""

from collections.abc import Iterable, Iterator
from hashlib import file_digest
from importlib import import_module
from pathlib import Path
from typing import Any

from adapters.files.tables import UNREADABLE, Table, as_cell, check_header
from domain.imports.rows import Reject, Row

MAGIC = b"PAR1"
BATCH = 2_000


class ParquetFile(Table):
    """A file of columns; a row's line is its number."""

    __slots__ = ()

    def _rows(self) -> Iterator[Row | Reject]:
        number = 0
        with _reader(self.path) as reader:
            for batch in reader.iter_batches(batch_size=BATCH):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield _row(number, cells)


def open_parquet(path: Path, *, name: str, most_bytes: int, kept_by: object) -> ParquetFile:
    """Read a file's schema and digest.

    Raises:
        ValueError: It is damaged, too large, or the extra is not installed.
    """
    with _reader(path) as reader:
        header = check_header(reader.schema_arrow.names)
        rows = reader.metadata.num_rows
        size = sum(
            reader.metadata.row_group(group).total_byte_size
            for group in range(reader.metadata.num_row_groups)
        )
    if size > most_bytes:
        raise ValueError(
            f"its content has {size:,} bytes, at most {most_bytes:,} are taken: split it"
        )
    with path.open("rb") as content:
        digest = file_digest(content, "sha256").hexdigest()
    return ParquetFile(
        path=path,
        name=name,
        digest=digest,
        header=header,
        lines=rows,
        most_bytes=most_bytes,
        kept_by=kept_by,
    )


def _reader(path: Path) -> Any:  # noqa: ANN401  pyarrow has no types
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError(
            "it is Parquet, which needs the extra `parquet`:"
            " pip install '.[parquet]' in Tallyman's folder"
        ) from error
    return parquet.ParquetFile(path)


def _row(number: int, values: Iterable[object]) -> Row | Reject:
    try:
        return Row(line=number, cells=tuple(map(as_cell, values)))
    except ValueError as error:
        return Reject(line=number, code=UNREADABLE, reason=f"row {number}: {error}")
