"""Run migrations on the connection that the caller gives, or on the configured URL."""

from alembic import context
from sqlalchemy import Connection

from adapters.postgres.engine import create
from adapters.postgres.tables import metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        # A migration that cannot have its lock soon gives way to the jobs that are running. It is
        # for the session: each migration is a transaction of its own.
        connection.exec_driver_sql("SET lock_timeout = '5s'")
        connection.exec_driver_sql("SET statement_timeout = '15min'")
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    url = context.config.get_main_option("sqlalchemy.url")
    if not url:
        message = "run migrations through `tallyman migrate`, which knows the database"
        raise RuntimeError(message)
    with create(url, application="tallyman migrations").connect() as connection:
        _run(connection)
