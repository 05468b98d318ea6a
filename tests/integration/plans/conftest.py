"""One database with a million finished jobs, for all tests of plans."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine
from uuid6 import uuid7

from adapters.embedded.servers import Addresses
from adapters.postgres.engine import create
from benchmarks.growth import history
from benchmarks.growth.history import History

JOBS = 1_000_000
WAITING = 5_000

# What does not come of a finished order: jobs that wait, that failed, and of people; people;
# lines that wait; imports.
REST = f"""
INSERT INTO job (id, kind, queue, door, payload, payload_hash, state, attempts, max_attempts,
                 dispatches, run_after, next_dispatch, error)
SELECT 'due-' || n, 'allocation.allocate_order', 'allocation', 'ledger',
       format('{{"order_id": "due-%s", "lines": [{{"sku": "SKU-%s", "quantity": 1}}]}}',
              n, n % 3000)::jsonb,
       sha256(('due-' || n)::bytea), CASE n % 10 WHEN 0 THEN 'retry' ELSE 'queued' END,
       (n % 10 = 0)::integer, 5, 0, CASE n % 10 WHEN 0 THEN now() END, now(),
       CASE n % 10 WHEN 0 THEN '{{"type": "KeyError", "module": "builtins", "message": "x",
                                  "details": {{}}, "traceback": null}}'::jsonb END
FROM generate_series(1, {WAITING}) AS n;

INSERT INTO job_failure (job_id, attempt, error, worker)
SELECT 'old-' || 100 * n, 1, '{{"type": "KeyError", "module": "builtins", "message": "x",
                                "details": {{}}, "traceback": null}}', 'a worker'
FROM generate_series(1, 9999) AS n;

INSERT INTO job (id, kind, queue, door, payload, payload_hash, state, attempts, max_attempts,
                 dispatches, result, correlation_id, created_at, finished_at)
SELECT 'user-' || n, 'users.register', 'users', 'ledger',
       jsonb_build_object('username', 'user' || n, 'email', n || '@example.com', 'name', 'N'),
       sha256(('user-' || n)::bytea), 'succeeded', 1, 5, 1, '{{}}', 'user-' || n,
       now() - interval '2 hours', now() - interval '2 hours'
FROM generate_series(1, 100000) AS n;

INSERT INTO user_account (id, username, username_key, email, email_key, name, status, created_at)
SELECT 'user-' || n, 'user' || n, 'user' || n, n || '@example.com', n || '@example.com', 'N',
       CASE n % 1000 WHEN 0 THEN 'banned' WHEN 1 THEN 'pending' ELSE 'active' END,
       now() - n * interval '1 minute'
FROM generate_series(1, 100000) AS n;

INSERT INTO import_run (id, target, file_name, digest, plan, state, is_checked, chunks, rows,
                        rows_done, created_at, finished_at)
SELECT 'run-' || n, 'orders', 'orders.csv', sha256(n::text::bytea), '{{}}', 'finished', true,
       50, 100000, 100000, now() - n * interval '40 minutes', now() - n * interval '40 minutes'
FROM generate_series(1, 1000) AS n;

INSERT INTO import_chunk (run_id, number, first_line, rows, finished_at)
SELECT 'run-' || n, number, 2000 * number, 2000, now()
FROM generate_series(1, 1000) AS n CROSS JOIN generate_series(1, 50) AS number;

INSERT INTO import_error (run_id, line, code, message)
SELECT 'run-' || n, line, 'invalid', 'quantity must be at least 1'
FROM generate_series(1, 1000) AS n CROSS JOIN generate_series(1, 100) AS line;

INSERT INTO sales_order (order_id, policy, may_split, strategy, priority, fingerprint, job_id)
SELECT 'late-' || n, 'backorder', false, 'earliest', 0, '', 'late-' || n
FROM generate_series(1, 1000) AS n;

INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)
SELECT 'late-' || n, '1', 0, 'SKU-' || n % 50, 1, 'backordered'
FROM generate_series(1, 1000) AS n;

INSERT INTO queue (name, jobs_per_second) VALUES ('users', 1000);

VACUUM ANALYZE
"""


@pytest.fixture(scope="session")
def grown_url(servers: Addresses, template: str) -> str:
    """Give a database that has run for a month; a test leaves it much as it found it."""
    administration = psycopg.connect(_plain(servers.database_url), autocommit=True)
    name = f"grown_{uuid7().hex}"
    url = f"{servers.database_url.rpartition('/')[0]}/{name}"
    with administration:
        administration.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        with psycopg.connect(_plain(url), autocommit=True) as connection:
            connection.execute(
                "INSERT INTO product (sku) SELECT 'SKU-' || n FROM generate_series(0, 2999) AS n;"
                "INSERT INTO batch (reference, sku, purchased, fingerprint)"
                " SELECT 'B-' || n, 'SKU-' || n, 1000000, '' FROM generate_series(0, 2999) AS n"
            )
        history.write(_plain(url), History(jobs=JOBS, most_lines=1))
        with psycopg.connect(_plain(url), autocommit=True) as connection:
            for statement in REST.split(";\n"):
                connection.execute(statement.encode())
    # It goes with its server: autovacuum in it, which nobody here may end, would keep it alive.
    return url


@pytest.fixture
def grown(grown_url: str) -> Iterator[Engine]:
    """Give an engine of one connection, so that its plans are all in one session."""
    engine = create(grown_url, pool_size=1)
    yield engine
    engine.dispose()


@pytest.fixture
def grown_worker(grown_url: str) -> Iterator[Engine]:
    """Give an engine as workers have it."""
    engine = create(grown_url, pool_size=1, by_index=True, plans_once=True)
    yield engine
    engine.dispose()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
