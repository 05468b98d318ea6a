"""A worker process of Dramatiq: eight threads, as its command starts them."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import dramatiq
import psycopg
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.allocation import allocate
from benchmarks.peers.gate import wait_for_start

THREADS = 8
"""As its command starts them; with 4 it was slower, with 16 no faster."""

broker = RedisBroker(url=os.environ["BENCH_BROKER_URL"])
dramatiq.set_broker(broker)

local = threading.local()


@dramatiq.actor(queue_name="allocation", max_retries=5)
def allocate_order(order_id: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Allocate one order in a transaction."""
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True)
    allocate(local.connection, order_id=order_id, lines=lines)


def main() -> None:
    """Work until killed."""
    wait_for_start()
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
