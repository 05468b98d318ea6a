"""The four kinds of process, each built from the settings and run until it is told to stop."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import billiard.pool
from celery import Celery
from celery.utils.nodenames import host_format

from adapters.broker import CeleryBroker
from adapters.event_stream import RedisEventStream
from adapters.postgres import schema
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.engine import create
from adapters.postgres.outbox_feed import PostgresOutboxFeed
from adapters.postgres.persistence import is_outage
from adapters.postgres.queue_gauges import PostgresQueueGauges
from domain.jobs.dispatching import Grouping
from domain.jobs.queues import QUEUES
from worker import flower, logs
from worker.addresses import Addresses, resolve
from worker.app import configured
from worker.event_relay import EventRelay
from worker.heartbeat import Heartbeat
from worker.producer import Producer
from worker.queue_measuring import QueueMeasuring
from worker.relay import Relay
from worker.schedule import LedgerScheduler, entries, source_entries
from worker.settings import Settings
from worker.tracing import switch
from worker.tracing.untraced import Untraced

LAST_RESULT_LOOKS = 30
"""Looks, a tenth of a second apart, for whether a worker process's last result was read."""


def run_worker(settings: Settings, *, queues: Sequence[str], concurrency: int) -> int:
    """Run jobs until SIGTERM, which lets what runs come to its end; return the exit code."""
    # A process that ends waits until its last result was read, which now and then nobody does
    # any more once the worker stops: 30 seconds, in vain. The outcome is committed by then, and
    # a message that was not acknowledged for it is answered when it comes again.
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = LAST_RESULT_LOOKS
    worker = configured().Worker(
        hostname=host_format(f"tallyman-{os.getpid()}@%h"),
        queues=list(queues),
        concurrency=concurrency,
        loglevel=settings.log_level,
        task_events=True,
        quiet=True,
        # What workers would tell each other, the ledger knows.
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def run_relay(settings: Settings) -> None:
    """Relay jobs to the workers, and events to their stream, until SIGTERM or SIGINT."""
    logs.set_up(settings, process="relay")
    addresses = resolve(settings)
    _require_schema(addresses.database_url)
    traces = switch.start("relay")
    heartbeat = Heartbeat(data_folder=settings.data_folder, process="relay")
    relay = Relay(
        dispatches=PostgresDispatches(
            create(addresses.database_url, application="tallyman relay", pool_size=4, by_index=True)
        ),
        broker=CeleryBroker(configured(), url=addresses.broker_url, sending=traces.sending),
        queues=QUEUES,
        grouping=Grouping(most=settings.relay_batch),
        depth=settings.relay_depth,
        poll_seconds=settings.relay_poll_seconds,
        alive=heartbeat.beat,
        tells_messages=settings.log_level == "DEBUG",
    )
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: relay.stopping.set())
    try:
        with (
            _relaying_events(settings, addresses, traces, stopping=relay.stopping),
            _measuring_queues(addresses, relay),
        ):
            relay.run()
    finally:
        heartbeat.stop()


@contextmanager
def _relaying_events(
    settings: Settings, addresses: Addresses, traces: Untraced, *, stopping: threading.Event
) -> Iterator[None]:
    """Relay events in a thread while the context lasts; what ends it sets `stopping`."""
    if addresses.mirror_url is None:
        # Without a Redis there is no stream: events stay in the outbox for whoever reads that.
        yield
        return
    events = EventRelay(
        feed=PostgresOutboxFeed(create(addresses.database_url, application="tallyman events")),
        stream=RedisEventStream(addresses.mirror_url, length=settings.event_stream_length),
        stopping=stopping,
        traces=traces,
    )
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="events") as threads:
        running = threads.submit(events.run)
        running.add_done_callback(lambda _: stopping.set())
        try:
            yield
        finally:
            stopping.set()
    running.result()


@contextmanager
def _measuring_queues(addresses: Addresses, relay: Relay) -> Iterator[None]:
    """Measure the queues of a relay, in a thread, while the context lasts."""
    measuring = QueueMeasuring(
        gauges=PostgresQueueGauges(
            create(
                addresses.database_url,
                application="tallyman queues",
                # A relay that is to stop waits for this thread.
                statement_timeout_ms=5_000,
                by_index=True,
            )
        ),
        queues=relay.queues,
        messages=lambda: relay.messages,
        stopping=relay.stopping,
    )
    thread = threading.Thread(target=measuring.run, name="queues")
    thread.start()
    try:
        yield
    finally:
        relay.stopping.set()
        thread.join()


def run_beat(settings: Settings) -> None:
    """Submit what the clock asks for until SIGTERM or SIGINT."""
    logs.set_up(settings, process="beat")
    logs.connect(settings, process="beat")
    addresses = resolve(settings)
    _require_schema(addresses.database_url)
    switch.start("beat")
    producer = Producer.at(addresses.database_url, most_waiting=settings.most_waiting)
    heartbeat = Heartbeat(data_folder=settings.data_folder, process="beat")
    scheduler = partial(
        LedgerScheduler,
        schedule_entries=entries(settings),
        described=partial(source_entries, settings.imports_folder),
        submit=producer.submit,
        alive=heartbeat.beat,
    )
    try:
        configured().Beat(
            scheduler_cls=scheduler, loglevel=settings.log_level, quiet=True, socket_timeout=None
        ).run()
    finally:
        heartbeat.stop()


def _require_schema(database_url: str) -> None:
    """Make sure that the database is not too old; while it is away, that shows later.

    Raises:
        SchemaTooOld: It is.
    """
    engine = create(database_url, application="tallyman")
    try:
        schema.require(engine)
    except Exception as error:
        if not is_outage(error):
            raise
    finally:
        engine.dispose()


def run_flower(settings: Settings) -> None:
    """Serve Flower until SIGTERM or SIGINT."""
    flower.check(settings)
    logs.set_up(settings, process="flower")
    logs.connect(settings, process="flower")
    app: Celery = configured()
    flower.serve(app, settings)
