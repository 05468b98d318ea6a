"""`tallyman migrate upgrade` while jobs run: nobody waits for it, and nothing is left half."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy.exc
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine
from uuid6 import uuid7

from adapters.embedded.servers import Addresses
from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.conftest import ROOT, wait_until
from tests.databases import drop

PATIENCE = 90.0
JOB = """
INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts, next_dispatch)
VALUES (%s, 'k', 'q', 'ledger', '{}', '', 5, now())"""

BUILDING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'
  AND state = 'active' AND wait_event_type = 'Lock'"""

INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


@pytest.fixture
def old_url(servers: Addresses) -> Iterator[str]:
    """Give a database as the release left it that came before the first index made under load."""
    name = f"old_{uuid7().hex}"
    url = f"{servers.database_url.rpartition('/')[0]}/{name}"
    with psycopg.connect(_plain(servers.database_url), autocommit=True) as administration:
        administration.execute(f'CREATE DATABASE "{name}"')
        yield url
        drop(administration, name)


@pytest.fixture
def old(old_url: str) -> Iterator[Engine]:
    engine = create(old_url, pool_size=2)
    yield engine
    engine.dispose()


@pytest.fixture
def session(old_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Give a connection that waits for nobody longer than a second."""
    with psycopg.connect(
        _plain(old_url), autocommit=True, options="-c lock_timeout=1000"
    ) as connection:
        yield connection


class TestMakingAnIndex:
    def test_holds_up_nobody_who_writes(
        self, old: Engine, old_url: str, session: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        _bring_to(old, "0008")
        with _upgrading_behind_a_transaction(old, old_url, session) as upgrading:
            session.execute(JOB, ["while it is made"])
            session.execute("UPDATE job SET dispatches = 1 WHERE id = 'while it is made'")
            session.execute("DELETE FROM job WHERE id = 'while it is made'")
            assert not upgrading.done()
        upgrading.result(timeout=PATIENCE)
        assert schema.revision(old) == schema.newest()

    def test_that_was_interrupted_is_done_by_the_next_run(
        self, old: Engine, old_url: str, session: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        _bring_to(old, "0008")
        with _upgrading_behind_a_transaction(old, old_url, session) as upgrading:
            session.execute(f"SELECT pg_terminate_backend(pid) FROM ({BUILDING}) AS building")
            with pytest.raises(sqlalchemy.exc.OperationalError):
                upgrading.result(timeout=PATIENCE)
        assert session.execute(INVALID).fetchall() == [("ix_job_state",)]
        assert schema.revision(old) == "0008"

        schema.upgrade(old)

        assert session.execute(INVALID).fetchall() == []
        assert schema.revision(old) == schema.newest()
        assert schema.differences(old) == []

    def test_lets_another_release_wait_for_its_turn(
        self, old: Engine, old_url: str, session: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        _bring_to(old, "0008")
        with ThreadPoolExecutor() as pool:
            with _upgrading_behind_a_transaction(old, old_url, session) as upgrading:
                second = pool.submit(schema.upgrade, old)
                wait_until(
                    lambda: session.execute(
                        "SELECT FROM pg_stat_activity WHERE datname = current_database()"
                        " AND (query LIKE '%advisory_lock%' OR query = 'COMMIT')"
                        " AND pid <> pg_backend_pid()"
                    ).fetchall(),
                    seconds=PATIENCE,
                )
            # A transaction that waits for the first would be waited for by it.
            upgrading.result(timeout=PATIENCE)
            second.result(timeout=PATIENCE)
        assert schema.revision(old) == schema.newest()


class TestARevision:
    def test_gives_way_to_jobs_whichever_of_several_it_is(
        self, old: Engine, session: psycopg.Connection[tuple[object, ...]]
    ) -> None:
        _bring_to(old, "0005")
        with (
            ThreadPoolExecutor() as pool,
            session.transaction(),
            # The next but one, 0007, adds a column to this table.
            session.cursor() as cursor,
        ):
            cursor.execute("SELECT FROM job_failure")
            upgrading = pool.submit(schema.upgrade, old)
            try:
                with pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout"):
                    upgrading.result(timeout=PATIENCE)
            finally:
                cursor.execute("ROLLBACK")
        assert schema.revision(old) == "0006"


@contextmanager
def _upgrading_behind_a_transaction(
    engine: Engine, url: str, session: psycopg.Connection[tuple[object, ...]]
) -> Iterator[Future[None]]:
    """Upgrade as far as an index that waits for a transaction, which ends with the context."""
    with ThreadPoolExecutor() as pool, psycopg.connect(_plain(url)) as job:
        job.execute(JOB, ["as it begins"])
        upgrading = pool.submit(schema.upgrade, engine)
        wait_until(
            lambda: upgrading.done() or session.execute(BUILDING).fetchall(), seconds=PATIENCE
        )
        yield upgrading
        job.rollback()


def _bring_to(engine: Engine, revision: str) -> None:
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(ROOT / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
        # What it set is for migrations.
        connection.invalidate()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
