"""Rows and plans for tests of imports."""

from collections.abc import Iterable, Mapping, Sequence

from domain.imports.columns import Columns
from domain.imports.rows import ImportJob, Reject, Row
from domain.imports.targets import IMPORTS, Target


def rows(*cells: Sequence[str]) -> list[Row]:
    """Build rows with the lines that they have below a header."""
    return [Row(line=line, cells=tuple(each)) for line, each in enumerate(cells, start=2)]


def plan(
    target: Target,
    header: Sequence[str],
    read: Iterable[Row | Reject],
    *,
    constants: Mapping[str, str] | None = None,
) -> tuple[list[ImportJob], list[Reject]]:
    """Plan rows whose columns are named as the fields are."""
    columns = Columns.match(header, IMPORTS[target].fields, mapped={}, constants=constants or {})
    planned = list(IMPORTS[target].jobs(read, columns))
    return (
        [each for each in planned if isinstance(each, ImportJob)],
        [each for each in planned if isinstance(each, Reject)],
    )
