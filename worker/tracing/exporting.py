"""OpenTelemetry's SDK in a process of Tallyman, set up by its own variables."""

import atexit
import os
import socket
import threading
from importlib.metadata import entry_points

import structlog
from celery.signals import worker_process_shutdown
from opentelemetry import trace
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from worker.tracing.journey import Journey
from worker.tracing.statements import StatementTracers
from worker.tracing.untraced import Untraced

log = structlog.get_logger()

NAME = "tallyman"
LINKS = 1_000
"""Links of a span, unless a variable says otherwise: a message may be of so many jobs."""
GOODBYE_SECONDS = 2.0
"""How long a process that ends may try to export what it has left."""

_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class NoExporter(Exception):
    """There is no exporter as the variables name it."""


def start(process: str) -> Untraced:
    """Export what this process does from now on; what is in the way is logged."""
    try:
        exporters = _exporters()
    except Exception as error:  # noqa: BLE001  an exporter may fail as it likes: jobs run
        log.error("traces_not_exported", error=type(error).__name__, reason=str(error))  # noqa: TRY400
        return Untraced()
    provider = build_provider(process)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _say_goodbye(provider)
    return watch(provider)


def build_provider(process: str) -> TracerProvider:
    """Build a provider that exports nothing yet."""
    resource = Resource.create()
    named = str(resource.attributes.get(SERVICE_NAME, ""))
    if not named or named.startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: f"{NAME}-{process}"}))
    return TracerProvider(
        resource=resource.merge(
            Resource({SERVICE_INSTANCE_ID: f"{socket.gethostname()}:{os.getpid()}"})
        ),
        span_limits=None if "OTEL_SPAN_LINK_COUNT_LIMIT" in os.environ else _limits(),
        # Its own goodbye would wait for half a minute while nobody takes what it has left.
        shutdown_on_exit=False,
    )


def watch(provider: TracerProvider) -> Journey:
    """Return the journey of jobs as told to this provider, with the statements of each attempt."""
    PsycopgInstrumentor().instrument(tracer_provider=StatementTracers(provider))
    return Journey(provider.get_tracer(NAME))


def _limits() -> SpanLimits:
    return SpanLimits(max_links=LINKS)


def _exporters() -> list[SpanExporter]:
    names = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return [_exporter(name.strip()) for name in names.split(",") if name.strip() != "none"]


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = (
            os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = _OTLP.get(protocol, protocol)
    found = [*entry_points(group="opentelemetry_traces_exporter", name=name)]
    if not found:
        known = sorted({each.name for each in entry_points(group="opentelemetry_traces_exporter")})
        raise NoExporter(
            f"no exporter of traces is called {name!r}: install the package that has it, or set"
            f" OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_PROTOCOL; here are {', '.join(known)}"
        )
    exporter = found[0].load()()
    assert isinstance(exporter, SpanExporter)  # noqa: S101  that is what the group is of
    return exporter


def _say_goodbye(provider: TracerProvider) -> None:
    """Export what is left when this process ends, if that does not take long."""

    def end(**_: object) -> None:
        # It may try for half a minute where nobody listens; a thread of no consequence does not.
        last = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(GOODBYE_SECONDS)

    # The children of a worker end without the hooks of Python.
    worker_process_shutdown.connect(end, weak=False)
    atexit.register(end)
