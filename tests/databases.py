"""Databases of a test's own, and how to be rid of them."""

import psycopg

# A DROP waits five seconds for sessions to end, which is not always enough of a busy machine.
_END = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend'"""


def drop(connection: psycopg.Connection, name: str) -> None:
    """Drop a database whoever is connected to it.

    `WITH (FORCE)` would be refused where autovacuum, which is a superuser's, works in it; a plain
    DROP has autovacuum give way.
    """
    connection.execute(_END, [name])
    connection.execute(f'DROP DATABASE "{name}"'.encode())
