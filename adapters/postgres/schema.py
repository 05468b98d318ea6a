"""Bringing a database to the schema, and checking that it is there."""

from importlib.resources import files
from io import StringIO

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from adapters.postgres.tables import metadata

LOCK = 0x7A11_7A11
"""Advisory lock held while migrating, so that two releases do not migrate at once."""


def upgrade(engine: Engine) -> None:
    """Apply every migration that the database has not seen."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SET lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK})")
        connection.commit()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK})")
        connection.commit()
        connection.invalidate()


def revise(engine: Engine, message: str) -> str:
    """Write a revision from the difference between tables and database; return its path."""
    with engine.connect() as connection:
        config = _config()
        config.attributes["connection"] = connection
        script = command.revision(config, message=message, autogenerate=True)
    assert script is not None and not isinstance(script, list)  # noqa: S101, PT018  one head
    return str(script.path)


def is_current(engine: Engine) -> bool:
    """Tell whether every migration has been applied."""
    with engine.connect() as connection:
        here = MigrationContext.configure(connection).get_current_heads()
    return set(here) == set(ScriptDirectory.from_config(_config()).get_heads())


def differences(engine: Engine) -> list[str]:
    """Return what autogenerate would still change; empty where migrations match the tables."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return [str(difference) for difference in compare_metadata(context, metadata)]


def _config() -> Config:
    config = Config(stdout=StringIO())
    config.set_main_option("script_location", str(files("migrations")))
    return config
