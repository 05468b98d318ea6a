"""A worker process of Procrastinate: its async connector, async tasks, jobs side by side."""

import asyncio
import os

import procrastinate
import uvloop
from procrastinate.types import JSONValue
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.allocation import allocate_async
from benchmarks.peers.gate import wait_for_start

CONCURRENCY = 16
"""Jobs at once in each of four processes; with 4 or 32 it was slower."""

URL = os.environ["BENCH_DATABASE_URL"]

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=4, max_size=CONCURRENCY + 2)
)
pool = AsyncConnectionPool(
    URL, min_size=CONCURRENCY, max_size=CONCURRENCY, kwargs={"autocommit": True}, open=False
)


@app.task(name="allocate_order", queue="allocation", retry=5)
async def allocate_order(order_id: str, lines: list[dict[str, JSONValue]]) -> None:
    """Allocate one order in a transaction."""
    async with pool.connection() as connection:
        await allocate_async(connection, order_id=order_id, lines=lines)


async def main() -> None:
    """Work until killed."""
    async with pool, app.open_async():
        await pool.wait()
        await asyncio.to_thread(wait_for_start)
        await app.run_worker_async(queues=["allocation"], concurrency=CONCURRENCY)


if __name__ == "__main__":
    uvloop.run(main())
