"""What is measured: each contender takes the same load and says how long it took."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
import redis
from celery import Celery

from adapters.broker import EPOCH_KEY
from adapters.embedded.servers import Addresses
from benchmarks.orders import Load
from benchmarks.stack import celery_worker, database, plain, process, wait_until
from domain.jobs.model import Submission
from worker.producer import Producer

QUEUE = "allocation"
KIND = "allocation.allocate_order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where contenders perform."""

    servers: Addresses
    logs: Path
    processes: int
    variables: Mapping[str, str] = field(default_factory=dict)
    """Set for Tallyman's processes."""
    is_followed: bool = False
    """Each job of door (b) comes from a trace of its own that somebody follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One run: jobs a second, from when the first may start to when the last is committed."""

    jobs: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


Contender = Callable[[Stage, Load], Timing]


def stock_celery_noop(stage: Stage, load: Load) -> Timing:
    """Run stock Celery, acks late, with a task that does nothing: one message a job."""
    broker = _empty(stage.servers.broker_url)
    app = Celery(broker=stage.servers.broker_url)
    environment = {"TALLYMAN_BROKER_URL": stage.servers.broker_url}
    with celery_worker(
        app,
        "benchmarks.stock_app",
        processes=stage.processes,
        environment=environment,
        log=stage.logs / "stock.log",
    ):
        _send(app, load)
        began = time.perf_counter()
        app.control.add_consumer(QUEUE, reply=True)
        wait_until(lambda: not broker.llen(QUEUE) and not broker.hlen("unacked"))
        return Timing(jobs=load.orders, seconds=time.perf_counter() - began)


def tallyman_door_a(stage: Stage, load: Load) -> Timing:
    """Allocate orders that come as Celery messages, one message a job."""
    _empty(stage.servers.broker_url)
    app = Celery(broker=stage.servers.broker_url)
    with _database(stage, load) as (url, environment), _worker(app, stage, environment):
        _send(app, load)
        began = time.time()
        app.control.add_consumer(QUEUE, reply=True)
        return _timed(url, load, began)


def tallyman_door_b(stage: Stage, load: Load) -> Timing:
    """Allocate orders that were accepted by the ledger before the clock started."""
    broker = _empty(stage.servers.broker_url)
    app = Celery(broker=stage.servers.broker_url)
    with (
        _database(stage, load) as (url, environment),
        _worker(app, stage, environment),
        process(
            "worker.command.main", "relay", environment=environment, log=stage.logs / "relay.log"
        ) as relay,
    ):
        wait_until(lambda: broker.exists(EPOCH_KEY))
        app.control.add_consumer(QUEUE, reply=True)
        relay.send_signal(signal.SIGSTOP)
        with Producer.at(url) as producer:
            producer.submit_many(
                Submission(
                    job_id=f"job-{number}",
                    kind=KIND,
                    payload=payload,
                    traceparent=(
                        f"00-{uuid4().hex}-{number + 1:016x}-01" if stage.is_followed else None
                    ),
                )
                for number, payload in enumerate(load.payloads())
            )
        began = time.time()
        relay.send_signal(signal.SIGCONT)
        return _timed(url, load, began)


CONTENDERS: dict[str, Contender] = {
    "stock Celery, no-op": stock_celery_noop,
    "Tallyman, door (a)": tallyman_door_a,
    "Tallyman, door (b)": tallyman_door_b,
}


def _empty(broker_url: str) -> redis.Redis:
    broker = redis.Redis.from_url(broker_url)
    broker.flushall()
    return broker


def _send(app: Celery, load: Load) -> None:
    with app.producer_or_acquire() as producer:
        for payload in load.payloads():
            app.send_task(KIND, kwargs=payload, queue=QUEUE, producer=producer, ignore_result=True)


@contextmanager
def _database(stage: Stage, load: Load) -> Iterator[tuple[str, dict[str, str]]]:
    """Give a fresh database with the load's stock in it."""
    with database(stage.servers.database_url) as url:
        with psycopg.connect(plain(url), autocommit=True) as connection:
            connection.execute(
                "INSERT INTO product (sku) SELECT 'SKU-' || n FROM generate_series(0, %s) AS n",
                [load.products - 1],
            )
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO batch (reference, sku, purchased, fingerprint)"
                    " VALUES (%(reference)s, %(sku)s, %(quantity)s, '')",
                    load.batches(),
                )
            connection.execute("ANALYZE")
        yield (
            url,
            {
                "TALLYMAN_DATABASE_URL": url,
                "TALLYMAN_BROKER_URL": stage.servers.broker_url,
                "TALLYMAN_LOG_LEVEL": "WARNING",
                **stage.variables,
            },
        )


@contextmanager
def _worker(app: Celery, stage: Stage, environment: dict[str, str]) -> Iterator[None]:
    with celery_worker(
        app,
        "worker",
        processes=stage.processes,
        environment=environment,
        log=stage.logs / "worker.log",
    ):
        yield


def _timed(url: str, load: Load, began: float) -> Timing:
    """Wait until every order is allocated; the ledger's own clock, this machine's, says when.

    It is asked seldom: whoever counts rows all the time takes them their processor.
    """
    done = "SELECT count(*) FROM job WHERE state = 'succeeded'"
    with psycopg.connect(plain(url), autocommit=True) as connection:
        wait_until(lambda: _count(connection, done) == load.orders, every=0.25)
        row = connection.execute("SELECT extract(epoch FROM max(finished_at)) FROM job").fetchone()
    assert row is not None
    _check(url, load)
    return Timing(jobs=load.orders, seconds=float(row[0]) - began)


def _check(url: str, load: Load) -> None:
    """Refuse a measurement of a wrong result."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        assert _count(connection, "SELECT count(*) FROM sales_order") == load.orders
        assert _count(connection, "SELECT coalesce(sum(allocated), 0) FROM batch") == _count(
            connection, "SELECT coalesce(sum(quantity), 0) FROM allocation"
        )


def _count(connection: psycopg.Connection[tuple[int]], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
