"""The statements of attempts as spans: those of polling are left out, and so are all values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, NoOpTracer, Span, SpanKind, Tracer, TracerProvider

from worker.tracing import attributes


class StatementTracers(TracerProvider):
    """Hands the instrumentation of psycopg tracers that know what may be told."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *names: Any, **more: Any) -> Tracer:
        return _StatementTracer(self._provider.get_tracer(*names, **more))


class _StatementTracer(NoOpTracer):
    """Makes the one kind of span that the instrumentation asks for."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, *, kind: SpanKind, **_: object
    ) -> Iterator[Span]:
        # What nobody asked for, such as a look for due jobs, would be a trace of its own.
        if not trace.get_current_span().is_recording():
            yield INVALID_SPAN
            return
        with self._tracer.start_as_current_span(
            name,
            kind=kind,
            # PostgreSQL quotes the row at fault, which may be of people.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                attributes.fail(span, error)
                raise
