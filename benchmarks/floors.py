"""What PostgreSQL itself allows here: no queue, nothing to decide, rows that are known before."""

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from benchmarks.celery_contenders import run_accepted, submissions
from benchmarks.orders import Load
from benchmarks.peers.allocation import allocate
from benchmarks.peers.gate import crew
from benchmarks.stack import plain
from benchmarks.stage import Stage, Timing, check, connected
from worker.producer import Producer

CONNECTIONS = 4
"""Transactions at once in each process that writes an order a transaction."""

# Of each table: what is copied, without what the database makes up; and where it is found.
TABLES = {
    "sales_order": (
        "order_id, policy, may_split, strategy, priority, fingerprint, job_id",
        "job_id = ANY(%(ids)s)",
    ),
    "order_line": (
        "order_id, line_id, position, sku, quantity, state",
        "order_id IN (SELECT order_id FROM sales_order WHERE job_id = ANY(%(ids)s))",
    ),
    "allocation": (
        "order_id, line_id, batch_reference, quantity, strategy, ranking, job_id",
        "job_id = ANY(%(ids)s)",
    ),
    "stock_movement": (
        "job_id, cause, sku, batch_reference, counter, before, after, order_id, line_id",
        "job_id = ANY(%(ids)s)",
    ),
    "outbox": ("name, aggregate, payload, job_id, correlation_id", "job_id = ANY(%(ids)s)"),
}

FINISH = """
UPDATE job SET state = 'succeeded', result = finished.result, attempts = 1, next_dispatch = NULL,
               finished_at = clock_timestamp()
FROM unnest(%s::text[], %s::jsonb[]) AS finished (id, result) WHERE job.id = finished.id"""

MOVE = """
WITH change AS MATERIALIZED (
    SELECT * FROM unnest(%(references)s::text[], %(units)s::integer[]) AS change (reference, units)
), locked AS MATERIALIZED (
    SELECT reference FROM batch WHERE reference = ANY(%(references)s)
    ORDER BY reference FOR NO KEY UPDATE
)
UPDATE batch SET allocated = allocated + units
FROM locked JOIN change USING (reference) WHERE batch.reference = change.reference"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What Tallyman wrote in one transaction."""

    job_ids: list[str]
    results: list[str]
    copies: list[tuple[str, bytes]]
    """For each table a COPY and its data."""
    references: list[str]
    units: list[int]


def batches(stage: Stage, load: Load) -> Timing:
    """Write again, with COPY, what Tallyman wrote: the same rows in the same transactions."""
    with stage.database(load) as url, TemporaryDirectory() as folder:
        accept(url, load)
        for number, share in enumerate(_shares(_rehearsed(stage, load), stage.processes)):
            (Path(folder) / str(number)).write_bytes(pickle.dumps(share))
        return _run(stage, load, url, "batches", folder)


def orders(stage: Stage, load: Load) -> Timing:
    """Write an order a transaction, as the peers do, with no queue."""
    with stage.database(load) as url, TemporaryDirectory() as folder:
        for number, share in enumerate(_shares(list(load.payloads()), stage.processes)):
            (Path(folder) / str(number)).write_bytes(pickle.dumps(share))
        return _run(stage, load, url, "orders", folder)


def accept(url: str, load: Load) -> None:
    """Put the load's jobs into the ledger."""
    with Producer.at(url, most_waiting=10_000_000) as producer:
        producer.submit_many(submissions(load))
    with connected(url) as connection:
        connection.execute("ANALYZE")


def _run(stage: Stage, load: Load, url: str, what: str, folder: str) -> Timing:
    with crew(
        "benchmarks.floor_writer",
        what,
        folder,
        processes=stage.processes,
        environment={"BENCH_DATABASE_URL": plain(url)},
        log=stage.log("floor"),
    ) as writers:
        seconds = writers.race()
    check(url, load)
    return Timing(jobs=load.orders, seconds=seconds)


def _shares(everything: Sequence[Any], number: int) -> list[list[Any]]:
    return [list(everything[start::number]) for start in range(number)]


_rehearsals: dict[Load, list[Written]] = {}


def _rehearsed(stage: Stage, load: Load) -> list[Written]:
    """Have Tallyman do the load once, and read what it wrote, transaction by transaction."""
    if load not in _rehearsals:
        with stage.database(load) as url:
            run_accepted(stage, load, url)
            with psycopg.connect(plain(url)) as connection:
                transactions = connection.execute(
                    "SELECT array_agg(id ORDER BY id), array_agg(result::text ORDER BY id)"
                    " FROM job GROUP BY xmin::text ORDER BY min(finished_at)"
                ).fetchall()
                _rehearsals[load] = [
                    _written(connection, ids, results) for ids, results in transactions
                ]
    return _rehearsals[load]


def _written(
    connection: psycopg.Connection[Any], job_ids: list[str], results: list[str]
) -> Written:
    copies: list[tuple[str, bytes]] = []
    for table, (columns, condition) in TABLES.items():
        rows = f"SELECT {columns} FROM {table} WHERE {condition}".encode()
        with (
            psycopg.ClientCursor(connection) as cursor,
            cursor.copy(b"COPY (" + rows + b") TO STDOUT", {"ids": job_ids}) as copy,
        ):
            copies.append((f"COPY {table} ({columns}) FROM STDIN", b"".join(map(bytes, copy))))
    moved = connection.execute(
        "SELECT batch_reference, sum(after - before)::integer FROM stock_movement"
        " WHERE job_id = ANY(%s) GROUP BY batch_reference",
        [job_ids],
    ).fetchall()
    return Written(
        job_ids=job_ids,
        results=results,
        copies=copies,
        references=[reference for reference, _ in moved],
        units=[units for _, units in moved],
    )


def write(connection: psycopg.Connection[Any], written: Written) -> None:
    """Write one transaction again."""
    with connection.transaction(), connection.cursor() as cursor:
        for statement, data in written.copies:
            with cursor.copy(statement.encode()) as copy:
                copy.write(data)
        cursor.execute(FINISH, [written.job_ids, written.results])
        cursor.execute(MOVE, {"references": written.references, "units": written.units})


def write_orders(url: str, payloads: Sequence[dict[str, Any]]) -> None:
    """Write orders one by one, over several connections."""

    def share(start: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for payload in payloads[start::CONNECTIONS]:
                allocate(connection, **payload)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(share, range(CONNECTIONS)))
