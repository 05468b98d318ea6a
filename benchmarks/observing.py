"""Measure what it costs to be seen: the same orders with all of it off, each alone, and all on.

python -m benchmarks.observing [--orders 20000] [--rounds 3] [--processes 4]
"""

import argparse
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from benchmarks.celery_contenders import run_accepted, run_sent
from benchmarks.orders import Load
from benchmarks.stack import process
from benchmarks.stage import Stage, Timing, check

DOORS: Mapping[str, Callable[..., Timing]] = {"(a)": run_sent, "(b)": run_accepted}
LOGS = {"TALLYMAN_LOG_LEVEL": "INFO", "TALLYMAN_LOG_FORMAT": "json"}
SCRAPED_EVERY_SECONDS = 1.0
"""Fifteen times as often as a Prometheus would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How a run is seen."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Set for Tallyman's processes."""
    is_followed: bool = False
    """Each job comes from a trace of its own that somebody follows."""
    with_events: bool = False
    """Workers send events for Flower."""
    with_metrics: bool = False
    """`tallyman metrics` runs, and is asked."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.observing", description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as folder, _sink() as url:
        embedded = EmbeddedServers(Path(folder))
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ways = {
            "nothing": Seen(),
            "events": Seen(with_events=True),
            "metrics": Seen(with_metrics=True),
            "logs": Seen(variables=LOGS),
            "traces": Seen(variables=traces, is_followed=True),
            "all": Seen(
                variables={**LOGS, **traces}, is_followed=True, with_events=True, with_metrics=True
            ),
        }
        rates: dict[tuple[str, str], list[float]] = {}
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=options.processes)
            for _ in range(options.rounds):
                for door in DOORS:
                    # One message a job: a quarter of the orders will do.
                    load = Load(orders=options.orders // (4 if door == "(a)" else 1))
                    for name, seen in ways.items():
                        timing = _run(door, stage, load, seen)
                        rates.setdefault((door, name), []).append(timing.rate)
                        console.print(f"door {door}, {name}: {timing.rate:,.0f}/s")
        finally:
            embedded.remove_data()
    console.print(_table(rates))


def _run(door: str, stage: Stage, load: Load, seen: Seen) -> Timing:
    watched = replace(stage, variables=seen.variables, is_followed=seen.is_followed)
    with (
        watched.database(load) as url,
        _scraped(watched, url) if seen.with_metrics else nullcontext(),
    ):
        timing = DOORS[door](watched, load, url, with_events=seen.with_events)
        check(url, load)
        return timing


@contextmanager
def _scraped(stage: Stage, url: str) -> Iterator[None]:
    """Ask `tallyman metrics` while the context lasts, from when it first answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = stage.environment(url) | {"TALLYMAN_HEALTH_PORT": str(port)}
    stopping, answered = threading.Event(), threading.Event()

    def scrape() -> None:
        while not stopping.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                    page.read()
                answered.set()
            except OSError:
                # Not up yet; that it never is, the wait below tells.
                pass
            stopping.wait(SCRAPED_EVERY_SECONDS if answered.is_set() else 0.1)

    with process(
        "worker.command.main", "metrics", environment=environment, log=stage.log("metrics")
    ):
        scraper = threading.Thread(target=scrape)
        scraper.start()
        try:
            if not answered.wait(30):
                raise TimeoutError("`tallyman metrics` does not answer")
            yield
        finally:
            stopping.set()
            scraper.join()


def _table(rates: Mapping[tuple[str, str], list[float]]) -> Table:
    table = Table(title="Jobs a second, and beside nothing on")
    for column in ("door", "on", "median", "least", "most", "ratio"):
        table.add_column(column)
    for (door, name), found in rates.items():
        table.add_row(
            door,
            name,
            *(f"{each:,.0f}" for each in (median(found), min(found), max(found))),
            f"{median(found) / median(rates[door, 'nothing']):.2f}",
        )
    return table


@contextmanager
def _sink() -> Iterator[str]:
    """Take what exporters send, and give the address for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    main()
