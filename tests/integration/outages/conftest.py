"""A Tallyman on servers of its own, which its tests stop, freeze and fill."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from celery import Celery

from adapters.embedded.detached import DetachedServer
from adapters.embedded.servers import EmbeddedServers
from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.conftest import wait_until
from tests.e2e.pipeline import KIND, Database, order
from tests.integration.processes.conftest import Installation, Running
from worker.producer import Producer

PATIENCE = 60.0
SKU = "CHAIR"


@dataclass(frozen=True, kw_only=True)
class Site:
    """An installation, its servers and its two doors."""

    servers: EmbeddedServers
    installation: Installation
    producer: Producer
    app: Celery

    @property
    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.servers.valkey.url(), socket_timeout=5)

    def start_worker(self) -> Running:
        worker = self.installation.start("worker")
        worker.wait_for(" ready.")
        return worker

    def start_relay(self) -> Running:
        relay = self.installation.start("relay")
        relay.wait_for("relay_started")
        return relay

    def has_stock(self, quantity: int = 100_000) -> None:
        self.producer.submit(
            "allocation.create_batch",
            {"reference": "b", "sku": SKU, "quantity": quantity},
            job_id="stock",
        )
        self.wait_for_all(["stock"])

    def send(self, job_id: str) -> str:
        """Send an order through door (a)."""
        self.app.send_task(
            KIND, kwargs=order(job_id, SKU), task_id=job_id, queue="allocation", retry=False
        )
        return job_id

    def submit(self, job_id: str) -> str:
        """Submit an order through door (b)."""
        return self.producer.submit(KIND, order(job_id, SKU), job_id=job_id).job_id

    def submit_many(self, job_ids: Sequence[str]) -> list[str]:
        self.producer.submit_many(
            self.producer.submission(KIND, order(job_id, SKU), job_id=job_id) for job_id in job_ids
        )
        return list(job_ids)

    def is_known(self, job_id: str) -> bool:
        """Tell whether the ledger has a job."""
        return bool(self.one("SELECT count(*) FROM job WHERE id = %s", job_id))

    def wait_for_all(self, job_ids: Sequence[str]) -> None:
        """Wait until these have succeeded."""
        wait_until(partial(self.have_succeeded, job_ids), seconds=PATIENCE)

    def have_succeeded(self, job_ids: Sequence[str]) -> bool:
        succeeded = "SELECT count(*) FROM job WHERE id = ANY(%s) AND state = 'succeeded'"
        return bool(self.one(succeeded, list(job_ids)) == len(job_ids))

    def wasted(self) -> list[tuple[object, ...]]:
        """Return jobs that did not succeed at their first attempt, and what failed."""
        others = """
            SELECT id, door, state, attempts, dispatches FROM job
            WHERE state <> 'succeeded' OR attempts <> 1"""
        with self.connected() as connection:
            return connection.execute(others).fetchall() + self.failures()

    def failures(self) -> list[tuple[object, ...]]:
        """Return the attempts that are on record as failed."""
        with self.connected() as connection:
            return connection.execute(
                "SELECT job_id, attempt, error ->> 'type', error ->> 'message' FROM job_failure"
            ).fetchall()

    @contextmanager
    def connected(self, *, is_super: bool = False) -> Iterator[Database]:
        """Connect anew, for the server may be another by now."""
        postgres = self.servers.postgres
        url = postgres.superuser_url("tallyman") if is_super else postgres.url()
        with psycopg.connect(
            url.replace("postgresql+psycopg", "postgresql"), autocommit=True
        ) as connection:
            yield connection

    def one(self, query: str, *parameters: object) -> Any:  # noqa: ANN401  whatever it asks for
        """Return the only value of a query."""
        with self.connected() as connection:
            [[value]] = connection.execute(query, parameters or None).fetchall()
        return value

    def execute(self, statements: str, *, is_super: bool = False) -> None:
        with self.connected(is_super=is_super) as connection:
            for statement in statements.split(";"):
                if statement.strip():
                    connection.execute(statement)

    def kill_valkey(self) -> None:
        """Kill it once all that it has answered is on disk, so that the kill takes nothing."""
        with redis.Redis.from_url(self.servers.valkey.url()) as client:
            client.execute_command("WAITAOF", 1, 0, 0)
        self.servers.valkey.kill()

    def waiting(self) -> int:
        """Count the messages that wait in the broker.

        A worker that waits for one has taken none, and one whose intake is closed takes none.
        """
        with self.redis as client:
            return int(client.llen("allocation"))


@contextmanager
def frozen(server: DetachedServer) -> Iterator[None]:
    """Have a server hold still: its connections stay open and nobody answers."""
    assert server.pid is not None
    main = psutil.Process(server.pid)
    # Before its children are listed, so that it has no other one meanwhile.
    main.suspend()
    wait_until(lambda: main.status() == psutil.STATUS_STOPPED)
    processes = [main, *main.children(recursive=True)]
    for process in processes:
        # A session may end by itself.
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Run servers that a module may harm."""
    servers = EmbeddedServers(tmp_path_factory.mktemp("servers"))
    try:
        servers.start()
        yield servers
    finally:
        servers.remove_data()


@pytest.fixture
def site(own_servers: EmbeddedServers, tmp_path: Path) -> Iterator[Site]:
    """Give an empty, migrated database, an empty broker, and no process yet."""
    addresses = own_servers.start()
    installation = Installation(
        folder=tmp_path,
        variables={
            "TALLYMAN_DATABASE_URL": addresses.database_url,
            "TALLYMAN_BROKER_URL": addresses.broker_url,
            "TALLYMAN_RELAY_POLL_SECONDS": "0.2",
        },
    )
    app = Celery(broker=addresses.broker_url, set_as_current=False)
    with app, Producer.at(addresses.database_url) as producer:
        site = Site(servers=own_servers, installation=installation, producer=producer, app=app)
        _empty(site)
        yield site
        installation.remove()


def _empty(site: Site) -> None:
    """Make the database and the broker as on the first day."""
    # What a killed process has left at work must not meet with this.
    site.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'",
        is_super=True,
    )
    site.execute(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION tallyman", is_super=True
    )
    engine = create(site.servers.postgres.url())
    schema.upgrade(engine)
    engine.dispose()
    with site.redis as client:
        client.flushall()
