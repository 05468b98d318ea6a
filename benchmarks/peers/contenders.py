"""Peers at the same allocation: jobs accepted first, then the clock, then everything checked."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import dramatiq
import orjson
import procrastinate
import psycopg
import redis
from dramatiq.brokers.redis import RedisBroker
from pgqueuer.queries import Queries

from benchmarks.orders import Load
from benchmarks.peers.gate import crew
from benchmarks.stack import plain, wait_until
from benchmarks.stage import Stage, Timing, check, connected, count

CHUNK = 1_000
"""Jobs handed over at once, where a queue takes more than one."""


def procrastinate_jobs(stage: Stage, load: Load) -> Timing:
    """Allocate from Procrastinate: jobs are rows, and each is fetched by itself."""
    with stage.database(load) as url:
        _defer(url, load)
        with (
            connected(url) as connection,
            crew(
                "benchmarks.peers.procrastinate_worker",
                processes=stage.processes,
                environment={"BENCH_DATABASE_URL": plain(url)},
                log=stage.log("procrastinate"),
            ) as workers,
        ):
            connection.execute("ANALYZE")
            left = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
            return _timed(
                url, load, start=workers.start, is_done=lambda: not count(connection, left)
            )


def pgqueuer_jobs(stage: Stage, load: Load) -> Timing:
    """Allocate from PgQueuer: jobs are rows, fetched and finished in batches."""
    with stage.database(load) as url:
        asyncio.run(_enqueue(url, load))
        with (
            connected(url) as connection,
            crew(
                "benchmarks.peers.pgqueuer_worker",
                processes=stage.processes,
                environment={"BENCH_DATABASE_URL": plain(url)},
                log=stage.log("pgqueuer"),
            ) as workers,
        ):
            connection.execute("ANALYZE")
            left = "SELECT count(*) FROM pgqueuer"
            return _timed(
                url, load, start=workers.start, is_done=lambda: not count(connection, left)
            )


def dramatiq_jobs(stage: Stage, load: Load) -> Timing:
    """Allocate from Dramatiq over Valkey: a message a job, acknowledged after the commit."""
    broker = stage.empty_broker()
    _send(stage.servers.broker_url, load)
    with (
        stage.database(load) as url,
        crew(
            "benchmarks.peers.dramatiq_worker",
            processes=stage.processes,
            environment={
                "BENCH_DATABASE_URL": plain(url),
                "BENCH_BROKER_URL": stage.servers.broker_url,
            },
            log=stage.log("dramatiq"),
        ) as workers,
    ):
        return _timed(url, load, start=workers.start, is_done=lambda: not _dramatiq_open(broker))


def _defer(url: str, load: Load) -> None:
    connector = procrastinate.SyncPsycopgConnector(conninfo=plain(url))
    app = procrastinate.App(connector=connector)
    with app.open():
        app.schema_manager.apply_schema()
        task = app.configure_task("allocate_order", queue="allocation")
        for chunk in _chunks(load):
            task.batch_defer(*chunk)


async def _enqueue(url: str, load: Load) -> None:
    async with await psycopg.AsyncConnection.connect(plain(url), autocommit=True) as connection:
        queries = Queries.from_psycopg_connection(connection)
        await queries.install()
        await queries.optimize_autovacuum()
        for chunk in _chunks(load):
            payloads: list[bytes | None] = [orjson.dumps(payload) for payload in chunk]
            await queries.enqueue(["allocate_order"] * len(chunk), payloads, [0] * len(chunk))


def _send(broker_url: str, load: Load) -> None:
    broker = RedisBroker(url=broker_url)
    broker.declare_queue("allocation")
    for payload in load.payloads():
        broker.enqueue(
            dramatiq.Message(
                queue_name="allocation",
                actor_name="allocate_order",
                args=(),
                kwargs=payload,
                options={},
            )
        )
    broker.close()


def _dramatiq_open(broker: redis.Redis) -> int:
    waiting = broker.llen("dramatiq:allocation")
    return int(waiting) or sum(broker.scard(key) for key in broker.scan_iter("dramatiq:__acks__.*"))


def _timed(
    url: str, load: Load, *, start: Callable[[], None], is_done: Callable[[], bool]
) -> Timing:
    began = time.perf_counter()
    start()
    wait_until(is_done, every=0.05)
    seconds = time.perf_counter() - began
    check(url, load)
    return Timing(jobs=load.orders, seconds=seconds)


def _chunks(load: Load) -> Iterator[Sequence[dict[str, Any]]]:
    payloads = load.payloads()
    while chunk := list(islice(payloads, CHUNK)):
        yield chunk
