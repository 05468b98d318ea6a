"""Where contenders perform: servers, a fresh database with stock, and a judge of the result."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from adapters.embedded.servers import Addresses
from benchmarks.orders import Load
from benchmarks.stack import database, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One run: jobs a second, from when the first may start to when the last is committed."""

    jobs: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The servers that all contenders use, one after the other, and where their logs go."""

    servers: Addresses
    logs: Path
    processes: int
    variables: Mapping[str, str] = field(default_factory=dict)
    """Set for Tallyman's processes."""
    is_followed: bool = False
    """Each job of door (b) comes from a trace of its own that somebody follows."""

    def empty_broker(self) -> redis.Redis:
        """Forget what the contender before has left."""
        broker = redis.Redis.from_url(self.servers.broker_url)
        broker.flushall()
        return broker

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @contextmanager
    def database(self, load: Load) -> Iterator[str]:
        """Give the URL of a fresh database with the load's stock in it."""
        with database(self.servers.database_url) as url:
            with connected(url) as connection:
                fill(connection, load)
            yield url

    def environment(self, url: str) -> dict[str, str]:
        """Return what Tallyman's processes are told; the servers' own settings stay as they are."""
        return {
            "TALLYMAN_DATABASE_URL": url,
            "TALLYMAN_BROKER_URL": self.servers.broker_url,
            "TALLYMAN_LOG_LEVEL": "WARNING",
            "TALLYMAN_CONCURRENCY": str(self.processes),
            **self.variables,
        }


Run = Callable[[Stage, Load], Timing]


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[tuple[int]]]:
    """Connect; each statement commits."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        yield connection


def fill(connection: psycopg.Connection[tuple[int]], load: Load) -> None:
    """Put the load's products and batches on record."""
    connection.execute(
        "INSERT INTO product (sku) SELECT 'SKU-' || n FROM generate_series(0, %s) AS n",
        [load.products - 1],
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO batch (reference, sku, purchased, fingerprint)"
            " VALUES (%(reference)s, %(sku)s, %(quantity)s, '')",
            load.batches(),
        )
    connection.execute("ANALYZE")


def count(connection: psycopg.Connection[tuple[int]], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def check(url: str, load: Load) -> None:
    """Refuse a measurement of a wrong result: all effects, none twice, no unit made or lost."""
    size = load.size()
    expected = {
        "SELECT count(*) FROM sales_order": size.orders,
        "SELECT count(*) FROM order_line WHERE state = 'allocated'": size.lines,
        "SELECT count(*) FROM stock_movement": size.lines,
        "SELECT count(*) FROM outbox": size.orders,
        "SELECT coalesce(sum(quantity), 0) FROM allocation": size.units,
        "SELECT coalesce(sum(allocated), 0) FROM batch": size.units,
        "SELECT coalesce(sum(after - before), 0) FROM stock_movement": size.units,
    }
    with connected(url) as connection:
        for query, wanted in expected.items():
            found = count(connection, query)
            assert found == wanted, f"{query}: {found:,}, not {wanted:,}"
