"""Real servers for a session, a fresh database and an empty broker for each test."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from sqlalchemy import Connection, Engine
from uuid6 import uuid7

from adapters.embedded.servers import Addresses, EmbeddedServers
from adapters.postgres import schema
from adapters.postgres.engine import create
from tests.databases import drop

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
MOST_BETWEEN_SECONDS = 5.0
"""What counts at most between two looks: a machine that stood still gave nobody time."""

# How long an example takes, and how long it takes to make one, tells of the machine alone.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def servers() -> Iterator[Addresses]:
    """Run PostgreSQL and Valkey while the session (of one xdist worker) lasts."""
    with _own_folder() as folder:
        embedded = EmbeddedServers(folder)
        try:
            yield embedded.start()
        finally:
            embedded.remove_data()


@pytest.fixture(scope="session")
def template(servers: Addresses) -> str:
    """Migrate a database once; each test gets a copy of it."""
    name = f"template_{uuid7().hex}"
    with _administration(servers) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    engine = create(_url(servers, name))
    schema.upgrade(engine)
    engine.dispose()
    return name


@pytest.fixture
def database_url(servers: Addresses, template: str) -> Iterator[str]:
    """Give a fresh, migrated database."""
    name = f"test_{uuid7().hex}"
    with _administration(servers) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield _url(servers, name)
    with _administration(servers) as connection:
        drop(connection, name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Give an engine on the fresh database, for up to 64 connections at once."""
    engine = create(database_url, pool_size=64)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """Give a connection to the fresh database."""
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def broker_url(servers: Addresses) -> str:
    """Give an empty broker."""
    redis.Redis.from_url(servers.broker_url).flushall()
    return servers.broker_url


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Give the first folder that no session uses: what a killed one left there is adopted."""
    for number in count():
        folder = ROOT / ".tallyman" / "tests" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "session.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield folder
            return


def _administration(servers: Addresses) -> psycopg.Connection[tuple[object, ...]]:
    url = servers.database_url.replace("postgresql+psycopg://", "postgresql://")
    return psycopg.connect(url, autocommit=True)


def _url(servers: Addresses, database: str) -> str:
    return urlsplit(servers.database_url)._replace(path=f"/{database}").geturl()


def wait_until(condition: Callable[[], T], *, seconds: float = 60) -> T:
    """Wait until `condition` holds, and return what it gave; fail after `seconds`."""
    left, looked = seconds, monotonic()
    while not (given := condition()):
        assert left > 0, f"waited {seconds} s in vain"
        Event().wait(0.02)
        before, looked = looked, monotonic()
        left -= min(looked - before, MOST_BETWEEN_SECONDS)
    return given
