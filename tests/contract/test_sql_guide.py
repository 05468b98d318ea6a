"""What the guide to SQL says that PostgreSQL answers."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from domain.jobs.model import JobState
from domain.kinds import KINDS
from tests.e2e.how_to import snippets
from tests.jobs import build_executor, find

GUIDE = "enqueue-with-sql.md"


def answers(connection: psycopg.Connection[Any], script: str) -> str:
    """Run a script as `psql --tuples-only --no-align` would, and print its last rows."""
    try:
        cursor = connection.execute(script)
    except psycopg.Error as error:
        return f"ERROR: {error.diag.message_primary}"
    printed = ""
    while True:
        if cursor.description:
            printed = "\n".join(" | ".join(map(_text, row)) for row in cursor.fetchall())
        if not cursor.nextset():
            return printed


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case _:
            return str(value)


class TestTheGuide:
    @pytest.fixture
    def connection(self, database_url: str) -> Any:  # noqa: ANN401  a connection, while it lasts
        url = database_url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    def test_says_what_postgresql_answers(
        self, connection: psycopg.Connection[Any], engine: Engine
    ) -> None:
        executor = build_executor(engine, KINDS)
        lamps = {"reference": "lamps", "sku": "LAMP", "quantity": 10}
        connection.execute(
            "SELECT tallyman_submit('allocation.create_batch', %s, job_id => 'lamps')",
            [Jsonb(lamps)],
        )
        executor.run_dispatched("allocation.create_batch", ["lamps"], redelivered=False)

        for code, output in snippets(GUIDE, "sql"):
            assert answers(connection, code).strip() == output.strip(), code

        # Roles are of the whole server.
        connection.execute("GRANT shop TO CURRENT_USER WITH INHERIT TRUE")
        connection.execute("DROP OWNED BY shop; DROP ROLE shop")
        orders = ["sql-S-1", "sql-S-2", "sql-S-3", "sql-S-4"]
        executor.run_dispatched("allocation.allocate_order", orders, redelivered=False)
        assert {find(engine, job_id).state for job_id in orders} == {JobState.SUCCEEDED}
