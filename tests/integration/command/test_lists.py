"""Lists page by page: each row once, in order, whatever is written meanwhile."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest
from sqlalchemy import Engine

from adapters.postgres import import_queries, stock_queries
from adapters.postgres.import_queries import ImportQueries
from adapters.postgres.queries import JobQueries
from adapters.postgres.stock_queries import WITH_A_LINE, StockQueries
from adapters.postgres.user_queries import UserQueries
from domain.allocation.orders import LineState, OrderState
from domain.jobs.model import JobState
from domain.users.status import UserStatus
from tests.integration.command.conftest import Tallyman

PAGE = 7

# Many share a moment, as jobs do that are accepted together; ids are in no order.
JOBS = """
INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts, state, result, error,
                 next_dispatch, run_after, created_at, finished_at)
SELECT md5(n::text || %(salt)s), CASE n %% 2 WHEN 0 THEN 'even' ELSE 'odd' END, 'q', 'ledger', '{}',
       '', 5, state,
       CASE state WHEN 'succeeded' THEN '{}'::jsonb END,
       CASE WHEN state IN ('rejected', 'dead', 'retry') THEN jsonb_build_object(
           'type', 'E' || n %% 3, 'module', 'm', 'message', 'x') END,
       CASE WHEN state IN ('queued', 'retry') THEN now() END, NULL,
       now() + %(moment)s * interval '1 second' - n / 25 * interval '1 minute',
       CASE WHEN state NOT IN ('queued', 'retry') THEN now() + interval '1 hour' END
FROM (
    SELECT n, (ARRAY['queued', 'retry', 'succeeded', 'rejected', 'dead', 'cancelled'])[1 + n %% 6]
        AS state
    FROM generate_series(1, 150) AS n
) AS made"""

USERS = """
INSERT INTO user_account (id, username, username_key, email, email_key, name, status, created_at)
SELECT name, name, name, name, name, name, CASE n %% 3 WHEN 0 THEN 'banned' ELSE 'active' END,
       now() + %(moment)s * interval '1 second' - n / 25 * interval '1 minute'
FROM (
    SELECT n, md5(n::text || %(salt)s) AS name FROM generate_series(1, 60) AS n
) AS made"""

ORDERS = """
INSERT INTO sales_order (order_id, policy, may_split, strategy, priority, fingerprint, job_id)
SELECT %(salt)s || n, 'backorder', false, 'earliest', 0, '', 'j' FROM generate_series(1, 60) AS n;
INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)
SELECT %(salt)s || n, line::text, line, 'SKU-' || (n + line) %% 3, 1, CASE
       WHEN n %% 4 = 0 THEN 'cancelled' WHEN line = 1 THEN 'allocated'
       ELSE (ARRAY['backordered', 'rejected', 'cancelled'])[n %% 4] END
FROM generate_series(1, 60) AS n CROSS JOIN generate_series(1, 2) AS line;
INSERT INTO allocation (order_id, line_id, batch_reference, quantity, strategy, ranking, job_id)
SELECT order_id, line_id, 'B-' || sku, 1, 'earliest', '[]', 'j' FROM order_line
WHERE state = 'allocated' AND order_id LIKE %(salt)s || '%%'"""

PRODUCTS = """
INSERT INTO product (sku) SELECT 'SKU-' || n FROM generate_series(0, 2) AS n;
INSERT INTO batch (reference, sku, purchased, fingerprint)
SELECT 'B-SKU-' || n, 'SKU-' || n, 1000, '' FROM generate_series(0, 2) AS n"""

Page = Callable[[str | None, int], Sequence[str]]


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with engine.begin() as connection:
        connection.exec_driver_sql(PRODUCTS)
    more(engine, "old", moment=0)
    return engine


def more(engine: Engine, salt: str, *, moment: int) -> None:
    """Write as much of everything again, so many seconds later."""
    with engine.begin() as connection:
        for statements in (JOBS, USERS, ORDERS):
            for statement in statements.split(";\n"):
                connection.exec_driver_sql(statement, {"salt": salt, "moment": moment})


def jobs(engine: Engine, **which: Any) -> Page:
    return lambda after, limit: [
        job.id for job in JobQueries(engine).newest(**which, after=after, limit=limit)
    ]


def users(engine: Engine, **which: Any) -> Page:
    return lambda after, limit: [
        user.id for user in UserQueries(engine).newest(**which, after=after, limit=limit)
    ]


def orders(engine: Engine, **which: Any) -> Page:
    return lambda after, limit: [
        order.order_id for order in StockQueries(engine).orders(**which, after=after, limit=limit)
    ]


LISTS: dict[str, tuple[Callable[..., Page], dict[str, Any], str]] = {
    "jobs": (jobs, {}, "true"),
    "queued jobs": (jobs, {"states": [JobState.QUEUED]}, "state = 'queued'"),
    "open jobs": (
        jobs,
        {"states": [JobState.QUEUED, JobState.RETRY]},
        "state IN ('queued', 'retry')",
    ),
    "jobs of three states, one said twice": (
        jobs,
        {"states": [JobState.DEAD, JobState.SUCCEEDED, JobState.QUEUED, JobState.DEAD]},
        "state IN ('dead', 'succeeded', 'queued')",
    ),
    "jobs with an error": (jobs, {"error": "E1"}, "error ->> 'type' = 'E1'"),
    "dead jobs of a kind": (
        jobs,
        {"states": [JobState.DEAD], "kind": "even"},
        "state = 'dead' AND kind = 'even'",
    ),
    "users": (users, {}, "true"),
    "active users": (users, {"status": UserStatus.ACTIVE}, "status = 'active'"),
    "banned users": (users, {"status": UserStatus.BANNED}, "status = 'banned'"),
}


@pytest.mark.parametrize("name", LISTS)
def test_pages_hold_each_row_once(filled: Engine, name: str) -> None:
    make, which, fits = LISTS[name]
    table = "job" if make is jobs else "user_account"
    with filled.connect() as connection:
        expected = list(
            connection.exec_driver_sql(
                f"SELECT id FROM {table} WHERE {fits} ORDER BY created_at DESC, id DESC"
            ).scalars()
        )
    assert len(expected) > 2 * PAGE
    assert read(filled, make(filled, **which)) == expected


@pytest.mark.parametrize("sku", [None, "SKU-1"])
@pytest.mark.parametrize("state", [None, *OrderState])
def test_pages_hold_each_order_once(
    filled: Engine, state: OrderState | None, sku: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Orders of a state are looked for among so many at once.
    monkeypatch.setattr(stock_queries, "CHUNK", 5)
    with filled.connect() as connection:
        lines: dict[str, list[tuple[str, LineState]]] = {}
        for row in connection.exec_driver_sql(
            "SELECT order_id, sku, state FROM order_line JOIN sales_order USING (order_id)"
            " ORDER BY sequence DESC"
        ):
            lines.setdefault(row.order_id, []).append((row.sku, LineState(row.state)))
    expected = [
        order_id
        for order_id, found in lines.items()
        if state in (None, OrderState.of(state for _, state in found))
        and (sku is None or sku in {sku for sku, _ in found})
    ]
    assert expected or state in (OrderState.PENDING, OrderState.REJECTED)
    assert read(filled, orders(filled, state=state, sku=sku)) == expected


@pytest.mark.parametrize("count", range(1, len(LineState)))
def test_orders_are_looked_for_by_lines_that_they_have(count: int) -> None:
    stored = set(LineState) - {LineState.PENDING}
    for states in combinations(stored, count):
        assert set(WITH_A_LINE[OrderState.of(states)]) & set(states)


def test_errors_of_an_import_are_read_in_the_order_of_the_file(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_queries, "PAGE", 4)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO import_run (id, target, file_name, digest, plan, state, is_checked,"
            " finished_at) SELECT id, 'orders', 'f', '', '{}', 'cancelled', true, now()"
            " FROM unnest(ARRAY['run', 'other']) AS id"
        )
        # Several of one line, more than are read at once; written in no order.
        connection.exec_driver_sql(
            "INSERT INTO import_error (run_id, line, code, message)"
            " SELECT id, n / 7, 'c', n::text FROM unnest(ARRAY['run', 'other']) AS id"
            " CROSS JOIN generate_series(0, 40) AS n ORDER BY md5(n::text)"
        )
        expected = list(
            connection.exec_driver_sql(
                "SELECT message FROM import_error WHERE run_id = 'run' ORDER BY line, id"
            ).scalars()
        )
    assert [error.message for error in ImportQueries(engine).errors("run")] == expected


class TestAfter:
    @pytest.mark.parametrize("what", ["jobs", "users", "orders"])
    def test_goes_on_where_a_page_ended(
        self, tallyman: Tallyman, filled: Engine, what: str
    ) -> None:
        name = "order_id" if what == "orders" else "id"
        first = tallyman(what, "list", "--limit", "5")
        together = tallyman(what, "list", "--limit", "10", "--json").json
        fifth = together[4][name]
        assert first.err == f"the first 5: --after {fifth} shows what comes then\n"
        further = tallyman(what, "list", "--limit", "5", "--after", fifth, "--json").json
        assert further == together[5:]

    @pytest.mark.parametrize("what", ["jobs", "users", "orders"])
    def test_needs_one_that_is_there(self, tallyman: Tallyman, what: str) -> None:
        ran = tallyman(what, "list", "--after", "nobody")
        assert (ran.code, ran.out) == (3, "")
        assert "'nobody'" in ran.err


def read(engine: Engine, page: Page) -> list[str]:
    """Read a list page by page; between two of them as much is written as was there."""
    found: list[str] = []
    after = None
    while ids := page(after, PAGE):
        assert len(ids) <= PAGE
        assert not set(ids) & set(found)
        if after is None:
            more(engine, "new", moment=3_600)
        found += ids
        after = ids[-1]
    return found
