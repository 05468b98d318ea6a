"""A ledger with years behind it: every row that finished jobs leave, made by the database itself.

Constraints and indexes are dropped meanwhile and made again, as one does for a bulk load: a
million jobs, with nine million rows in six tables, take a quarter of a minute on four cores.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

TABLES = ("job", "sales_order", "order_line", "allocation", "stock_movement", "outbox")
CONNECTIONS = 4
CHUNK = 125_000
"""Jobs that one statement writes."""

# One order a job; a hundredth is refused, and a thousandth is dead.
_JOBS = """
INSERT INTO job (id, kind, queue, door, payload, payload_hash, state, attempts, max_attempts,
                 dispatches, result, error, correlation_id, created_at, finished_at)
SELECT 'old-' || n, 'allocation.allocate_order', 'allocation', 'ledger',
       format('{"order_id": "old-%%s", "lines": [{"sku": "SKU-%%s", "quantity": 2}]}',
              n, n %% %(products)s)::jsonb,
       sha256(n::text::bytea), state, CASE state WHEN 'dead' THEN 5 ELSE 1 END, 5, 1,
       CASE state WHEN 'succeeded' THEN format(
           '{"order_id": "old-%%s", "state": "allocated", "lines": [{"line_id": "1", "sku":'
           ' "SKU-%%s", "quantity": 2, "allocated": 2}]}', n, n %% %(products)s)::jsonb END,
       CASE WHEN state <> 'succeeded' THEN
           '{"type": "OutOfStock", "module": "domain.allocation.errors", "message": "none left",
             "details": {}, "traceback": null}'::jsonb END,
       'old-' || n, at, at + interval '200 milliseconds'
FROM generate_series(%(first)s, %(last)s) AS n
CROSS JOIN LATERAL (
    SELECT CASE WHEN n %% 1000 = 500 THEN 'dead' WHEN n %% 100 = 50 THEN 'rejected'
                ELSE 'succeeded' END AS state,
           now() - interval '1 hour' - (%(jobs)s - n) * interval '29 days' / %(jobs)s AS at
) AS made"""

_ORDERS = """
INSERT INTO sales_order (order_id, policy, may_split, strategy, priority, fingerprint, job_id)
SELECT 'old-' || n, 'all_or_nothing', false, 'earliest', 0, md5(n::text) || md5(n::text),
       'old-' || n
FROM generate_series(%(first)s, %(last)s) AS n"""

_EACH_LINE = """
FROM generate_series(%(first)s, %(last)s) AS n
CROSS JOIN LATERAL generate_series(1, 1 + n %% %(lines)s) AS line"""

_SKU = "((n + line * 7) %% %(products)s)"

_LINES = f"""
INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)
SELECT 'old-' || n, line::text, line - 1, 'SKU-' || {_SKU}, 2, 'allocated'
{_EACH_LINE}"""

_ALLOCATIONS = f"""
INSERT INTO allocation
    (order_id, line_id, batch_reference, quantity, strategy, ranking, job_id)
SELECT 'old-' || n, line::text, 'B-' || {_SKU}, 2, 'earliest',
       jsonb_build_array(jsonb_build_array('B-' || {_SKU}, 100000, NULL)), 'old-' || n
{_EACH_LINE}"""

_MOVEMENTS = f"""
INSERT INTO stock_movement
    (job_id, cause, sku, batch_reference, counter, before, after, order_id, line_id)
SELECT 'old-' || n, 'order_allocated', 'SKU-' || {_SKU}, 'B-' || {_SKU}, 'allocated',
       2 * (n / %(products)s), 2 * (n / %(products)s) + 2, 'old-' || n, line::text
{_EACH_LINE}"""

# An event a line, and one for the order; all are published.
_EVENTS = """
INSERT INTO outbox (name, aggregate, payload, job_id, correlation_id, occurred_at, published_at)
SELECT CASE line WHEN 0 THEN 'OrderAllocated' ELSE 'LineAllocated' END, 'order:old-' || n,
       jsonb_build_object('order_id', 'old-' || n, 'line_id', line::text), 'old-' || n,
       'old-' || n, at, at
FROM generate_series(%(first)s, %(last)s) AS n
CROSS JOIN LATERAL generate_series(0, 1 + n %% %(lines)s) AS line
CROSS JOIN LATERAL (
    SELECT now() - interval '1 hour' - (%(jobs)s - n) * interval '29 days' / %(jobs)s AS at
) AS made"""

STATEMENTS = (_JOBS, _EVENTS, _MOVEMENTS, _ALLOCATIONS, _LINES, _ORDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How many finished jobs there are to be, over how many products, each with one batch."""

    jobs: int
    products: int = 3_000
    most_lines: int = 3
    """Orders have from one line to so many."""


def write(url: str, history: History) -> None:
    """Write the history into a database that has no jobs yet, and analyze it."""
    if not history.jobs:
        return
    with psycopg.connect(url, autocommit=True) as connection, _bare(connection, url):
        work = [
            (
                statement,
                {
                    "first": first,
                    "last": min(first + CHUNK, history.jobs) - 1,
                    "jobs": history.jobs,
                    "products": history.products,
                    "lines": history.most_lines,
                },
            )
            for statement in STATEMENTS
            for first in range(0, history.jobs, CHUNK)
        ]
        _side_by_side(url, work)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE batch SET purchased = purchased + held.units, allocated = allocated + units"
            " FROM (SELECT batch_reference, sum(quantity)::integer AS units FROM allocation"
            "       GROUP BY batch_reference) AS held WHERE reference = batch_reference"
        )
    _side_by_side(url, [(f"VACUUM ANALYZE {table}", None) for table in (*TABLES, "batch")])


@contextmanager
def _bare(connection: psycopg.Connection[Any], url: str) -> Iterator[None]:
    """Take the tables' indexes and constraints away while the context lasts."""
    constraints = connection.execute(
        """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype::text
        FROM pg_constraint
        WHERE contype IN ('p', 'u', 'f') AND (conrelid = ANY(%(tables)s::regclass[])
              OR confrelid = ANY(%(tables)s::regclass[]))
        ORDER BY contype""",
        {"tables": list(TABLES)},
    ).fetchall()
    indexes = connection.execute(
        """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
        WHERE indrelid = ANY(%(tables)s::regclass[])
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid
                          AND conrelid = indrelid)""",
        {"tables": list(TABLES)},
    ).fetchall()
    # Foreign keys come first in the alphabet, as they must go first.
    for table, name, _, _ in constraints:
        connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'.encode())
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    yield
    keys, references = (
        [
            (f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}', None)
            for table, name, definition, kind in constraints
            if (kind == "f") == is_reference
        ]
        for is_reference in (False, True)
    )
    _side_by_side(url, [*keys, *((definition, None) for _, definition in indexes)])
    for statement, _ in references:
        # What was written fits; to look again would read all of it.
        connection.execute(f"{statement} NOT VALID".encode())


def _side_by_side(url: str, work: Sequence[tuple[str, dict[str, int] | None]]) -> None:
    """Run statements over several connections."""
    left = iter(work)

    def run() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            # What is lost when the server dies is made again.
            connection.execute("SET synchronous_commit = off")
            connection.execute("SET maintenance_work_mem = '256MB'")
            for statement, parameters in left:
                connection.execute(statement.encode(), parameters)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(run) for _ in range(CONNECTIONS)]:
            done.result()
