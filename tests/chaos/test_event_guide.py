"""The consumer of the guide, as it stands there, while everything around it dies."""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from sqlalchemy import Engine
from uuid6 import uuid7

from adapters.embedded.servers import Addresses
from adapters.event_stream import EPOCH_KEY, STREAM
from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.jobs.model import Submission
from domain.kinds import KINDS
from tests.chaos.programs import Programs
from tests.databases import drop
from tests.e2e.how_to import snippets
from tests.e2e.pipeline import KIND, Database, order
from tests.e2e.processes import ProcessContainer, eventually
from tests.jobs import build_executor

GROUP = "shop-window"
SKUS = [f"sku-{number}" for number in range(7)]
STOCK = 100_000
HELD = 150
"""Events that a consumer comes to before it is killed: in the middle of what it reads at once."""
SHORTEST = 1_000
"""Events that a stream keeps at the least, about."""


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """One process of the guide's."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def complaint(self) -> str:
        """Wait until it ends by itself; return what it says."""
        eventually(lambda: self.process.poll() is not None, what="it ends by itself")
        assert self.process.returncode == 1
        return self.printed.splitlines()[-1]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The system that consumes: its database, and its consumers."""

    code: str
    database_url: str
    broker_url: str
    folder: Path
    database: Database
    consumers: list[Consumer] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def consume(self) -> Consumer:
        """Start one consumer more."""
        script = self.folder / "consume.py"
        script.write_text(self.code)
        log = self.folder / f"consumer-{next(self.numbers)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, str(script)],
                cwd=self.folder,
                env={
                    "PATH": os.environ["PATH"],
                    "TALLYMAN_BROKER_URL": self.broker_url,
                    "SHOP_DATABASE_URL": self.database_url,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        consumer = Consumer(process=process, log=log)
        self.consumers.append(consumer)
        return consumer

    def applied(self) -> list[str]:
        """Return the ids of the events that were applied, in order."""
        [[inbox]] = self.database.execute("SELECT to_regclass('inbox')").fetchall()
        if inbox is None:
            return []
        found = self.database.execute("SELECT event_id::text FROM inbox ORDER BY position")
        return [event_id for (event_id,) in found.fetchall()]

    @contextmanager
    def held_before(self, event_id: str) -> Iterator[None]:
        """Have consumers come as far as an event, and wait there while the context lasts."""
        with psycopg.connect(self.database_url) as holding:
            # Whoever notes the same id waits to hear whether this one stays.
            holding.execute("INSERT INTO inbox (event_id, entry_id) VALUES (%s, '')", [event_id])
            yield
            holding.rollback()

    def promised(self) -> Mapping[str, int]:
        return dict(self.database.execute("SELECT sku, quantity FROM promised").fetchall())


@dataclass(frozen=True, kw_only=True)
class Tallyman:
    """The system whose events are consumed; its jobs are run right here."""

    engine: Engine
    valkey: redis.Redis
    programs: Programs
    numbers: Iterator[int] = field(default_factory=count)

    def has_stock(self, *skus: str) -> None:
        self._run(
            "allocation.create_batch",
            [{"reference": f"batch-{sku}", "sku": sku, "quantity": STOCK} for sku in skus],
        )

    def takes_orders(self, orders: int) -> None:
        """Place orders of a unit of one product, an event each."""
        numbers = [next(self.numbers) for _ in range(orders)]
        self._run(KIND, [order(f"order-{number}", SKUS[number % len(SKUS)]) for number in numbers])

    def places(self, order_id: str, sku: str, quantity: int) -> None:
        self._run(KIND, [order(order_id, sku, quantity)])

    def events(self) -> list[tuple[str, str]]:
        """Return id and aggregate of all events, in order."""
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT event_id::text, aggregate FROM outbox ORDER BY id"
            )
            return [(row.event_id, row.aggregate) for row in rows]

    def allocated(self) -> Mapping[str, int]:
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT sku, sum(allocated) AS units FROM batch GROUP BY sku"
            )
            return {row.sku: int(row.units) for row in rows if row.units}

    def has_published_all(self) -> bool:
        with self.engine.connect() as connection:
            return not connection.exec_driver_sql(
                "SELECT count(*) FROM outbox WHERE published_at IS NULL"
            ).scalar_one()

    def sent(self) -> list[str]:
        """Return the ids of the events in the stream, as often as they are there."""
        found = cast("list[tuple[str, dict[str, str]]]", self.valkey.xrange(STREAM))
        return [fields["event_id"] for _, fields in found]

    def in_hand(self) -> int:
        """Return how many entries consumers have read and not acknowledged."""
        return int(self.valkey.xpending(STREAM, GROUP)["pending"])

    def lag(self) -> int:
        """Return how many entries the consumers have not read."""
        [group] = self.valkey.xinfo_groups(STREAM)
        return int(group["lag"])

    def _run(self, kind: str, payloads: Sequence[Mapping[str, object]]) -> None:
        submissions = [
            Submission(job_id=str(uuid7()), kind=kind, payload=payload) for payload in payloads
        ]
        with BeginPostgresWork(engine=self.engine)() as work:
            # In a queue of no relay's: while one holds their rows, a batch leaves them out.
            work.jobs.accept([(each, "by hand", 5) for each in submissions])
            work.commit()
        executor = build_executor(self.engine, KINDS)
        for start in range(0, len(submissions), 200):
            ids = [each.job_id for each in submissions[start : start + 200]]
            assert len(executor.run_dispatched(kind, ids, redelivered=False)) == len(ids)


@pytest.fixture
def tallyman(
    engine: Engine, database_url: str, broker_url: str, tmp_path: Path
) -> Iterator[Tallyman]:
    """Give a system with stock, whose relay is yet to be started."""
    with (
        redis.Redis.from_url(broker_url, decode_responses=True) as valkey,
        Programs(
            folder=tmp_path,
            database_url=database_url,
            broker_url=broker_url,
            settings={"event_stream_length": SHORTEST},
        ) as programs,
    ):
        yield Tallyman(engine=engine, valkey=valkey, programs=programs)


@pytest.fixture
def shop(servers: Addresses, broker_url: str, tmp_path: Path) -> Iterator[Shop]:
    """Give a system that consumes, with an empty database."""
    [(code, _)] = snippets("consume-events.md", "python")
    plain = servers.database_url.replace("postgresql+psycopg://", "postgresql://")
    name = f"shop_{uuid7().hex}"
    url = urlsplit(plain)._replace(path=f"/{name}").geturl()
    with psycopg.connect(plain, autocommit=True) as administration:
        administration.execute(f'CREATE DATABASE "{name}"')
        # A commit for each of thousands of events waits for no disk: no server dies here.
        administration.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        with psycopg.connect(url, autocommit=True) as database:
            shop = Shop(
                code=code,
                database_url=url,
                broker_url=broker_url,
                folder=tmp_path,
                database=database,
            )
            yield shop
            for consumer in shop.consumers:
                consumer.kill()
        drop(administration, name)


def has_ended(program: ProcessContainer) -> bool:
    return program.status == "exited"


def by_aggregate(events: Sequence[str], aggregates: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for event_id in events:
        found[aggregates[event_id]].append(event_id)
    return found


def knows_all(shop: Shop, tallyman: Tallyman) -> None:
    """Wait until every event is applied: each once, in order, with its effect."""
    events = tallyman.events()
    eventually(
        lambda: len(shop.applied()) >= len(events),
        what=f"{len(events)} events are applied, now {len(shop.applied())}:"
        f" {[consumer.printed[-300:] for consumer in shop.consumers]}",
    )
    applied, aggregates = shop.applied(), dict(events)
    assert sorted(applied) == sorted(aggregates)
    assert by_aggregate(applied, aggregates) == by_aggregate(list(aggregates), aggregates)
    assert shop.promised() == tallyman.allocated()


class TestTheConsumerOfTheGuide:
    def test_prints_what_the_guide_says(self, shop: Shop, tallyman: Tallyman) -> None:
        [(_, prints)] = snippets("consume-events.md", "python")
        tallyman.has_stock("LAMP")
        tallyman.places("E-1", "LAMP", 2)
        tallyman.programs.start("relay")

        consumer = shop.consume()

        eventually(lambda: len(consumer.printed) >= len(prints), what=consumer.printed)
        assert consumer.printed == prints
        assert shop.promised() == {"LAMP": 2}

    def test_applies_once_what_a_killed_relay_publishes_twice(
        self, shop: Shop, tallyman: Tallyman
    ) -> None:
        tallyman.has_stock(*SKUS)
        tallyman.takes_orders(150)
        consumer = shop.consume()
        for _ in range(2):
            dying = tallyman.programs.launch("relay", module="tests.chaos.mortal_relay")
            eventually(partial(has_ended, dying), what="it died in the middle")
        assert not tallyman.has_published_all()
        tallyman.programs.start("relay")
        eventually(tallyman.has_published_all, what="all is published")

        knows_all(shop, tallyman)

        sent = tallyman.sent()
        assert len(sent) == 3 * len(set(sent))
        eventually(lambda: not tallyman.lag(), what="the last duplicate is read")
        knows_all(shop, tallyman)
        assert consumer.process.poll() is None

    def test_hands_over_to_the_one_that_stands_by_when_it_is_killed(
        self, shop: Shop, tallyman: Tallyman
    ) -> None:
        tallyman.has_stock(*SKUS)
        first = shop.consume()
        eventually(lambda: "consuming" in first.printed, what="the first consumes")
        second = shop.consume()
        tallyman.takes_orders(400)
        known = [event_id for event_id, _ in tallyman.events()[:HELD]]
        held, _ = tallyman.events()[HELD]
        with shop.held_before(held):
            tallyman.programs.start("relay")
            eventually(lambda: len(shop.applied()) == HELD, what="it is in the middle")
            eventually(tallyman.has_published_all, what="all is published")

            first.kill()

            assert shop.applied() == known
            # The rest of what it read together with the last of these.
            assert tallyman.in_hand() > 1
        knows_all(shop, tallyman)
        assert "consuming" in second.printed
        eventually(lambda: not tallyman.in_hand(), what="nothing is left in the hands of the dead")

    def test_goes_on_when_redis_was_emptied(self, shop: Shop, tallyman: Tallyman) -> None:
        tallyman.has_stock(*SKUS)
        tallyman.programs.start("relay")
        shop.consume()
        tallyman.takes_orders(20)
        knows_all(shop, tallyman)
        tallyman.takes_orders(100)
        eventually(tallyman.has_published_all, what="all is published")

        tallyman.valkey.flushall()
        tallyman.takes_orders(50)

        knows_all(shop, tallyman)

    def test_stops_before_a_gap_until_the_stream_is_filled_again(
        self, shop: Shop, tallyman: Tallyman
    ) -> None:
        tallyman.has_stock(*SKUS)
        relay = tallyman.programs.start("relay")
        consumer = shop.consume()
        tallyman.takes_orders(20)
        knows_all(shop, tallyman)
        known = shop.applied()
        consumer.kill()
        tallyman.takes_orders(2 * SHORTEST)
        eventually(tallyman.has_published_all, what="all is published")

        for _ in range(2):
            assert "were trimmed unread" in shop.consume().complaint()
        assert shop.applied() == known

        relay.kill()
        tallyman.programs.settings = {"event_stream_length": 100 * SHORTEST}
        tallyman.valkey.delete(STREAM, EPOCH_KEY)
        tallyman.programs.start("relay")
        shop.consume()
        knows_all(shop, tallyman)
