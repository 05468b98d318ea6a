"""A collector of traces, as OpenTelemetry's exporters know it: OTLP over HTTP, in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.spans import SpanSeen


class Collector:
    """Keeps what it was sent, and what that was made of."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[SpanSeen] = []
        self.bytes = b""
        self.is_deaf = threading.Event()
        """While set, requests are taken and not answered."""
        self.go_on = threading.Event()

    def trace_of(self, job_id: str) -> list[SpanSeen]:
        """Return all spans of the trace of a job, without those of statements."""
        traces = {span.trace_id for span in self.spans if _is_of(span, job_id)}
        return [
            span
            for span in self.spans
            if span.trace_id in traces and "db.system" not in span.attributes
        ]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.bytes += body
        for resource in request.resource_spans:
            process = {each.key: _value(each.value) for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_seen(span, str(process["service.name"])) for span in scope.spans]


def _is_of(span: SpanSeen, job_id: str) -> bool:
    return bool(span.attributes.get("tallyman.job.id") == job_id)


def _seen(span: Span, process: str) -> SpanSeen:
    return SpanSeen(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        process=process,
        trace_id=int.from_bytes(span.trace_id),
        span_id=int.from_bytes(span.span_id),
        parent_id=int.from_bytes(span.parent_span_id) or None,
        started=span.start_time_unix_nano,
        attributes={each.key: _value(each.value) for each in span.attributes},
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        links={
            int.from_bytes(link.span_id): str(_value(link.attributes[0].value))
            for link in span.links
        },
    )


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if collector.is_deaf.is_set():
                collector.go_on.wait()
                return
            assert self.path == "/v1/traces"
            collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.go_on.set()
            server.shutdown()
            thread.join()
