"""Bringing a database to the schema, and checking that it is there."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.resources import files
from io import StringIO
from pathlib import Path
from time import sleep
from uuid import uuid4

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, make_url

from adapters.postgres import roles
from adapters.postgres.bounded import BoundedConnection
from adapters.postgres.engine import create
from adapters.postgres.rows import as_rows
from adapters.postgres.tables import metadata
from domain.kinds import KINDS

LOCK = 0x7A11_7A11
"""Advisory lock held while migrating, so that two releases do not migrate at once."""
TURN_SECONDS = 0.2
"""How often one that waits looks whether the other is done."""

_NOTE_KINDS = """
INSERT INTO job_kind (name, queue, max_attempts)
SELECT name, queue, max_attempts FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS known (name text, queue text, max_attempts smallint)
ON CONFLICT (name) DO UPDATE SET
    queue = excluded.queue,
    max_attempts = excluded.max_attempts"""


class SchemaTooOld(Exception):
    """The database lacks migrations that this code needs."""


def upgrade(engine: Engine) -> None:
    """Apply every migration that the database has not seen; leave a newer one as it is.

    What is made belongs to the migrator, and every role is granted what it may, where the database
    has roles.
    """
    if is_newer(engine):
        return
    with engine.connect() as connection:
        try:
            connection.exec_driver_sql("SET lock_timeout = 0; SET statement_timeout = 0")
            if isinstance(driver := connection.connection.driver_connection, BoundedConnection):
                driver.patience = None
            _wait_for_turn(connection)
            roles.become_migrator(connection)
            connection.commit()
            command.upgrade(_config(connection), "head")
            _note_kinds(connection)
            roles.grant_again(connection)
            connection.commit()
        finally:
            # Closed, not given back: the lock and the settings end with the session.
            connection.invalidate()


def _wait_for_turn(connection: Connection) -> None:
    """Return once no other release migrates, which may take it as long as its migrations do."""
    # By asking again: an index is not finished while any transaction goes on that began before
    # it, and one that waits for a lock goes on.
    while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})").scalar_one():
        connection.commit()
        sleep(TURN_SECONDS)


def _note_kinds(connection: Connection) -> None:
    # None is taken away: workers of the previous release may still run its kinds.
    connection.exec_driver_sql(
        _NOTE_KINDS,
        {
            "rows": as_rows(
                {"name": kind.name, "queue": kind.queue, "max_attempts": kind.max_attempts}
                for kind in KINDS.values()
            )
        },
    )


def revise(engine: Engine, message: str) -> Path:
    """Write a revision from the difference between tables and database; return its file.

    The database must be at the newest revision.
    """
    with engine.connect() as connection:
        config = _config(connection)
        number = int(ScriptDirectory.from_config(config).get_current_head() or 0) + 1
        with redirect_stdout(StringIO()):
            script = command.revision(
                config, message=message, autogenerate=True, rev_id=f"{number:04}"
            )
    assert script is not None and not isinstance(script, list)  # noqa: S101, PT018  one head
    return Path(script.path)


def downgrade(engine: Engine) -> None:
    """Ask the newest revision to undo itself, which each refuses.

    Raises:
        RuntimeError: Why, and what to do instead.
    """
    with engine.connect() as connection:
        command.downgrade(_config(connection), "-1")


def revision(engine: Engine) -> str | None:
    """Return the revision that the database is at; None where it has no tables."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """Return the newest revision there is."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def is_newer(engine: Engine) -> bool:
    """Tell whether the database has seen migrations that this code does not know.

    Migrations only add until no code needs what they replace, so this code runs on it.
    """
    return _is_newer(revision(engine))


def objection(here: str | None) -> str | None:
    """Say why this code cannot run on a database at the revision `here`; None where it can."""
    if here == newest() or _is_newer(here):
        return None
    stands = f"is at revision {here}" if here else "has no tables"
    return f"the database {stands} and needs {newest()}: run `tallyman migrate upgrade`"


def require(engine: Engine) -> None:
    """Make sure that the database is not too old for this code.

    Raises:
        SchemaTooOld: It is; the message says what to do.
    """
    if problem := objection(revision(engine)):
        raise SchemaTooOld(problem)


def _is_newer(here: str | None) -> bool:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    return here is not None and here not in known


def differences(engine: Engine) -> list[str]:
    """Return what autogenerate would still change; empty where migrations match the tables."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return [str(difference) for difference in compare_metadata(context, metadata)]


@contextmanager
def scratch_database(url: str) -> Iterator[Engine]:
    """Give an engine on a new, empty database beside that of `url`; it is dropped at the end."""
    name = f"tallyman_scratch_{uuid4().hex}"
    beside = create(url, application="tallyman migrate")
    try:
        with beside.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
            scratch = create(_named(url, name), application="tallyman migrate")
            try:
                yield scratch
            finally:
                scratch.dispose()
                # Nobody else knows of it, and FORCE may not end autovacuum: a plain DROP does.
                connection.exec_driver_sql(f"DROP DATABASE {name}")
    finally:
        beside.dispose()


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _config(connection: Connection | None = None) -> Config:
    config = Config(stdout=StringIO())
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["connection"] = connection
    return config
