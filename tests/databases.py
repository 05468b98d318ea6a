"""Databases of a test's own, and how to be rid of them."""

import psycopg

# Who is told to end is waited for: a DROP waits five seconds for those who have not gone yet.
_END = """
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend'"""


def drop(connection: psycopg.Connection, name: str) -> None:
    """Drop a database whoever is connected to it.

    `WITH (FORCE)` would be refused where autovacuum, which is a superuser's, works in it; a plain
    DROP has autovacuum give way. Nobody may come back meanwhile, as who lost a connection does.
    """
    connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false'.encode())
    connection.execute(_END, [name])
    connection.execute(f'DROP DATABASE "{name}"'.encode())
