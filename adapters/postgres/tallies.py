"""Tallies read, and made few again."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Row

from domain.measures import STOCK_OUT

LOCK = 0x7A11_7A1E
"""Advisory lock of whoever replaces many rows by few."""
MANY = 2_000
"""Rows of a tally that nobody minds."""
FOLD = 100_000
"""Rows replaced at once: few enough to be done within a second or two."""
HOURS = 24
"""What is counted by the hour is forgotten after so many."""
MOST_PRODUCTS = 20
"""Products told of by name: those that ran out most often."""

_THIS_HOUR = "floor(extract(epoch FROM now()) / 3600)::integer"

_JOBS = """
SELECT kind, state, error, waited_below, took_below, sum(jobs)::bigint AS jobs,
       sum(waited) AS waited, sum(took) AS took
FROM job_tally GROUP BY 1, 2, 3, 4, 5"""

_EVENTS = """
SELECT name, label, sum(number)::bigint AS number, sum(units)::bigint AS units
FROM event_tally WHERE hour IS NULL GROUP BY 1, 2"""

_STOCK_OUTS = f"""
SELECT name, label, sum(number)::bigint AS number, sum(units)::bigint AS units
FROM event_tally WHERE name = '{STOCK_OUT}' AND hour > {_THIS_HOUR} - {HOURS}
GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT {MOST_PRODUCTS}"""

_TAKE = """
DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT %(most)s) RETURNING *"""

_FOLDS = {
    "job_tally": """
    INSERT INTO job_tally (kind, state, error, waited_below, took_below, jobs, waited, took)
    SELECT kind, state, error, waited_below, took_below, sum(jobs), sum(waited), sum(took)
    FROM taken GROUP BY 1, 2, 3, 4, 5""",
    "event_tally": f"""
    INSERT INTO event_tally (name, label, hour, number, units)
    SELECT name, label, hour, sum(number), sum(units)
    FROM taken WHERE hour IS NULL OR hour > {_THIS_HOUR} - {HOURS} GROUP BY 1, 2, 3""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTally:
    """Jobs that came to the same end."""

    kind: str
    state: str
    error: str | None
    waited_below: float | None
    """Upper bound of the class of times that they are in; None where none was taken."""
    took_below: float | None
    jobs: int
    waited: float
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTally:
    """Events of one name and label."""

    name: str
    label: str
    number: int
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """All that was ever tallied; of products, those of the last day that ran out most often."""

    jobs: tuple[JobTally, ...] = ()
    events: tuple[EventTally, ...] = ()
    stock_outs: tuple[EventTally, ...] = ()


def read(connection: Connection) -> Tallies:
    """Add up the tallies."""
    return Tallies(
        jobs=tuple(JobTally(**row) for row in connection.exec_driver_sql(_JOBS).mappings()),
        events=tuple(map(_event, connection.exec_driver_sql(_EVENTS))),
        stock_outs=tuple(map(_event, connection.exec_driver_sql(_STOCK_OUTS))),
    )


def _event(row: Row[Any]) -> EventTally:
    return EventTally(name=row.name, label=row.label, number=row.number, units=row.units)


@dataclass(kw_only=True)
class Folding:
    """Replaces many rows of a tally by few that add up to the same; any number may do so."""

    engine: Engine
    _left: dict[str, int] = field(default_factory=dict)
    """Rows that there were when it was last done."""

    def fold(self) -> int:
        """Do it where it is worth it; return how many rows were replaced."""
        return sum(self._fold(table) for table in _FOLDS)

    def _fold(self, table: str) -> int:
        with self.engine.begin() as connection:
            rows = _count(connection, table)
            # As many again came since: so the work stays in proportion, however many keys.
            if rows < MANY + 2 * self._left.get(table, 0):
                return 0
            if not connection.exec_driver_sql(
                f"SELECT pg_try_advisory_xact_lock({LOCK})"
            ).scalar_one():
                return 0
            take = _TAKE.format(table=table)
            connection.exec_driver_sql(f"WITH taken AS ({take}) {_FOLDS[table]}", {"most": FOLD})
            self._left[table] = 0 if rows > FOLD else _count(connection, table)
        return min(rows, FOLD)


def _count(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())
