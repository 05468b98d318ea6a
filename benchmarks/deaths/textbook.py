"""Stock Celery as its documentation says that jobs should be written which must not be lost."""

import os
from functools import cache

import psycopg
from celery import Celery

app = Celery("textbook", broker=os.environ["TEXTBOOK_BROKER_URL"])
app.conf.update(
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue="textbook",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # As Tallyman's workers have them.
    broker_transport_options={
        "visibility_timeout": int(os.environ["TEXTBOOK_VISIBILITY_TIMEOUT_SECONDS"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "health_check_interval": 10,
    },
)


@cache
def database() -> "psycopg.Connection[tuple[object, ...]]":
    """Connect once for each process."""
    return psycopg.connect(os.environ["TEXTBOOK_DATABASE_URL"], autocommit=True)


@app.task(name="textbook.allocate_order")
def allocate_order(order_id: str, sku: str, quantity: int) -> None:
    """Take units of a product for an order, in one transaction."""
    with database().transaction():
        database().execute(
            "INSERT INTO textbook_allocation (order_id, sku, quantity) VALUES (%s, %s, %s)",
            [order_id, sku, quantity],
        )
        database().execute(
            "UPDATE textbook_stock SET allocated = allocated + %s WHERE sku = %s", [quantity, sku]
        )
