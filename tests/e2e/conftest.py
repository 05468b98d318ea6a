"""A Tallyman of real processes for each module, as pytest-celery's setup."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from celery import Celery
from pydantic import SecretStr
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestSetup, CeleryTestWorker
from sqlalchemy import Engine
from uuid6 import uuid7

from adapters.embedded.servers import Addresses
from adapters.postgres.operations import JobOperations
from adapters.postgres.queries import JobQueries
from adapters.postgres.unit_of_work import BeginPostgresWork
from tests.databases import drop
from tests.e2e.flower_site import NAME, PASSWORD, FlowerSite
from tests.e2e.pipeline import SABOTAGE, Database, Pipeline, order
from tests.e2e.processes import ProcessContainer, ServerContainer, eventually
from worker.addresses import Addresses as WorkerAddresses
from worker.app import build_app
from worker.producer import Producer
from worker.settings import Settings


class TallymanSetup(CeleryTestSetup):
    """The real app, told by the nodes where they are."""

    @classmethod
    def create_setup_app(
        cls,
        celery_setup_config: dict[str, str],
        celery_setup_app_name: str,  # noqa: ARG003  pytest-celery's signature
    ) -> Celery:
        database_url = celery_setup_config["result_backend"].removeprefix("ledger+")
        broker_url = celery_setup_config["broker_url"]
        return build_app(
            Settings(database_url=SecretStr(database_url), broker_url=SecretStr(broker_url)),
            WorkerAddresses(database_url=database_url, broker_url=broker_url, mirror_url=None),
        )

    def teardown(self) -> None:
        self.app.backend.ledger.close()
        self.app.close()


@pytest.fixture(scope="module")
def database_url(servers: Addresses, template: str) -> Iterator[str]:
    """Give a fresh database, in which orders can be broken, to a module."""
    name = f"e2e_{uuid7().hex}"
    with _connect(servers.database_url) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    url = urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()
    with _connect(url) as connection:
        connection.execute(SABOTAGE)
    yield url
    with _connect(servers.database_url) as connection:
        drop(connection, name)


@pytest.fixture(scope="module")
def broker_url(servers: Addresses) -> str:
    """Give a broker that is empty when a module begins."""
    with redis.Redis.from_url(servers.broker_url) as client:
        client.flushall()
    return servers.broker_url


@pytest.fixture(scope="module")
def settings() -> Mapping[str, object]:
    """Set what a module's processes run with; modules override it."""
    return {}


@pytest.fixture(scope="module")
def environment(
    database_url: str, broker_url: str, settings: Mapping[str, object], folder: Path
) -> Mapping[str, str]:
    """Give the environment of Tallyman's processes."""
    ours = {
        "database_url": database_url,
        "broker_url": broker_url,
        "concurrency": 2,
        # A failed job stays where tests can see it, until they say that it is due. How long is
        # drawn: of thirty years no test will meet the first minute.
        "retry_base_seconds": 1_000_000_000,
        "retry_cap_seconds": 1_000_000_000,
        "relay_poll_seconds": 0.2,
        **settings,
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TALLYMAN_", "CELERY_"))}
    return {
        **inherited,
        "PYTHONUNBUFFERED": "1",
        # A killed worker leaves its temporary files.
        "TMPDIR": str(folder),
        **{f"TALLYMAN_{name.upper()}": str(value) for name, value in ours.items()},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for logs, in which no `.env` lies."""
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def relay(folder: Path, environment: Mapping[str, str]) -> Iterator[ProcessContainer]:
    """Run a relay while a module lasts."""
    container = ProcessContainer(
        "relay",
        lambda _: [sys.executable, "-m", "worker.command.main", "relay"],
        folder=folder,
        environment=environment,
        answers=lambda _: "relay_started" in container.logs(),
    )
    container.start()
    yield container
    container.teardown()


@pytest.fixture(scope="module")
def worker(
    folder: Path, environment: Mapping[str, str], broker_url: str
) -> Iterator[ProcessContainer]:
    """Run a worker and its children while a module lasts."""
    name = "worker"
    with Celery(broker=broker_url) as stranger:

        def answers(container_id: str) -> bool:
            node = f"{name}@{container_id}"
            return bool(stranger.control.ping(destination=[node], timeout=1.0, limit=1))

        container = ProcessContainer(
            name,
            lambda container_id: [
                *(sys.executable, "-m", "celery", "-A", "worker", "worker"),
                *("--loglevel=INFO", "--without-gossip", "--without-mingle"),
                f"--hostname={name}@{container_id}",
            ],
            folder=folder,
            environment=environment,
            answers=answers,
        )
        container.start()
        yield container
        container.teardown()


@pytest.fixture(scope="module")
def flower_process(folder: Path, environment: Mapping[str, str]) -> Iterator[ProcessContainer]:
    """Run Flower, with a password and on a port that is free, while a module lasts."""
    container = ProcessContainer(
        "flower",
        lambda _: [sys.executable, "-m", "worker.command.main", "flower"],
        folder=folder,
        environment={
            "TALLYMAN_FLOWER_BASIC_AUTH": f"{NAME}:{PASSWORD}",
            **environment,
            "TALLYMAN_FLOWER_PORT": "0",
        },
        answers=lambda _: "flower_started" in container.logs(),
    )
    container.start()
    assert container.ready()
    yield container
    container.teardown()


@pytest.fixture
def flower(flower_process: ProcessContainer, pipeline: Pipeline) -> FlowerSite:
    """Give Flower, once it hears of jobs."""
    site = FlowerSite(logs=flower_process.logs)
    # What happened before it listened is not told again: send orders until it shows one.
    sent: list[str] = []

    def listens() -> bool:
        sent.append(f"heard-{uuid7()}")
        pipeline.by_message(sent[-1], order(sent[-1], "unheard-of"))
        return any(map(site.task, sent))

    eventually(listens, what="Flower hears of jobs")
    return site


@pytest.fixture
def celery_broker(broker_url: str) -> CeleryTestBroker:
    """Put Valkey in the place of pytest-celery's broker container."""
    return CeleryTestBroker(ServerContainer("valkey", broker_url))


@pytest.fixture
def celery_backend(database_url: str) -> CeleryTestBackend:
    """Put the ledger in the place of pytest-celery's backend container."""
    return CeleryTestBackend(ServerContainer("ledger", f"ledger+{database_url}"))


@pytest.fixture
def celery_worker(worker: ProcessContainer) -> CeleryTestWorker:
    """Put a worker's processes in the place of pytest-celery's worker container."""
    return CeleryTestWorker(worker, None)


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    """Have pytest-celery use the real app."""
    return TallymanSetup


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give a connection that commits each statement."""
    with _connect(database_url) as connection:
        yield connection


@pytest.fixture
def pipeline(
    celery_setup: CeleryTestSetup, relay: ProcessContainer, engine: Engine, database: Database
) -> Pipeline:
    """Give a Tallyman whose processes all answer."""
    assert celery_setup.ready()
    assert relay.ready()
    queries = JobQueries(engine)
    return Pipeline(
        app=celery_setup.app,
        producer=Producer(begin_work=BeginPostgresWork(engine=engine), queries=queries),
        queries=queries,
        operations=JobOperations(engine),
        database=database,
    )


def _connect(url: str) -> Database:
    return psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True)
