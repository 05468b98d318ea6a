"""What a process tells of itself over HTTP: /health/live, /health/ready and /metrics."""

import json
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any, ClassVar
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from worker.metrics import process_catalogue as metrics
from worker.metrics.catalogue import family
from worker.settings import Settings, SettingsError

log = structlog.get_logger()

METRICS_PORT = 9465
"""Where the ledger's metrics are told unless the settings say otherwise."""
MOST_CALLERS = 16
"""Requests answered at once; who comes on top of that is turned away."""
CALLER_SECONDS = 5.0
"""How long a caller may take over his question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a process is."""

    detail: str
    is_ready: bool
    """It does its work now."""
    is_live: bool = True
    """It would not help to start it again."""


Request = socket.socket | tuple[bytes, socket.socket]
Caller = tuple[str, int] | str
"""As the library names them."""

Stand = Callable[[], Standing]
"""Says how the process is, at once."""


@contextmanager
def monitored(
    settings: Settings,
    *,
    process: str,
    stand: Stand,
    collectors: Sequence[Collector] = (),
) -> Iterator[int | None]:
    """Answer on the port of the settings while the context lasts; give it.

    Raises:
        SettingsError: It cannot be listened on.
    """
    if settings.health_port is None:
        yield None
        return
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Itself(process=process, stand=stand))
    for collector in collectors:
        registry.register(collector)
    server = _listen(settings.health_address, settings.health_port, stand=stand, registry=registry)
    port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, name="monitoring", daemon=True)
    thread.start()
    log.info("monitoring_started", process=process, address=settings.health_address, port=port)
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Itself(Collector):
    """Tells what runs, and how it is."""

    process: str
    stand: Stand

    def collect(self) -> Iterator[Metric]:
        standing = self.stand()
        yield family(metrics.BUILD, [((self.process, version("tallyman")), 1.0)])
        yield family(metrics.LIVE, [((self.process,), float(standing.is_live))])
        yield family(metrics.READY, [((self.process,), float(standing.is_ready))])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CALLERS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_CALLERS)
        super().__init__(address, handler)
        # A child of ours must not hold the port when we are gone.
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(reference()))

    def process_request(self, request: Request, client_address: Caller) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Request, client_address: Caller) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Request, client_address: Caller) -> None:
        """Say nothing of callers that went away; what fails in an answer is logged there."""


def _forget(server: _Server | None) -> None:
    if server is not None:
        server.socket.close()


class _Handler(BaseHTTPRequestHandler):
    server_version = "tallyman"
    sys_version = ""
    timeout = CALLER_SECONDS
    stand: ClassVar[Stand]
    registry: ClassVar[CollectorRegistry]

    def do_GET(self) -> None:
        try:
            status, content_type, body = self._answer(urlsplit(self.path).path)
        except Exception:
            log.exception("monitoring_failed", path=self.path)
            status, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the name that the library looks for

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                return HTTPStatus.OK, content_type, encode(self.registry)
            case "/health/live":
                standing = type(self).stand()
                return _told(standing, is_well=standing.is_live)
            case "/health/ready":
                standing = type(self).stand()
                return _told(standing, is_well=standing.is_ready)
            case _:
                known = b"/health/live /health/ready /metrics\n"
                return HTTPStatus.NOT_FOUND, "text/plain", known

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  its name in the library
        """Log nothing: probes come every few seconds."""


def _told(standing: Standing, *, is_well: bool) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(asdict(standing)).encode() + b"\n"


def _listen(address: str, port: int, *, stand: Stand, registry: CollectorRegistry) -> _Server:
    handler = type("Handler", (_Handler,), {"stand": staticmethod(stand), "registry": registry})
    try:
        return _Server((address, port), handler)
    except OSError as error:
        raise SettingsError(
            f"TALLYMAN_HEALTH_PORT: cannot listen on {address} port {port}"
            f" ({error.strerror or error}): choose another, 0 for a free one, or none"
        ) from error
