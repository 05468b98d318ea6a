"""An import that everything happens to, beside one that is left alone: the same in the end?

python -m benchmarks.imports.disturbed [--lines 1000000]
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from adapters.embedded.servers import EmbeddedServers
from adapters.files.opening import open_table
from adapters.postgres import schema
from adapters.postgres.engine import create
from adapters.postgres.unit_of_work import BeginPostgresWork
from benchmarks.imports.files import PRODUCTS, write_orders, write_stock
from benchmarks.stack import plain, wait_until
from domain.imports.columns import Columns
from domain.imports.runs import Plan
from domain.imports.targets import IMPORTS, Target
from worker.importer import take_file

# Who has what, which lines wait or were refused, and each counter: but not which job, or when.
STATE = """
SELECT (SELECT md5(string_agg(concat_ws('|', order_id, line_id, batch_reference, quantity), ','
                              ORDER BY order_id, line_id, batch_reference)) FROM allocation),
       (SELECT md5(string_agg(concat_ws('|', order_id, line_id, state), ','
                              ORDER BY order_id, line_id)) FROM order_line),
       (SELECT md5(string_agg(concat_ws('|', reference, purchased, allocated), ','
                              ORDER BY reference)) FROM batch),
       (SELECT count(*) FROM stock_movement),
       (SELECT ends::text FROM import_run WHERE target = 'orders')"""

SCARCE = 40
"""Lines that the stock of a product is enough for, on average, in a hundred that want it."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """Servers, a worker and a relay that are started again when they die."""

    servers: EmbeddedServers
    folder: Path
    happened: list[str] = field(default_factory=list)
    _processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.servers.postgres.url()

    def keep_running(self) -> None:
        """Start what does not run, as a supervisor would."""
        for name in ("worker", "relay"):
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                self._processes[name] = self._start(name)

    def kill_worker(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._processes["worker"].pid, signal.SIGKILL)
        self._processes["worker"].wait()

    def flush(self) -> None:
        redis.Redis.from_url(self.servers.valkey.url()).flushall()

    def restart_postgres(self) -> None:
        self.servers.postgres.stop()
        self.servers.postgres.start()

    def stop(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def rows_done(self) -> int | None:
        """Return how many rows of orders are done; None while PostgreSQL is away."""
        try:
            with psycopg.connect(plain(self.url), autocommit=True) as connection:
                row = connection.execute(
                    "SELECT rows_done FROM import_run WHERE target = 'orders'"
                ).fetchone()
        except psycopg.OperationalError:
            return None
        return int(row[0]) if row else 0

    def count(self, table: str) -> int:
        """Count the rows of a table."""
        with psycopg.connect(plain(self.url)) as connection:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])

    def state(self) -> tuple[object, ...]:
        """Return the final state in a form that can be compared."""
        with psycopg.connect(plain(self.url)) as connection:
            row = connection.execute(STATE).fetchone()
        assert row is not None
        return tuple(row)

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        environment = {
            "TALLYMAN_DATABASE_URL": self.url,
            "TALLYMAN_BROKER_URL": self.servers.valkey.url(),
            "TALLYMAN_DATA_FOLDER": str(self.folder),
            "TALLYMAN_CONCURRENCY": "2",
            "TALLYMAN_VISIBILITY_TIMEOUT_SECONDS": "120",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "worker.command.main", name],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def scene() -> Iterator[Scene]:
    """Give a fresh scene with a migrated database."""
    with tempfile.TemporaryDirectory(prefix="tallyman-disturbed-") as name:
        servers = EmbeddedServers(Path(name))
        ready = Scene(servers=servers, folder=Path(name))
        try:
            servers.start()
            engine = create(ready.url)
            schema.upgrade(engine)
            engine.dispose()
            yield ready
        finally:
            ready.stop()
            servers.remove_data()


def imported(lines: int, *, disturbed: bool) -> tuple[tuple[object, ...], float, list[str]]:
    """Import so many lines; return the final state, the seconds and what happened meanwhile."""
    with scene() as ready:
        began = time.monotonic()
        _take(ready, lines)
        faults = _faults(ready, lines) if disturbed else []
        deadline = began + 600 + lines / 1_000

        def over() -> bool:
            ready.keep_running()
            done = ready.rows_done()
            # All that are due: rows are done by the chunk, and there may be no other look.
            while faults and done is not None and done >= faults[0][0]:
                _, name, strike = faults.pop(0)
                strike()
                ready.happened.append(f"{name} after {done:,} rows")
            return done == lines

        wait_until(over, seconds=deadline - began, every=0.1)
        return ready.state(), time.monotonic() - began, ready.happened


def _faults(ready: Scene, lines: int) -> list[tuple[int, str, Callable[[], None]]]:
    return [
        (lines // 6, "kill -9 of the worker", ready.kill_worker),
        (lines // 3, "FLUSHALL", ready.flush),
        (lines // 2, "restart of PostgreSQL", ready.restart_postgres),
        (2 * lines // 3, "kill -9 of the worker", ready.kill_worker),
        (5 * lines // 6, "FLUSHALL", ready.flush),
    ]


def _take(ready: Scene, lines: int) -> None:
    """Put the files on record: too little stock, so that the order of the lines matters."""
    stock, orders = ready.folder / "stock.csv", ready.folder / "orders.csv"
    write_stock(stock, quantity=max(10, lines * 6 * SCARCE // 100 // PRODUCTS))
    write_orders(orders, lines)
    engine = create(ready.url)
    for target, path in ((Target.BATCHES, stock), (Target.ORDERS, orders)):
        table = open_table(path)
        columns = Columns.match(
            table.header,
            IMPORTS[target].fields,
            mapped={},
            constants={"policy": "partial"} if target is Target.ORDERS else {},
        )
        take_file(
            table,
            Plan(target=target, header=table.header, columns=columns),
            begin_work=BeginPostgresWork(engine=engine),
        )
        if target is Target.BATCHES:
            ready.keep_running()
            wait_until(lambda: ready.count("batch") == PRODUCTS, every=0.1)
    engine.dispose()


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.imports.disturbed", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    lines = parser.parse_args().lines
    calm, calm_seconds, _ = imported(lines, disturbed=False)
    print(f"left alone: {calm_seconds:.1f} s, {calm}")
    rough, rough_seconds, happened = imported(lines, disturbed=True)
    for event in happened:
        print(f"  {event}")
    print(f"disturbed: {rough_seconds:.1f} s, {rough}")
    if calm != rough:
        sys.exit("the final states differ")
    print("the final states are the same")


if __name__ == "__main__":
    main()
