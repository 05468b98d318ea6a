"""Measure what logs and traces cost: the same orders with all of it off, some, and all on.

python -m benchmarks.observing [--orders 20000] [--rounds 3] [--processes 4]
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from benchmarks.celery_contenders import door_a, door_b
from benchmarks.orders import Load
from benchmarks.stage import Run, Stage

DOORS: Mapping[str, Run] = {"(a)": door_a, "(b)": door_b}
LOGS = {"TALLYMAN_LOG_LEVEL": "INFO", "TALLYMAN_LOG_FORMAT": "json"}


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
        stages: Mapping[str, Mapping[str, str]] = {
            "off": {},
            "logs": LOGS,
            "traces": traces,
            "logs and traces": {**LOGS, **traces},
        }
        rates: dict[tuple[str, str], list[float]] = {}
        try:
            stage = Stage(servers=embedded.start(), logs=Path(folder), processes=options.processes)
            for _ in range(options.rounds):
                for door, contender in DOORS.items():
                    # One message a job: a quarter of the orders will do.
                    load = Load(orders=options.orders // (4 if door == "(a)" else 1))
                    for name, variables in stages.items():
                        watched = replace(
                            stage,
                            variables=variables,
                            is_followed=variables.keys() >= traces.keys(),
                        )
                        timing = contender(watched, load)
                        rates.setdefault((door, name), []).append(timing.rate)
                        console.print(f"door {door}, {name}: {timing.rate:,.0f}/s")
        finally:
            embedded.remove_data()
    console.print(_table(rates))


def _table(rates: Mapping[tuple[str, str], list[float]]) -> Table:
    table = Table(title="Jobs a second, and beside all off")
    for column in ("door", "on", "median", "least", "most", "ratio"):
        table.add_column(column)
    for (door, name), found in rates.items():
        table.add_row(
            door,
            name,
            *(f"{each:,.0f}" for each in (median(found), min(found), max(found))),
            f"{median(found) / median(rates[door, 'off']):.2f}",
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
