"""Measure imports beside the floor and the textbook, in one run.

python -m benchmarks.imports [--lines 1000000] [--users 1000000] [--processes 4] [--json FILE]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import Addresses, EmbeddedServers
from benchmarks.imports.contenders import (
    MEGABYTE,
    Imported,
    Stage,
    floor,
    p99,
    stage,
    textbook,
)

SMALL = 10
"""The file whose memory is measured beside the large one's has a tenth of its lines."""
TEXTBOOK_LINES = 10_000
EVERY_SECONDS = 0.05
"""How often a single order is submitted while its latency is measured."""
ALONE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where all of it is measured."""

    servers: Addresses
    folder: Path
    processes: int
    console: Console

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        with stage(self.servers, self.folder, processes=self.processes) as ready:
            yield ready

    def tell(self, what: str, done: Imported) -> None:
        ends = ", ".join(f"{rows:,} {end}" for end, rows in sorted(done.ends.items()) if rows)
        self.console.print(
            f"{what}: {done.rows:,} rows in {done.seconds:.1f} s, {done.rate:,.0f}/s,"
            f" a worker child had {done.most_memory / MEGABYTE:.0f} MB at most; {ends}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.imports", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallyman-bench-") as name:
        embedded = EmbeddedServers(Path(name))
        try:
            bench = Bench(
                servers=embedded.start(),
                folder=Path(name),
                processes=options.processes,
                console=Console(),
            )
            figures = _measure(bench, lines=options.lines, users=options.users)
        finally:
            embedded.remove_data()
    bench.console.print(_table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(bench: Bench, *, lines: int, users: int) -> dict[str, float]:
    bare = floor(bench.servers, lines)
    bench.console.print(f"floor, two COPYs: {bare:,.0f} lines/s")
    book = textbook(bench.servers, bench.folder, lines=TEXTBOOK_LINES, processes=bench.processes)
    bench.console.print(f"textbook, a transaction a line: {book:,.0f} lines/s")
    with bench.stage() as ready:
        ready.stock()
        with ready.single_jobs(every=EVERY_SECONDS) as alone:
            time.sleep(ALONE_SECONDS)
        small = ready.orders(lines // SMALL)
        bench.tell("orders, a tenth of them", small)
    with bench.stage() as ready:
        ready.stock()
        with ready.single_jobs(every=EVERY_SECONDS) as beside:
            large = ready.orders(lines)
        bench.tell("orders, with single jobs beside them", large)
    with bench.stage() as ready:
        people = ready.users(users)
        bench.tell("users", people)
    return {
        "floor lines/s": bare,
        "textbook lines/s": book,
        "orders lines/s": large.rate,
        "orders / floor": large.rate / bare,
        "orders / textbook": large.rate / book,
        "users/s": people.rate,
        "child MB at a tenth": small.most_memory / MEGABYTE,
        "child MB at all lines": large.most_memory / MEGABYTE,
        "single job p50 ms alone": 1_000 * median(alone),
        "single job p50 ms beside an import": 1_000 * median(beside),
        "single job p99 ms alone": 1_000 * p99(alone),
        "single job p99 ms beside an import": 1_000 * p99(beside),
    }


def _table(figures: dict[str, float]) -> Table:
    table = Table(title="Imports")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, figure in figures.items():
        table.add_row(name, f"{figure:,.3f}" if figure < 1 else f"{figure:,.1f}")
    return table


if __name__ == "__main__":
    main()
