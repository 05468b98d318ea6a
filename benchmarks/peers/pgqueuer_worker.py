"""A worker process of PgQueuer: dequeues in batches, jobs side by side, a pool for their work."""

import asyncio
import os

import orjson
import psycopg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.models import Job
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.allocation import allocate_async
from benchmarks.peers.gate import wait_for_start

BATCH = 500
"""Jobs fetched at once; with its default of 10 it does a fifth."""
CONNECTIONS = 8
"""Transactions at once in each of four processes."""

URL = os.environ["BENCH_DATABASE_URL"]


async def main() -> None:
    """Work until killed."""
    async with (
        await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection,
        AsyncConnectionPool(
            URL, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs={"autocommit": True}, open=False
        ) as pool,
    ):
        await pool.wait()
        queue = PgQueuer.from_psycopg_connection(connection)

        @queue.entrypoint("allocate_order", executor_factory=DatabaseRetryEntrypointExecutor)
        async def allocate_order(job: Job) -> None:
            async with pool.connection() as work:
                await allocate_async(work, **orjson.loads(job.payload or b"{}"))

        await asyncio.to_thread(wait_for_start)
        await queue.run(batch_size=BATCH)


if __name__ == "__main__":
    uvloop.run(main())
