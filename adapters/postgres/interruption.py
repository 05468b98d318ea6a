"""What is left of a statement when a signal interrupts whoever waits for it."""

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection

CANCEL_SECONDS = 2.0
"""How long the server may take to hear of it; it finds out by itself soon after."""


def abandon_statement(connection: Connection) -> None:
    """Have the server give up a statement that still runs, and its locks with it.

    Celery's time limit is an exception out of a signal handler. The connection is then in the
    middle of a statement, where it can neither roll back nor be used again.
    """
    if connection.invalidated or connection.closed:
        return
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        return
    if driver.info.transaction_status is not TransactionStatus.ACTIVE:
        return
    try:
        driver.cancel_safe(timeout=CANCEL_SECONDS)
    except psycopg.Error:
        # Without a connection it ends by itself: `client_connection_check_interval` is set.
        pass
    finally:
        connection.invalidate()
