"""A broker that forgets while a file is imported: `python -m tests.chaos.flushall FOLDER`.

FOLDER holds `online-retail-2010-12-batches.csv` and `online-retail-2010-12.csv.gz`. They are
imported by `tallyman import` into a fresh `tallyman up`: undisturbed, with FLUSHALL in the middle,
and with Valkey killed in the middle and started again without its data. Prints a table; ends with 1
where a job is lost or the books do not agree.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg
import redis
from rich.console import Console
from rich.table import Table

from adapters.embedded.servers import EmbeddedServers
from adapters.event_stream import STREAM
from adapters.postgres.engine import create
from tests.chaos.installation import COMMAND_SECONDS, Installation, printed
from tests.e2e.processes import eventually
from tests.stock_audit import read_books

ENDS = ("allocated", "refused", "failed")
"""How a row of orders may end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is imported."""

    batches: Path
    orders: Path
    mapping: str
    """Which columns of `orders` fill which fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What happens to the broker once a share of the rows is done."""

    name: str
    happen: Callable[[EmbeddedServers], None] | None
    share: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has become of an import."""

    name: str
    rows: int
    ends: Mapping[str, int]
    orders: int
    """Orders on record, refused ones included."""
    events_missing: int
    """Events of the outbox that the stream does not hold when all is over."""
    done_before: int
    """Rows done when the broker was disturbed."""
    seconds: float
    """From when the file was on record to when its last row was done."""
    seconds_after: float
    """From the disturbance to when the last was done."""

    def problems(self) -> list[str]:
        """Say what is not as it must be."""
        finished = sum(self.ends.get(end, 0) for end in ENDS)
        found = []
        if not self.rows or finished != self.rows:
            found.append(f"{self.name}: of {self.rows} rows, {dict(self.ends)}")
        if self.events_missing:
            found.append(f"{self.name}: {self.events_missing} events are not in the stream")
        return found


def flush(servers: EmbeddedServers) -> None:
    """Have the broker forget everything."""
    with redis.Redis.from_url(servers.valkey.url()) as client:
        client.flushall()


def replace_by_empty(servers: EmbeddedServers) -> None:
    """Kill the broker; whoever watches it will start one that knows nothing."""
    data = servers.valkey.folder / "data"
    data.rename(data.with_name("data-of-the-dead"))
    servers.valkey.kill()


UNDISTURBED = Disturbance(name="undisturbed", happen=None)
FLUSHED = Disturbance(name="FLUSHALL", happen=flush)
REPLACED = Disturbance(name="kill -9, empty", happen=replace_by_empty)


def run(files: Files, disturbance: Disturbance, *, folder: Path, waits: bool = False) -> Outcome:
    """Import the files into a fresh installation, and disturb it.

    Where it `waits` in its middle for the disturbance, few orders are enough for a middle.
    """
    installation = Installation(folder=folder)
    with installation.up():
        url = installation.servers.postgres.url()
        if waits:
            _have_it_wait(url, disturbance.share)
        installation.run("import", "batches", str(files.batches))
        log = folder / "orders.log"
        command = ("import", "orders", str(files.orders), "--map", files.mapping, "--json")
        with (
            psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as ledger,
            installation.running(*command, log=log) as importing,
        ):
            disturbed, done_before = time.time(), 0
            if disturbance.happen:
                done_before = eventually(
                    lambda: _past(ledger, disturbance.share), what="the middle of the import"
                )
                disturbed = time.time()
                disturbance.happen(installation.servers)
            if waits:
                ledger.execute("DELETE FROM disturbance_to_come")
            importing.wait(COMMAND_SECONDS)
            [began, ended, orders] = ledger.execute(
                """SELECT extract(epoch FROM created_at)::float,
                          extract(epoch FROM finished_at)::float,
                          (SELECT count(*) FROM sales_order)
                   FROM import_run WHERE target = 'orders'"""
            ).fetchall()[0]
            eventually(partial(_all_published, ledger), what="all events are published")
            events_missing = _missing(ledger, installation.servers)
        _audit(url)
        summary = printed(log)
    return Outcome(
        name=disturbance.name,
        rows=summary["rows"],
        ends={end: rows for end, rows in summary["ends"].items() if rows},
        orders=orders,
        events_missing=events_missing,
        done_before=done_before,
        seconds=ended - began,
        seconds_after=ended - disturbed if disturbance.happen else ended - began,
    )


def _have_it_wait(url: str, share: float) -> None:
    """Have an import that has done its share wait with the next order for what is to come."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            f"""
            CREATE TABLE disturbance_to_come AS SELECT;
            CREATE FUNCTION wait_for_it() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                WHILE EXISTS (SELECT FROM disturbance_to_come) AND EXISTS (
                    SELECT FROM import_run WHERE target = 'orders' AND rows_done > {share} * rows
                ) LOOP
                    PERFORM pg_sleep(0.02);
                END LOOP;
                RETURN NEW;
            END $$;
            CREATE TRIGGER wait_for_it BEFORE INSERT ON sales_order
                FOR EACH ROW EXECUTE FUNCTION wait_for_it();""".encode()
        )


def _past(ledger: psycopg.Connection[tuple[Any, ...]], share: float) -> int | None:
    """Return how many rows are done once it is this share of them, and not all."""
    found = ledger.execute(
        "SELECT rows, rows_done FROM import_run WHERE target = 'orders'"
    ).fetchall()
    if not found:
        return None
    [(rows, done)] = found
    if done == rows:
        raise AssertionError(f"all {done} rows were done before the broker could be disturbed")
    return int(done) if done > share * rows else None


def _all_published(ledger: psycopg.Connection[tuple[Any, ...]]) -> bool:
    question = "SELECT NOT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)"
    return bool(ledger.execute(question).fetchall()[0][0])


def _missing(ledger: psycopg.Connection[tuple[Any, ...]], servers: EmbeddedServers) -> int:
    happened = {event for (event,) in ledger.execute("SELECT event_id::text FROM outbox")}
    with redis.Redis.from_url(servers.valkey.url(), decode_responses=True) as client:
        entries = cast("list[tuple[str, dict[str, str]]]", client.xrange(STREAM))
    return len(happened - {fields["event_id"] for _, fields in entries})


def _audit(url: str) -> None:
    engine = create(url)
    try:
        with engine.connect() as connection:
            read_books(connection).audit()
    finally:
        engine.dispose()


def main() -> None:
    """Run it on the files of a folder, and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.chaos.flushall", description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    files = Files(
        batches=options.folder.resolve() / "online-retail-2010-12-batches.csv",
        orders=options.folder.resolve() / "online-retail-2010-12.csv.gz",
        mapping="order_id=InvoiceNo,sku=StockCode,quantity=Quantity",
    )
    outcomes = []
    for disturbance in (UNDISTURBED, FLUSHED, REPLACED):
        with tempfile.TemporaryDirectory(prefix="tallyman-flushall-") as folder:
            outcomes.append(run(files, disturbance, folder=Path(folder)))
    Console().print(_table(outcomes))
    if problems := [problem for outcome in outcomes for problem in outcome.problems()]:
        sys.exit("\n".join(problems))


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="An import while the broker forgets")
    for column in ("broker", "rows", *ENDS, "done before", "seconds", "seconds after"):
        table.add_column(column, justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            f"{outcome.rows:,}",
            *(f"{outcome.ends.get(end, 0):,}" for end in ENDS),
            f"{outcome.done_before:,}",
            f"{outcome.seconds:.1f}",
            f"{outcome.seconds_after:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
