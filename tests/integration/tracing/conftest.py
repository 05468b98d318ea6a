"""A Tallyman in one process that tells a test each of its spans."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr
from sqlalchemy import Engine

from adapters.broker import CeleryBroker
from adapters.event_stream import RedisEventStream
from adapters.postgres.dispatches import PostgresDispatches
from adapters.postgres.operations import JobOperations
from adapters.postgres.outbox_feed import PostgresOutboxFeed
from adapters.postgres.queries import JobQueries, JobView
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.dispatching import Grouping
from domain.jobs.model import JobState
from domain.jobs.queues import QUEUES
from tests.conftest import wait_until
from tests.e2e.pipeline import KIND, SABOTAGE
from tests.spans import SpanSeen
from worker.addresses import Addresses
from worker.app import build_app
from worker.event_relay import EventRelay
from worker.producer import Producer
from worker.relay import Relay
from worker.settings import Settings
from worker.tracing.exporting import build_provider, watch
from worker.tracing.journey import Journey


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """All of Tallyman, step by step, and what it tells of itself."""

    provider: TracerProvider
    exporter: InMemorySpanExporter
    engine: Engine
    app: Celery
    producer: Producer
    relay: Relay
    events: EventRelay

    def spans(self) -> list[SpanSeen]:
        """Return what was told, without the statements."""
        return [seen(span) for span in self.finished() if "db.system" not in span.attributes]

    def statements_below(self, parent: SpanSeen) -> list[str]:
        return [
            str(span.attributes["db.statement"])
            for span in self.finished()
            if "db.system" in span.attributes and span.parent.span_id == parent.span_id
        ]

    def finished(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str, **attributes: object) -> list[SpanSeen]:
        """Return the spans of this name which say this of jobs."""
        return [
            span
            for span in self.spans()
            if span.name == name
            and all(span.attributes.get(f"tallyman.job.{k}") == v for k, v in attributes.items())
        ]

    def relay_jobs(self) -> None:
        self.relay.relay_once()

    def relay_events(self) -> None:
        with self.events.feed.reading() as reader:
            assert reader is not None
            self.events.relay_once(reader)

    def until(self, job_id: str, state: JobState) -> JobView:
        queries = JobQueries(self.engine)

        def there() -> bool:
            job = queries.find(job_id)
            # The span of an attempt ends after its commit.
            return bool(
                job
                and job.state is state
                and any(
                    span.name.startswith("process ")
                    and span.attributes.get("tallyman.job.id") == job_id
                    and span.attributes.get("tallyman.job.state") == state
                    for span in self.spans()
                )
            )

        wait_until(there)
        found = queries.find(job_id)
        assert found is not None
        return found

    def until_messages(self, count: int, *, jobs: int) -> list[SpanSeen]:
        """Wait for the spans of messages of so many jobs: each ends after those of its jobs."""

        def ended() -> list[SpanSeen]:
            return [
                span
                for span in self.named("process allocation")
                if span.attributes.get("messaging.batch.message_count") == jobs
            ]

        wait_until(lambda: len(ended()) >= count)
        return ended()

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def retry(self, job_id: str) -> None:
        JobOperations(self.engine).retry([job_id])

    def has_stock(self, sku: str, quantity: int) -> None:
        job_id = f"stock-{sku}"
        self.producer.submit(
            "allocation.create_batch",
            {"reference": f"batch-{sku}", "sku": sku, "quantity": quantity},
            job_id=job_id,
        )
        self.relay_jobs()
        self.until(job_id, JobState.SUCCEEDED)
        self.relay_events()
        self.exporter.clear()

    def send(self, job_id: str, payload: Mapping[str, Any], **headers: str) -> None:
        """Send an order through door (a), as a client that knows nothing of Tallyman's code."""
        self.app.send_task(
            KIND, kwargs=dict(payload), task_id=job_id, queue="allocation", headers=headers
        )


def seen(span: ReadableSpan) -> SpanSeen:
    context = span.get_span_context()
    assert context is not None
    return SpanSeen(
        name=span.name,
        kind=span.kind.name.lower(),
        process="here",
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=span.parent.span_id if span.parent else None,
        started=span.start_time or 0,
        attributes=span.attributes or {},
        is_error=not span.status.is_ok and not span.status.is_unset,
        links={
            link.context.span_id: str((link.attributes or {}).get("tallyman.link"))
            for link in span.links
        },
    )


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = build_provider("test")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def journey(provider: TracerProvider) -> Iterator[Journey]:
    connect = vars(psycopg.Connection)["connect"]
    yield watch(provider)
    PsycopgInstrumentor().uninstrument()
    # What it leaves behind makes plain connections, whoever of its kinds is asked.
    psycopg.Connection.connect = connect  # type: ignore[method-assign]


@pytest.fixture
def addresses(database_url: str, broker_url: str) -> Addresses:
    return Addresses(database_url=database_url, broker_url=broker_url, mirror_url=None)


@pytest.fixture
def traced(
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    journey: Journey,
    engine: Engine,
    addresses: Addresses,
) -> Iterator[Traced]:
    """Run a worker in a thread; the relays run when they are told to."""
    with engine.begin() as connection:
        connection.exec_driver_sql(SABOTAGE.replace("%", "%%"))
    app = build_app(
        Settings(
            database_url=SecretStr(addresses.database_url),
            broker_url=SecretStr(addresses.broker_url),
            retry_base_seconds=86_400,
            retry_cap_seconds=86_400,
        ),
        addresses,
        start_traces=lambda: journey,
    )
    producer = Producer(
        begin_work=BeginPostgresWork(engine=engine),
        queries=JobQueries(engine),
        traces=lambda: journey,
    )
    with start_worker(
        app, pool="solo", perform_ping_check=False, loglevel="WARNING", shutdown_timeout=60
    ):
        yield Traced(
            provider=provider,
            exporter=exporter,
            engine=engine,
            app=app,
            producer=producer,
            relay=Relay(
                dispatches=PostgresDispatches(engine),
                broker=CeleryBroker(app, url=addresses.broker_url, sending=journey.sending),
                queues=QUEUES,
                # Two messages at the most, so that a few jobs are a backlog.
                grouping=Grouping(spread=2),
                depth=48,
                poll_seconds=1,
            ),
            events=EventRelay(
                feed=PostgresOutboxFeed(engine),
                stream=RedisEventStream(addresses.broker_url, length=1_000),
                traces=journey,
            ),
        )
    app.tasks[KIND].runtime().executor.begin_work.engine.dispose()
    app.backend.ledger.close()
    app.close()
