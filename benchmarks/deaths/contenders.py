"""Who is killed: how each takes jobs, works, and what effects it has left in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import psycopg
from celery import Celery

from worker.producer import Producer

CONCURRENCY = 4
VISIBILITY_SECONDS = 30
"""After this long a message of a dead worker is delivered again; the same for all."""
PRODUCTS = 100

SCHEMA = """
CREATE TABLE textbook_stock (sku text PRIMARY KEY, allocated integer NOT NULL DEFAULT 0);
CREATE TABLE textbook_allocation (order_id text NOT NULL, sku text NOT NULL, quantity integer);
INSERT INTO textbook_stock (sku) SELECT 'SKU-' || n FROM generate_series(0, %(products)s - 1) AS n;
INSERT INTO product (sku) SELECT 'SKU-' || n FROM generate_series(0, %(products)s - 1) AS n;
INSERT INTO batch (reference, sku, purchased, fingerprint)
    SELECT 'B-' || n, 'SKU-' || n, 100000000, '' FROM generate_series(0, %(products)s - 1) AS n;
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.005);
    RETURN NEW;
END $$;
CREATE TRIGGER take_time BEFORE INSERT ON textbook_allocation
    FOR EACH ROW EXECUTE FUNCTION take_time();
CREATE TRIGGER take_time BEFORE INSERT ON sales_order
    FOR EACH ROW EXECUTE FUNCTION take_time();
"""
"""Stock for all of them; an order takes all of them five milliseconds of the database's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Servers that run, with the schema of Tallyman and what the textbook needs."""

    database_url: str
    broker_url: str

    @property
    def plain_url(self) -> str:
        return self.database_url.replace("postgresql+psycopg://", "postgresql://")


class Contender(Protocol):
    """One that is killed."""

    name: ClassVar[str]
    effects: ClassVar[str]
    """Question for the number of effects by order id."""

    def environment(self) -> dict[str, str]:
        """Return what its processes are told."""

    def worker(self) -> Sequence[str]:
        """Return the module, and its arguments, that is killed again and again."""

    def attendants(self) -> Sequence[Sequence[str]]:
        """Return what runs beside it and is left alone."""

    def send(self, numbers: range) -> None:
        """Hand over an order for each number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Textbook:
    """Stock Celery."""

    name: ClassVar[str] = "stock Celery"
    effects: ClassVar[str] = "SELECT order_id, count(*) FROM textbook_allocation GROUP BY order_id"
    place: Place

    def environment(self) -> dict[str, str]:
        return {
            "TEXTBOOK_DATABASE_URL": self.place.plain_url,
            "TEXTBOOK_BROKER_URL": self.place.broker_url,
            "TEXTBOOK_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_SECONDS),
        }

    def worker(self) -> Sequence[str]:
        return (
            *("celery", "-A", "benchmarks.deaths.textbook", "worker"),
            *(f"--concurrency={CONCURRENCY}", "--loglevel=INFO"),
            *("--without-gossip", "--without-mingle"),
        )

    def attendants(self) -> Sequence[Sequence[str]]:
        return ()

    def send(self, numbers: range) -> None:
        _send(
            self.place.broker_url,
            "textbook.allocate_order",
            queue="textbook",
            payloads={
                order_id(number): {
                    "order_id": order_id(number),
                    "sku": f"SKU-{number % PRODUCTS}",
                    "quantity": 1,
                }
                for number in numbers
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallyman:
    """What both doors have in common."""

    # A movement of stock is written for each increment, and nothing forbids a second one.
    effects: ClassVar[str] = (
        "SELECT order_id, count(*) FROM stock_movement"
        " WHERE counter = 'allocated' GROUP BY order_id"
    )
    place: Place

    def environment(self) -> dict[str, str]:
        return {
            "TALLYMAN_DATABASE_URL": self.place.database_url,
            "TALLYMAN_BROKER_URL": self.place.broker_url,
            "TALLYMAN_CONCURRENCY": str(CONCURRENCY),
            "TALLYMAN_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_SECONDS),
            "TALLYMAN_SOFT_TIME_LIMIT_SECONDS": "20",
            "TALLYMAN_TIME_LIMIT_SECONDS": "25",
        }

    def worker(self) -> Sequence[str]:
        return ("worker.command.main", "worker")

    def attendants(self) -> Sequence[Sequence[str]]:
        return (("worker.command.main", "relay"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorA(Tallyman):
    """Orders that come as Celery messages."""

    name: ClassVar[str] = "Tallyman, door (a)"

    def send(self, numbers: range) -> None:
        _send(self.place.broker_url, KIND, queue="allocation", payloads=_orders(numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorB(Tallyman):
    """Orders that are submitted."""

    name: ClassVar[str] = "Tallyman, door (b)"

    def send(self, numbers: range) -> None:
        with Producer.at(self.place.database_url) as producer:
            producer.submit_many(
                producer.submission(KIND, payload, job_id=job_id)
                for job_id, payload in _orders(numbers).items()
            )


KIND = "allocation.allocate_order"
CONTENDERS: tuple[type[Textbook] | type[DoorA] | type[DoorB], ...] = (Textbook, DoorA, DoorB)


def furnish(place: Place) -> None:
    """Put into the database what the contenders work on."""
    with psycopg.connect(place.plain_url, autocommit=True) as connection:
        connection.execute(SCHEMA.replace("%(products)s", str(PRODUCTS)).encode())


def order_id(number: int) -> str:
    """Name the order, and its job."""
    return f"order-{number}"


def _orders(numbers: range) -> dict[str, Mapping[str, object]]:
    return {
        order_id(number): {
            "order_id": order_id(number),
            "lines": [{"sku": f"SKU-{number % PRODUCTS}", "quantity": 1}],
        }
        for number in numbers
    }


def _send(
    broker_url: str, task: str, *, queue: str, payloads: Mapping[str, Mapping[str, object]]
) -> None:
    with (
        Celery(broker=broker_url, set_as_current=False) as client,
        client.producer_or_acquire() as producer,
    ):
        for task_id, payload in payloads.items():
            client.send_task(
                task,
                kwargs=dict(payload),
                task_id=task_id,
                queue=queue,
                producer=producer,
                ignore_result=True,
            )
