"""Indexes made and dropped while jobs run: nobody who writes waits for them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection
from sqlalchemy.exc import PendingRollbackError

# What an interrupted run leaves: kept up to date by every write, and used by no query.
_IS_UNFINISHED = """
SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(%(name)s) AND NOT indisvalid)"""


def make(
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    where: str | None = None,
    using: str = "btree",
    storage: Mapping[str, str] | None = None,
) -> None:
    """Make an index; what an interrupted run has made is kept, and what it left unfinished is not.

    A column is its name, or an expression in parentheses.
    """
    with _outside_of_a_transaction() as connection:
        if connection.exec_driver_sql(_IS_UNFINISHED, {"name": name}).scalar_one():
            _drop(name, table)
        op.create_index(
            name,
            table,
            [sa.text(column) for column in columns],
            postgresql_where=sa.text(where) if where else None,
            postgresql_using=using,
            postgresql_with=storage or {},
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def drop(name: str, table: str) -> None:
    """Drop an index that the previous release can do without."""
    with _outside_of_a_transaction():
        _drop(name, table)


def _drop(name: str, table: str) -> None:
    op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)


@contextmanager
def _outside_of_a_transaction() -> Iterator[Connection]:
    """Give the connection, to wait as long as it takes: what waits here is in nobody's way."""
    try:
        with op.get_context().autocommit_block():
            connection = op.get_bind()
            limits = connection.exec_driver_sql(
                "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
            ).one()
            _set_limits(connection, "0", "0")
            yield connection
            _set_limits(connection, *limits)
    except PendingRollbackError as end:
        # The connection was lost, and the end of the block hides that.
        raise (end.__context__ or end) from None


def _set_limits(connection: Connection, lock: str, statement: str) -> None:
    connection.exec_driver_sql(
        f"SET lock_timeout = '{lock}'; SET statement_timeout = '{statement}'"
    )
