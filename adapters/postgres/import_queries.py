"""Import runs, as operators ask for them: by SQL, never through a broker."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row

from domain.imports.runs import RowError, RunState

PAGE = 1_000
"""Errors read at once."""

# A chunk that is dead holds up its run until somebody has looked at it.
_RUNS = """
SELECT import_run.id, target, source, file_name, import_run.state, plan, chunks,
       next_chunk, rows, rows_done, ends, skipped, import_run.created_at, import_run.finished_at,
       dead.id AS dead_job_id, dead.reason
FROM import_run LEFT JOIN LATERAL (
    SELECT job.id, job.error ->> 'message' AS reason FROM job
    WHERE import_run.finished_at IS NULL AND correlation_id = import_run.id AND job.state = 'dead'
    LIMIT 1
) AS dead ON true"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, and how far it is."""

    id: str
    target: str
    source: str | None
    file_name: str
    state: RunState
    plan: Mapping[str, Any]
    chunks: int
    next_chunk: int
    rows: int
    rows_done: int
    ends: Mapping[str, int]
    """Rows by what became of them."""
    skipped: Mapping[str, int]
    """Skipped rows by reason."""
    created_at: datetime
    finished_at: datetime | None
    dead_job_id: str | None
    """The job of its next chunk, where that is dead: the run goes on once it is retried."""
    reason: str | None
    """Why that job is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCount:
    """Rows of a run that had no effect for one reason."""

    code: str
    rows: int
    first_line: int
    example: str
    """What the first of them was told."""


class ImportQueries:
    """Reads runs; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, run_id: str) -> RunView | None:
        rows = self._read(f"{_RUNS} WHERE import_run.id = %(id)s", id=run_id)
        return _view(rows[0]) if rows else None

    def progress(self, run_id: str) -> dict[str, Any]:
        """Return how far a run is as plain values; empty where there is no such run."""
        rows = self._read(
            "SELECT id AS run_id, file_name AS file, state, rows, rows_done, ends"
            " FROM import_run WHERE id = %(id)s",
            id=run_id,
        )
        return dict(rows[0]._mapping) if rows else {}  # noqa: SLF001  its public way to a dict

    def newest(self, *, states: Sequence[RunState] = (), limit: int = 50) -> list[RunView]:
        """Return runs, the newest first."""
        where = "WHERE import_run.state = ANY(%(states)s)" if states else ""
        rows = self._read(
            f"{_RUNS} {where}"
            " ORDER BY import_run.created_at DESC, import_run.id DESC LIMIT %(limit)s",
            states=list(states),
            limit=limit,
        )
        return [_view(row) for row in rows]

    def reasons(self, run_id: str) -> list[ErrorCount]:
        """Count the rows that had no effect by code, most first."""
        rows = self._read(
            "SELECT code, count(*) AS rows, min(line) AS first_line,"
            " (array_agg(message ORDER BY line))[1] AS example"
            " FROM import_error WHERE run_id = %(id)s GROUP BY code ORDER BY rows DESC, code",
            id=run_id,
        )
        return [
            ErrorCount(code=row.code, rows=row.rows, first_line=row.first_line, example=row.example)
            for row in rows
        ]

    def errors(self, run_id: str) -> Iterator[RowError]:
        """Yield why rows had no effect, in the order of the file; never all at once."""
        after = (0, 0)
        while True:
            rows = self._read(
                "SELECT id, line, column_name, code, message, value FROM import_error"
                " WHERE run_id = %(run)s AND (line, id) > (%(line)s, %(id)s)"
                " ORDER BY line, id LIMIT %(limit)s",
                run=run_id,
                line=after[0],
                id=after[1],
                limit=PAGE,
            )
            for row in rows:
                yield RowError(
                    line=row.line,
                    column=row.column_name,
                    code=row.code,
                    message=row.message,
                    value=row.value,
                )
            if len(rows) < PAGE:
                return
            after = (rows[-1].line, rows[-1].id)

    def _read(self, statement: str, **parameters: Any) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.exec_driver_sql(statement, parameters).all()


def _view(row: Row[Any]) -> RunView:
    return RunView(**{**row._mapping, "state": RunState(row.state)})  # noqa: SLF001  its public way to a dict
