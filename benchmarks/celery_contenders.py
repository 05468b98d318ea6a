"""Contenders on Celery: stock with a no-op, the textbook, and Tallyman by both doors."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from subprocess import Popen
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from adapters.broker import EPOCH_KEY
from adapters.event_stream import EPOCH_KEY as EVENTS_EPOCH_KEY
from benchmarks import textbook as book
from benchmarks.orders import Load
from benchmarks.stack import celery_worker, database, process, wait_until
from benchmarks.stage import Stage, Timing, check, connected, count
from domain.jobs.model import Submission
from worker.producer import Producer

QUEUE = "allocation"
KIND = "allocation.allocate_order"


def stock_noop(stage: Stage, load: Load) -> Timing:
    """Run stock Celery, acks late, with a task that does nothing: one message a job."""
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    with celery_worker(
        app,
        "benchmarks.stock_app",
        processes=stage.processes,
        environment={"TALLYMAN_BROKER_URL": stage.servers.broker_url},
        log=stage.log("stock"),
    ):
        send(app, KIND, QUEUE, load.payloads())
        began = take_from(app, broker, QUEUE)
        wait_until(lambda: not broker.llen(QUEUE) and not broker.hlen("unacked"))
        return Timing(jobs=load.orders, seconds=time.time() - began)


def textbook(stage: Stage, load: Load) -> Timing:
    """Allocate the textbook's way on stock Celery: a message and a transaction a line."""
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    size = load.size()
    with database(stage.servers.database_url) as url:
        engine = create_engine(url)
        book.Base.metadata.create_all(engine)
        with Session(engine) as session:
            for batch in load.batches():
                stock = book.Batch(
                    reference=batch["reference"], sku=batch["sku"], purchased=batch["quantity"]
                )
                session.add(book.Product(sku=stock.sku, batches=[stock]))
            session.commit()
            session.execute(text("ANALYZE"))
        engine.dispose()
        with celery_worker(
            app,
            "benchmarks.textbook",
            processes=stage.processes,
            environment=stage.environment(url),
            log=stage.log("textbook"),
        ):
            lines = (
                {"order_id": payload["order_id"], **line}
                for payload in load.payloads()
                for line in payload["lines"]
            )
            send(app, "textbook.allocate", "textbook", lines)
            began = take_from(app, broker, "textbook")
            wait_until(lambda: not broker.llen("textbook") and not broker.hlen("unacked"))
            seconds = time.time() - began
        with connected(url) as connection:
            assert count(connection, "SELECT count(*) FROM book_allocation") == size.lines
            assert count(connection, "SELECT sum(allocated) FROM book_batch") == size.units
    return Timing(jobs=load.orders, seconds=seconds)


def door_a(stage: Stage, load: Load) -> Timing:
    """Allocate orders that come as Celery messages, one message a job."""
    with stage.database(load) as url:
        timing = run_sent(stage, load, url)
        check(url, load)
        return timing


def door_b(stage: Stage, load: Load) -> Timing:
    """Allocate orders that were accepted by the ledger before the clock started."""
    return _door_b(stage, load, with_events=True)


def door_b_without_events(stage: Stage, load: Load) -> Timing:
    """Likewise, while workers send no events of Celery's, so that Flower sees nothing."""
    return _door_b(stage, load, with_events=False)


def _door_b(stage: Stage, load: Load, *, with_events: bool) -> Timing:
    with stage.database(load) as url:
        timing = run_accepted(stage, load, url, with_events=with_events)
        check(url, load)
        return timing


def run_sent(stage: Stage, load: Load, url: str, *, with_events: bool = True) -> Timing:
    """Send a load while no worker takes messages, then time how it is worked off."""
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    with tallyman_worker(app, stage, url):
        if not with_events:
            app.control.disable_events(reply=True)
        send(app, KIND, QUEUE, load.payloads())
        return _timed(url, load, take_from(app, broker, QUEUE))


def run_accepted(
    stage: Stage,
    load: Load,
    url: str,
    *,
    with_events: bool = True,
    watch: Callable[[int, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
) -> Timing:
    """Accept a load while no relay looks, then time how it is worked off.

    `watch` is told the process ids of worker and relay, and lasts for as long as the clock runs.
    """
    broker = stage.empty_broker()
    app = Celery(broker=stage.servers.broker_url)
    with tallyman_worker(app, stage, url) as worker, relay(stage, url) as running:
        _wait_for_relay(broker, url)
        app.control.add_consumer(QUEUE, reply=True)
        if not with_events:
            app.control.disable_events(reply=True)
        running.send_signal(signal.SIGSTOP)
        with Producer.at(url, most_waiting=10_000_000) as producer:
            producer.submit_many(submissions(load, is_followed=stage.is_followed))
        with watch(worker.pid, running.pid):
            began = time.time()
            running.send_signal(signal.SIGCONT)
            return _timed(url, load, began)


def submissions(load: Load, *, is_followed: bool = False) -> Iterator[Submission]:
    """Give the load as what `submit_many` takes."""
    for number, payload in enumerate(load.payloads(), start=1):
        yield Submission(
            job_id=f"job-{payload['order_id']}",
            kind=KIND,
            payload=payload,
            traceparent=f"00-{uuid4().hex}-{number:016x}-01" if is_followed else None,
        )


def send(
    app: Celery, task: str, queue: str, payloads: Iterable[Mapping[str, Any]], **options: Any
) -> None:
    """Send a message each, over one connection."""
    with app.producer_or_acquire() as producer:
        for payload in payloads:
            app.send_task(
                task,
                kwargs=dict(payload),
                queue=queue,
                producer=producer,
                **{"ignore_result": True, **options},
            )


@contextmanager
def tallyman_worker(app: Celery, stage: Stage, url: str) -> Iterator[Popen[bytes]]:
    """Run a worker that consumes nothing until it is told to."""
    with celery_worker(
        app,
        "worker",
        processes=stage.processes,
        environment=stage.environment(url),
        log=stage.log("worker"),
    ) as running:
        yield running


@contextmanager
def relay(stage: Stage, url: str) -> Iterator[Popen[bytes]]:
    with process(
        "worker.command.main",
        "relay",
        environment=stage.environment(url),
        log=stage.log("relay"),
    ) as running:
        yield running


def take_from(app: Celery, broker: redis.Redis, queue: str) -> float:
    """Have workers take what waits in a queue; return when they took the first of it.

    Before that they may wait for up to a second at the queues that they had until now.
    """
    waiting = broker.llen(queue)
    app.control.add_consumer(queue)
    wait_until(lambda: broker.llen(queue) < waiting, every=0.001)
    return time.time()


def _wait_for_relay(broker: redis.Redis, url: str) -> None:
    """Wait until a relay is at work, and has filled the stream of events that was emptied."""
    left = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    wait_until(lambda: broker.exists(EPOCH_KEY, EVENTS_EPOCH_KEY) == 2)
    with connected(url) as connection:
        wait_until(lambda: not count(connection, left), every=0.1)


def _timed(url: str, load: Load, began: float) -> Timing:
    """Wait until every order is allocated; the ledger's own clock, this machine's, says when.

    It is asked seldom: whoever counts rows all the time takes them their processor.
    """
    done = f"SELECT count(*) FROM job WHERE finished_at > to_timestamp({began - 1})"
    with connected(url) as connection:
        wait_until(lambda: count(connection, done) >= load.orders, every=0.25)
        assert count(connection, f"{done} AND state = 'succeeded'") == load.orders
        row = connection.execute("SELECT extract(epoch FROM max(finished_at)) FROM job").fetchone()
    assert row is not None
    return Timing(jobs=load.orders, seconds=float(row[0]) - began)
