"""Import runs, their chunks and their errors."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from adapters.postgres.event_tally import TALLY_EVENTS, tally_rows
from adapters.postgres.rows import as_rows
from adapters.postgres.statements import Statements
from domain.imports.columns import Columns
from domain.imports.rows import Reject, Row
from domain.imports.runs import OnExists, Plan, Report, RowEnd, RowPolicy, Run, RunState
from domain.imports.skips import SkipRule, Test
from domain.measures import import_rows

_MAY_SCAN = "SELECT pg_try_advisory_xact_lock(hashtextextended('import source ' || %(source)s, 0))"

_OPEN = """
INSERT INTO import_run (id, target, source, file_name, digest, plan, state, is_checked,
                        finished_at)
VALUES (%(id)s, %(target)s, %(source)s, %(file_name)s, decode(%(digest)s, 'hex'), %(plan)s::jsonb,
        %(state)s, %(is_checked)s, CASE WHEN NOT %(is_open)s THEN now() END)
ON CONFLICT (id) DO NOTHING"""

_ADD_CHUNK = """
INSERT INTO import_chunk (run_id, number, first_line, rows, content)
VALUES (%(run_id)s, %(number)s, %(first_line)s, %(rows)s, %(content)s)"""

_LOCK = "SELECT * FROM import_run WHERE id = %(id)s FOR NO KEY UPDATE"

_CHUNK = "SELECT content FROM import_chunk WHERE run_id = %(id)s AND number = %(number)s"

_SAVE = """
UPDATE import_run SET
    state = %(state)s, chunks = %(chunks)s, next_chunk = %(next_chunk)s, rows = %(rows)s,
    rows_done = %(rows_done)s, ends = %(ends)s::jsonb, skipped = %(skipped)s::jsonb,
    resumed = %(resumed)s, is_checked = %(is_checked)s,
    finished_at = CASE WHEN %(is_open)s THEN NULL ELSE coalesce(finished_at, clock_timestamp()) END
WHERE id = %(id)s"""

_FORGET = "UPDATE import_chunk SET content = NULL WHERE run_id = %(id)s AND content IS NOT NULL"

_DONE = """
UPDATE import_chunk SET
    job_id = %(job_id)s, ends = %(ends)s::jsonb, finished_at = clock_timestamp(),
    content = CASE WHEN %(keep)s THEN content END
WHERE run_id = %(run_id)s AND number = %(number)s"""

_ERRORS = """
INSERT INTO import_error (run_id, line, column_name, code, message, value, is_personal)
SELECT %(run_id)s, line, column_name, code, message, value, %(is_personal)s
FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS error (line integer, column_name text, code text, message text, value text)"""


ROW_PARTS = 3
"""Parts of a packed row; one that could not be read has another."""


class PostgresImports:
    """Meets `domain.imports.ports.Imports`."""

    def __init__(self, statements: Statements, *, reached: Callable[[str], None]) -> None:
        self._statements = statements
        self._reached = reached

    def may_scan(self, source: str) -> bool:
        [(may,)] = self._statements.ask(_MAY_SCAN, {"source": source})
        return bool(may)

    def open(self, run: Run, *, digest: str) -> bool:
        written = self._statements.write(
            _OPEN,
            {
                "id": run.id,
                "target": run.plan.target,
                "source": run.source,
                "file_name": run.file_name,
                "digest": digest,
                "plan": _json(asdict(run.plan)),
                "state": run.state,
                "is_checked": run.is_checked,
                "is_open": run.state.is_open,
            },
        )
        return written == 1

    def add_chunk(self, run: Run, number: int, rows: Sequence[Row | Reject]) -> None:
        self._reached("import.taking")
        self._statements.tell(
            _ADD_CHUNK,
            {
                "run_id": run.id,
                "number": number,
                "first_line": rows[0].line,
                "rows": len(rows),
                "content": orjson.dumps([_packed(row) for row in rows]),
            },
        )

    def locked(self, run_id: str) -> Run | None:
        rows = self._statements.ask(_LOCK, {"id": run_id})
        if not rows:
            return None
        [row] = rows
        return Run(
            id=row.id,
            plan=_plan(row.plan),
            file_name=row.file_name,
            source=row.source,
            state=RunState(row.state),
            is_checked=row.is_checked,
            next_chunk=row.next_chunk,
            chunks=row.chunks,
            rows=row.rows,
            ends=Counter({RowEnd(end): rows for end, rows in row.ends.items()}),
            skipped=Counter(row.skipped),
            resumed=row.resumed,
        )

    def chunk(self, run: Run, number: int) -> list[Row | Reject]:
        [(content,)] = self._statements.ask(_CHUNK, {"id": run.id, "number": number})
        return [_unpacked(packed) for packed in orjson.loads(content)]

    def holds_rows(self, run: Run) -> bool:
        held = self._statements.ask(
            "SELECT FROM import_chunk"
            " WHERE run_id = %(id)s AND number = %(number)s AND content IS NOT NULL",
            {"id": run.id, "number": run.next_chunk},
        )
        return bool(held)

    def save(self, run: Run) -> None:
        self._statements.tell(
            _SAVE,
            {
                "id": run.id,
                "state": run.state,
                "chunks": run.chunks,
                "next_chunk": run.next_chunk,
                "rows": run.rows,
                "rows_done": run.rows_done,
                "ends": _json(run.ends),
                "skipped": _json(run.skipped),
                "resumed": run.resumed,
                "is_checked": run.is_checked,
                "is_open": run.state.is_open,
            },
        )
        if run.state in (RunState.FINISHED, RunState.REFUSED):
            self._statements.tell(_FORGET, {"id": run.id})

    def report(self, run: Run, number: int, report: Report, *, job_id: str) -> None:
        self._reached("import.counting")
        is_check = job_id.endswith(f":check:{number}")
        self._statements.tell(
            _DONE,
            {
                "run_id": run.id,
                "number": number,
                "job_id": job_id,
                "ends": _json(report.ends),
                # A check is read again, to take effect.
                "keep": is_check,
            },
        )
        if not (is_check or run.plan.dry_run):
            self._statements.tell(
                TALLY_EVENTS,
                {"tallies": tally_rows(import_rows(run.plan.target, report.ends))},
            )
        if report.errors:
            rows = [
                {
                    "line": error.line,
                    "column_name": error.column,
                    "code": error.code,
                    "message": _storable(error.message),
                    "value": error.value and _storable(error.value),
                }
                for error in report.errors
            ]
            self._statements.tell(
                _ERRORS,
                {"run_id": run.id, "rows": as_rows(rows), "is_personal": run.plan.is_personal},
            )


def _packed(row: Row | Reject) -> list[object]:
    if isinstance(row, Row):
        return [row.line, row.cells, row.span]
    return [row.line, row.cells, row.code, row.reason]


def _unpacked(packed: list[Any]) -> Row | Reject:
    if len(packed) == ROW_PARTS:
        line, cells, span = packed
        return Row(line=line, cells=tuple(cells), span=span)
    line, cells, code, reason = packed
    return Reject(line=line, cells=tuple(cells), code=code, reason=reason)


def _plan(stored: Mapping[str, Any]) -> Plan:
    return Plan(
        target=stored["target"],
        header=tuple(stored["header"]),
        columns=Columns(**stored["columns"]),
        skips=tuple(SkipRule(**{**rule, "test": Test(rule["test"])}) for rule in stored["skips"]),
        policy=RowPolicy(stored["policy"]),
        max_errors=stored["max_errors"],
        dry_run=stored["dry_run"],
        on_exists=OnExists(stored["on_exists"]),
    )


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
