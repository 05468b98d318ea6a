"""The kinds of process, each built from the settings and run until it is told to stop."""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import billiard.pool
from billiard.process import current_process
from celery import Celery
from celery.signals import worker_process_init
from celery.utils.nodenames import host_format

from adapters.broker import CeleryBroker
from adapters.event_stream import RedisEventStream
from adapters.postgres import roles, schema
from adapters.postgres.access import Role
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.engine import create
from adapters.postgres.operations import JobOperations
from adapters.postgres.outbox_feed import PostgresOutboxFeed
from adapters.postgres.persistence import Persistently, is_outage
from adapters.postgres.queue_gauges import PostgresQueueGauges
from adapters.postgres.tallies import Folding
from domain.errors import DomainError
from domain.jobs.dispatching import Grouping
from domain.jobs.queues import QUEUES
from worker import collector, flower, logs, stop_signals
from worker.addresses import Addresses, resolve
from worker.app import configured
from worker.event_relay import EventRelay
from worker.heartbeat import Heartbeat
from worker.metrics.breaker_board import BreakerBoard
from worker.metrics.ledger import LedgerCollector
from worker.monitoring import METRICS_PORT, Standing, monitored
from worker.producer import Producer
from worker.queue_measuring import QueueMeasuring
from worker.relay import Relay
from worker.schedule import LedgerScheduler, entries, source_entries
from worker.settings import Settings
from worker.standing import Away, Consuming, Rounds
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
    board = BreakerBoard()
    board.listen()
    worker_process_init.connect(lambda **_: board.move_to(1 + current_process().index), weak=False)
    consuming = Consuming(worker=worker)
    with monitored(
        settings,
        process="worker",
        stand=consuming.stand,
        collectors=[consuming.collector(), board],
    ):
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
            create(
                addresses.database_url,
                application="tallyman relay",
                pool_size=4,
                by_index=True,
                # What was handed out, and is forgotten to have been, is handed out again.
                is_durable=False,
            )
        ),
        broker=CeleryBroker(configured(), url=addresses.broker_url, sending=traces.sending),
        queues=QUEUES,
        grouping=Grouping(most=settings.relay_batch),
        depth=settings.relay_depth,
        poll_seconds=settings.relay_poll_seconds,
        alive=heartbeat.beat,
        tells_messages=settings.log_level == "DEBUG",
    )
    rounds = Rounds(heartbeat=heartbeat, objection=lambda: relay.objection)
    collector.calm()
    try:
        with (
            stop_signals.setting(relay.stopping),
            _monitored_rounds(settings, rounds),
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
        feed=PostgresOutboxFeed(
            # Likewise what was published.
            create(addresses.database_url, application="tallyman events", is_durable=False)
        ),
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
    engine = create(
        addresses.database_url,
        application="tallyman queues",
        # A relay that is to stop waits for this thread.
        statement_timeout_ms=5_000,
        by_index=True,
    )
    measuring = QueueMeasuring(
        gauges=PostgresQueueGauges(engine),
        folding=Folding(engine=engine),
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
    away = Away()
    scheduler = partial(
        LedgerScheduler,
        schedule_entries=entries(settings),
        described=partial(source_entries, settings.imports_folder),
        submit=producer.submit,
        alive=heartbeat.beat,
        away=away.tell,
    )
    rounds = Rounds(heartbeat=heartbeat, objection=lambda: away.objection)
    try:
        with _monitored_rounds(settings, rounds):
            configured().Beat(
                scheduler_cls=scheduler,
                loglevel=settings.log_level,
                quiet=True,
                socket_timeout=None,
            ).run()
    finally:
        heartbeat.stop()


def run_metrics(settings: Settings) -> None:
    """Tell the ledger's metrics until SIGTERM or SIGINT."""
    logs.set_up(settings, process="metrics")
    addresses = resolve(settings)
    ledger = LedgerCollector.at(
        addresses.database_url,
        most_waiting=settings.most_waiting,
        has_stream=addresses.mirror_url is not None,
    )

    def stand() -> Standing:
        objection = ledger.objection()
        return Standing(detail=objection or "at work", is_ready=objection is None)

    stopping = threading.Event()
    port = METRICS_PORT if settings.health_port is None else settings.health_port
    with (
        stop_signals.setting(stopping),
        closing(ledger),
        monitored(
            settings.model_copy(update={"health_port": port}),
            process="metrics",
            stand=stand,
            collectors=[ledger],
        ),
    ):
        stopping.wait()


@contextmanager
def _monitored_rounds(settings: Settings, rounds: Rounds) -> Iterator[None]:
    board = BreakerBoard()
    board.listen()
    with monitored(
        settings,
        process=rounds.heartbeat.process,
        stand=rounds.stand,
        collectors=[rounds.collector(), board],
    ):
        yield


def _require_schema(database_url: str) -> None:
    """Make sure that the database is what this needs; while it is away, that shows later.

    Raises:
        SchemaTooOld: It lacks migrations.
        LacksPrivileges: It does not let this login do the work.
    """
    engine = create(database_url, application="tallyman")
    try:
        schema.require(engine)
        roles.require(engine, Role.WORKER)
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
    operations = JobOperations(
        create(
            resolve(settings).database_url,
            application="tallyman flower",
            # Few can wait at once for what is asked by way of Flower.
            statement_timeout_ms=5_000,
        )
    )
    persistently = Persistently()

    def cancel(job_id: str) -> DomainError | None:
        operated = persistently(lambda: operations.cancel([job_id]))
        return dict(operated.refused).get(job_id)

    flower.serve(app, settings, cancel=cancel)
